// The processes by tier, from the public address down to the workers, with what one can do to each.
import { make, orderButton, say, set } from "./page.js";

const RATE_OVER_MS = 2000;
const SCALE_MAX = { web: 8, worker: 4 };
const ACTIONS = { kill: "Kill", start: "Start", pause: "Pause", resume: "Resume", restart: "Restart", drain: "Drain" };

// One tier after the other, in the order of a request. Shards are tiers of their own.
function tiersOf(nodes) {
  const shards = [...new Set(nodes.filter((node) => node.role === "store").map((node) => node.shard))];
  return [
    { id: "front", title: "Users and the one public address", roles: ["load", "edge"] },
    { id: "web", title: "Web servers, without state", roles: ["web"], scale: "web" },
    ...shards.map((shard) => ({ id: `shard-${shard}`, title: `Database shard ${shard}`, roles: ["store"], shard })),
    { id: "jobs", title: "Durable queue and photo workers", roles: ["queue", "worker"], scale: "worker" },
    { id: "coord", title: "Failover coordinator", roles: ["coord"] },
  ];
}

// How much a counter rises a second, over the last two seconds.
const counts = new Map();
function rate(key, at, count) {
  const seen = counts.get(key) ?? [];
  if (seen.length && count < seen.at(-1).count) seen.length = 0; // A new life starts at nothing.
  seen.push({ at, count });
  while (seen.length > 2 && seen[1].at <= at - RATE_OVER_MS) seen.shift();
  counts.set(key, seen);
  const past = at - seen[0].at;
  return past ? Math.round(((count - seen[0].count) * 1000) / past) : 0;
}

function flowInto(tier, nodes) {
  const status = (role) => nodes.find((node) => node.role === role)?.status ?? {};
  const copies = nodes.filter((node) => node.role === "store" && node.shard === tier.shard);
  switch (tier.id) {
    case "front": return "every request comes in here";
    case "web": return `spread by the edge; ${status("edge").retries ?? 0} tried again elsewhere`;
    case "jobs": return `uploads wait here for a worker: ${status("queue").depth ?? 0} now`;
    case "coord": return "watches every shard; promotes a replica when a primary is gone";
    default: return copies.some((node) => node.status?.role === "primary")
      ? "writes go to the primary, reads to copies that are fresh enough"
      : "no primary: writes wait, reads go on";
  }
}

function doing(node, { at_ms, load, nodes }) {
  const s = node.status;
  if (node.condition === "down") return node.held ? "held down" : "starts again in a moment";
  if (node.condition === "paused") return "stopped: alive, but silent";
  if (node.role === "load") return load ? `${load.rps.toFixed(0)} requests a second` : "logging in";
  if (!s) return "does not answer yet";
  switch (node.role) {
    case "edge": return `${rate("edge", at_ms, s.requests)} requests a second`;
    case "web": {
      const mine = nodes.find((one) => one.role === "edge")?.status?.upstreams?.find((one) => one.id === node.id);
      return mine ? `${rate(node.id, at_ms, mine.requests)} requests a second` : "not in the balancer yet";
    }
    case "store": return s.role === "primary" ? `change ${s.applied}, epoch ${s.epoch}` : `change ${s.applied}, ${s.lag_ms} ms late`;
    case "queue": return `${s.depth} waiting, ${s.done} done`;
    case "worker": return `${s.working_on ? "at work" : "idle"}, ${s.done} done`;
    case "coord": return `epochs of the shards: ${s.shards.map((one) => one.epoch).join(", ")}`;
    default: return "";
  }
}

// What a database copy is. One that woke up after another was promoted may think that it is the
// primary still; the epoch tells.
function partOf(node, nodes) {
  const isLater = (other) => other.shard === node.shard && other.status?.role === "primary" && other.status.epoch > node.status.epoch;
  return node.status.role === "primary" && nodes.some(isLater) ? "deposed" : node.status.role;
}

function badgeOf(node, nodes) {
  if (node.condition !== "up") return node.held ? "held down" : node.condition;
  return node.role === "store" && node.status ? partOf(node, nodes) : "up";
}

function nodeElement(node, order) {
  const { id, role } = node;
  const last = make("p", "last", `process ${node.pid}`);
  const act = async (action) => {
    const refusal = await order(`/api/nodes/${id}/${action}`);
    if (!refusal) return;
    set(last, `refused: ${refusal}`);
    say(refusal);
  };
  const buttons = make("p", "buttons");
  for (const first of ["kill", "pause", "restart", ...(role in SCALE_MAX ? ["drain"] : [])]) {
    const button = orderButton(ACTIONS[first], `${ACTIONS[first]} ${id}`, () => act(button.dataset.action));
    button.dataset.action = first;
    buttons.append(button);
  }
  const head = make("p", "head", make("b", "", id), make("span", "badge"), make("span", "weight"));
  const element = make("div", "node", head, make("p", "doing"), last, buttons);
  element.dataset.node = id;
  element.setAttribute("role", "group");
  element.setAttribute("aria-label", id);
  return element;
}

// A button that stands for one thing or its opposite, by how the node is.
function turn(element, one, other, isOther) {
  const button = element.querySelector(`[data-action=${one}], [data-action=${other}]`);
  const action = isOther ? other : one;
  if (button.dataset.action === action) return;
  button.dataset.action = action;
  set(button, ACTIONS[action]);
  button.setAttribute("aria-label", `${ACTIONS[action]} ${element.dataset.node}`);
}

const names = (text, id) => text.split(/[^A-Za-z0-9-]+/).includes(id);

function drawNode(element, node, snapshot, events) {
  element.dataset.state = node.condition;
  element.dataset.role = node.role === "store" && node.status ? partOf(node, snapshot.nodes) : node.role;
  set(element.querySelector(".badge"), badgeOf(node, snapshot.nodes));
  set(element.querySelector(".weight"), node.memory.rss_kb ? `${(node.memory.rss_kb / 1024).toFixed(0)} MB` : "");
  set(element.querySelector(".doing"), doing(node, snapshot));
  turn(element, "pause", "resume", node.condition === "paused");
  turn(element, "kill", "start", node.condition === "down" && node.held);
  const about = events.findLast((event) => event.node === node.id || names(event.text, node.id));
  if (!about) return;
  const text = about.node === node.id ? about.text : `${about.node}: ${about.text}`;
  const last = element.querySelector(".last");
  set(last, text);
  last.title = text;
}

// Fewer and more of a tier. What is wanted is shown at once; the nodes follow.
function stepper(role, order) {
  const shown = make("output", "count", "–");
  const what = role === "web" ? "web server" : "worker";
  const box = make("span", "stepper");
  let sent = Promise.resolve();
  // Clicks may come faster than answers: each is told at once, and sent after the one before it.
  const step = (by) => {
    const to = Number(shown.textContent) + by;
    if (!(to >= 1 && to <= SCALE_MAX[role])) {
      say(`${what}s: 1 to ${SCALE_MAX[role]}`);
      return;
    }
    set(shown, `${to}`);
    box.dataset.wanted = Date.now();
    sent = sent.then(async () => {
      const refusal = await order(`/api/scale/${role}/${to}`);
      say(refusal ?? `${to} ${what}${to === 1 ? "" : "s"} wanted`);
    });
  };
  const less = orderButton("−", `one ${what} less`, () => step(-1));
  const more = orderButton("+", `one ${what} more`, () => step(1));
  box.dataset.scale = role;
  box.append(less, shown, more);
  return box;
}

const WANTED_FOR_MS = 3000;
function drawStepper(box, nodes) {
  const count = nodes.filter((node) => node.role === box.dataset.scale).length;
  // Until the nodes had time to join or leave, what was asked for counts.
  if (Date.now() - Number(box.dataset.wanted ?? 0) < WANTED_FOR_MS) return;
  set(box.querySelector(".count"), `${count}`);
  const [less, more] = box.querySelectorAll("button");
  less.setAttribute("aria-disabled", count <= 1);
  more.setAttribute("aria-disabled", count >= SCALE_MAX[box.dataset.scale]);
}

function lagSelect(order) {
  const select = make("select");
  for (const ms of [0, 100, 300, 1000]) {
    const option = make("option", "", ms ? `${ms} ms late` : "at once");
    option.value = ms;
    select.append(option);
  }
  select.id = "lag";
  select.dataset.order = "";
  select.addEventListener("change", async () => {
    const refusal = await order(`/api/lag/${select.value}`);
    if (refusal) say(refusal);
  });
  return make("label", "", "replicas apply ", select);
}

function tierElement(tier, order) {
  const heading = make("div", "heading", make("h3", "", tier.title), make("span", "flow"));
  if (tier.scale) heading.append(stepper(tier.scale, order));
  if (tier.id === "shard-0") heading.append(lagSelect(order));
  const row = make("div", "row");
  const element = make("section", "tier", heading, row);
  element.dataset.tier = tier.id;
  return element;
}

export function drawMap(snapshot, events, order) {
  const map = document.getElementById("map");
  const { nodes } = snapshot;
  for (const tier of tiersOf(nodes)) {
    let element = map.querySelector(`[data-tier="${tier.id}"]`);
    if (!element) {
      element = tierElement(tier, order);
      map.append(element);
    }
    set(element.querySelector(".flow"), flowInto(tier, nodes));
    const box = element.querySelector("[data-scale]");
    if (box) drawStepper(box, nodes);
    const row = element.querySelector(".row");
    const mine = tier.roles.flatMap((role) => nodes.filter((node) => node.role === role && (role !== "store" || node.shard === tier.shard)));
    for (const node of mine) {
      let box = row.querySelector(`[data-node="${CSS.escape(node.id)}"]`);
      if (!box) {
        box = nodeElement(node, order);
        // Where its name belongs, so that a box never moves: web-3 after web-2, whoever joined last.
        const after = [...row.children].find((other) => other.dataset.place > placeOf(tier, node));
        box.dataset.place = placeOf(tier, node);
        row.insertBefore(box, after ?? null);
      }
      drawNode(box, node, snapshot, events);
    }
    const known = new Set(mine.map((node) => node.id));
    for (const box of [...row.children]) if (!known.has(box.dataset.node)) box.remove();
  }
  const lag = document.getElementById("lag");
  if (lag && document.activeElement !== lag) lag.value = snapshot.lag_ms;
}

// Sorts within a tier: by role, then by name.
const placeOf = (tier, node) => `${tier.roles.indexOf(node.role)} ${node.id}`;
