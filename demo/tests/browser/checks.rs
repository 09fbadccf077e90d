//! Can everybody use the page: does it fit, has everything a name, can every text be read?
//!
//! Names and roles are those that Chromium itself computes for screen readers. Contrast is measured by
//! the formula of WCAG 2.2 (success criterion 1.4.3) on computed colours.

use serde_json::{Value, json};

use crate::chromium::Page;

/// Roles of things that one operates; each must have a name.
const OPERATED: [&str; 9] = [
    "button",
    "link",
    "textbox",
    "combobox",
    "checkbox",
    "spinbutton",
    "radio",
    "slider",
    "image",
];

/// Finds texts that are too faint for their ground: 4.5 to 1, or 3 to 1 for large ones. What is
/// disabled may be faint, as WCAG allows. The ground is the nearest one that hides what is under it.
const FAINT: &str = r"(() => {
  const brush = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  // Whatever a colour is written as, it is four bytes when it is painted.
  const channels = (color) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = color;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, alpha] = channels(getComputedStyle(one).backgroundColor);
      if (alpha === 255) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text; text = texts.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest('noscript, script, .unseen')) continue;
    if (element.closest(':disabled, [inert], [aria-disabled=true]')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(channels(style.color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)}: ${text.data.trim()}`);
  }
  return faint;
})()";

/// Finds what is too small to hit: WCAG 2.2 (2.5.8) wants 24 by 24 pixels, links in a sentence apart.
const SMALL: &str = r"[...document.querySelectorAll('button, select, input:not([type=checkbox])')]
  .filter((one) => one.checkVisibility())
  .map((one) => [one, one.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24)
  .map(([one, box]) => `${one.outerHTML}: ${box.width} by ${box.height}`)";

/// Finds operable things that lie on one another.
const OVERLAPPING: &str = r"(() => {
  const all = [...document.querySelectorAll('button, select, input, a')]
    .filter((one) => one.checkVisibility() && !one.closest('#lost'))
    .map((one) => [one, one.getBoundingClientRect()]);
  return all.flatMap(([one, a], i) => all.slice(i + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => `${one.outerHTML} and ${other.outerHTML}`));
})()";

/// Panics unless the page, as it is shown now, can be used by everybody.
pub(crate) fn assert_usable(page: &Page<'_>, shown: &str) {
    let none = json!([]);
    for (wish, script) in [
        ("texts can be read", FAINT),
        ("things are large enough to hit", SMALL),
        ("nothing lies on something else", OVERLAPPING),
    ] {
        assert_eq!(page.eval(script), none, "{shown}: {wish}");
    }
    assert_eq!(
        page.eval("document.documentElement.scrollWidth <= document.documentElement.clientWidth"),
        true,
        "{shown}: no scrolling sideways"
    );
    assert_eq!(
        page.eval("document.documentElement.lang.length > 0 && document.title.length > 0"),
        true,
        "{shown}: the page has a language and a title"
    );
    assert_eq!(
        nameless(page),
        Vec::<Value>::new(),
        "{shown}: all has a name"
    );
}

/// What one operates, or what is a picture, and has no name for those who hear the page.
fn nameless(page: &Page<'_>) -> Vec<Value> {
    let mut tree = page.ask("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array_mut().unwrap();
    let operated = nodes.iter().filter(|node| {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        node["ignored"] == false && OPERATED.contains(&role)
    });
    assert!(operated.clone().count() > 0, "there is nothing to operate");
    operated
        .filter(|node| {
            node["name"]["value"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        })
        .cloned()
        .collect()
}
