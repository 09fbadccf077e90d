// The few words that the parts of the page share.

// Changes an element's text only when it differs, so that nothing is drawn or read out for nothing.
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Makes an element with a class and what is in it.
export function make(tag, className, ...inside) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...inside);
  return element;
}

// For those who hear the page: what has just happened.
export function say(text) {
  set(document.getElementById("announce"), text);
}

// A button that gives an order: it is busy until the answer is here.
export function orderButton(text, label, act) {
  const button = make("button", "", text);
  button.type = "button";
  button.dataset.order = "";
  button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    await act();
    button.removeAttribute("aria-busy");
  });
  return button;
}
