// What happened and why, and what each fault cost.
import { make, say, set } from "./page.js";

const LOG_MAX = 300;

const clock = (ms) => new Date(ms).toISOString();

export function drawLog(events) {
  const list = document.getElementById("log");
  for (const event of events) {
    const time = make("time", "", clock(event.at_ms).slice(11, 23));
    time.dateTime = clock(event.at_ms);
    const line = make("li", event.node === "you" ? "you" : "", time, make("b", "", event.node), " ", event.text);
    line.dataset.seq = event.seq;
    list.prepend(line);
  }
  while (list.childElementCount > LOG_MAX) list.lastElementChild.remove();
}

const count = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

// A fault's record as sentences; what is not known yet is left out.
export function tellFault(fault) {
  const said = [];
  if (fault.noticed) said.push(`${fault.noticed.by} noticed after ${fault.noticed.after_ms} ms.`);
  if (fault.replaced) said.push(`${fault.replaced.by} was primary in its place after ${fault.replaced.after_ms} ms.`);
  if (fault.healed_after_ms !== null) said.push(`It served again after ${fault.healed_after_ms} ms.`);
  const lost = fault.lost === null ? "" : `, ${fault.lost === 0 ? "no" : fault.lost} acknowledged write${fault.lost === 1 ? "" : "s"} lost`;
  said.push(`${fault.failed === 0 ? "No request" : count(fault.failed, "request")} failed meanwhile${lost}.`);
  return said.join(" ");
}

export function drawFaults(faults) {
  const list = document.getElementById("faults");
  document.getElementById("faults-none").hidden = faults.length > 0;
  const known = new Map([...list.children].map((item) => [item.dataset.fault, item]));
  // Oldest first, each put before the one that is there.
  for (const fault of [...faults].reverse()) {
    const id = `${fault.number}`;
    let item = known.get(id);
    known.delete(id);
    if (!item) {
      const time = make("time", "", clock(fault.at_ms).slice(11, 19));
      time.dateTime = clock(fault.at_ms);
      item = make("li", "", time, make("b", "", fault.node), ` ${fault.what} `, make("span", "state"), make("p"));
      item.dataset.fault = id;
      list.prepend(item);
    }
    const healed = fault.healed_after_ms !== null;
    const state = healed ? "healed" : fault.open ? "not healed yet" : "left";
    item.dataset.state = healed ? "healed" : "open";
    set(item.querySelector(".state"), state);
    const told = tellFault(fault);
    if (item.dataset.open === "true" && !fault.open) say(`${fault.node} ${fault.what}. ${told}`);
    item.dataset.open = fault.open;
    set(item.querySelector("p"), told);
  }
  for (const item of known.values()) item.remove();
}
