// The narrated tour: one thing to try at a time, what to expect of it, and what came of it.
import { tellFault } from "./log.js";
import { make, orderButton, set } from "./page.js";

const $ = (id) => document.getElementById(id);

let at = 0;
let order;
let snapshot = null;
let began = null; // When this step's button was pressed, and on whom.

const epoch = (node) => node.status.epoch;
const primary = () => snapshot?.nodes
  .filter((node) => node.shard === 0 && node.status?.role === "primary")
  .reduce((latest, node) => (latest && epoch(latest) > epoch(node) ? latest : node), undefined)?.id;
const kill = (id) => [`Kill ${id}`, id, `/api/nodes/${id}/kill`];
const count = (role) => snapshot.nodes.filter((node) => node.role === role && node.condition === "up").length;
const status = (role) => snapshot.nodes.find((node) => node.role === role)?.status ?? {};

// What the web servers say of their session keys.
function keys() {
  const rings = snapshot.nodes.filter((node) => node.role === "web" && node.status?.keys).map((node) => node.status.keys);
  const known = Math.min(...rings.map((ring) => ring.known));
  const signing = new Set(rings.map((ring) => ring.signs));
  return signing.size === 1 ? `Every web server knows ${known} keys and signs with ${[...signing][0]}.` : "The servers change over …";
}

// The record of the fault that this step made.
function fault() {
  const mine = snapshot.faults.find((one) => one.node === began.id && one.at_ms >= began.at_ms);
  return mine ? tellFault(mine) : "Watching …";
}

const STEPS = [
  {
    name: "Kill a web server",
    text: "Web servers keep no state, and there are two. The edge balancer tries a request that dies with its server again on the other one, so nobody should notice: watch “failed so far” above.",
    acts: () => [kill("web-1")],
    result: fault,
  },
  {
    name: "Kill a database primary",
    text: "Every shard has a primary and two replicas, and a write is acknowledged when a replica has it too. The coordinator promotes the replica that has the most; the other shard does not notice.",
    acts: () => (primary() ? [kill(primary())] : []),
    result: fault,
  },
  {
    name: "Freeze a primary, then wake it",
    text: "A stopped process is worse than a dead one: it holds its connections, says nothing, and wakes up thinking that it is still the primary. Its epoch is over by then, so its writes are refused.",
    acts: () => {
      const frozen = snapshot?.nodes.find((node) => node.shard === 0 && node.condition === "paused")?.id;
      if (frozen) return [[`Wake ${frozen}`, frozen, `/api/nodes/${frozen}/resume`]];
      return primary() ? [[`Freeze ${primary()}`, primary(), `/api/nodes/${primary()}/pause`]] : [];
    },
    result: fault,
  },
  {
    name: "Make replicas late",
    text: "With replicas a second behind, people must still read what they have just written. Each session knows how far its writes went, and is sent to a copy that has them.",
    acts: () => [["1 second late", "lag", "/api/lag/1000"], ["At once again", "lag", "/api/lag/0"]],
    result: () => `Replicas apply ${snapshot.lag_ms} ms late. Reads that missed the reader's own write so far: ${snapshot.load?.stale_total ?? "not counted yet"}.`,
  },
  {
    name: "Freeze the photo worker",
    text: "Uploads do not wait for the pictures that are made of them: the queue keeps the job. Freeze the worker and watch jobs wait; wake it, or add a second worker, and they are done.",
    acts: () => {
      const frozen = snapshot?.nodes.find((node) => node.id === "worker-1")?.condition === "paused";
      return [
        frozen ? ["Wake worker-1", "worker-1", "/api/nodes/worker-1/resume"] : ["Freeze worker-1", "worker-1", "/api/nodes/worker-1/pause"],
        ["Two workers", "scale", "/api/scale/worker/2"],
      ];
    },
    result: () => `${status("queue").depth ?? 0} jobs wait, ${status("queue").done ?? 0} are done, ${status("queue").dead ?? 0} given up.`,
  },
  {
    name: "Add web servers",
    text: "New servers join the balancer by themselves, and leave it only when they have finished what they have.",
    acts: () => [["Four web servers", "scale", "/api/scale/web/4"], ["Two again", "scale", "/api/scale/web/2"]],
    result: () => `${count("web")} web servers answer. Failed so far: ${snapshot.load?.failed_total ?? 0}.`,
  },
  {
    name: "Rotate the session keys",
    text: "Any web server reads any token, for all have the same keys. A new key is known to every server before it signs, and the old ones go on being read: nobody is logged out.",
    acts: () => [["New session key", "keys", "/api/keys/rotate"]],
    result: () => `${keys()} Failed so far: ${snapshot.load?.failed_total ?? 0}.`,
  },
  {
    name: "Be one of the users",
    text: "Open the service: register, upload a photo, and find its small versions a moment later. Then come back and kill your server: you stay logged in.",
    acts: () => [],
    result: () => "",
    link: true,
  },
];

function draw() {
  const step = STEPS[at];
  set($("tour-count"), `${at + 1} of ${STEPS.length}`);
  set($("tour-name"), step.name);
  set($("tour-text"), step.text);
  $("tour-back").disabled = at === 0;
  $("tour-next").disabled = at === STEPS.length - 1;
  drawActs(step);
  if (step.link) set($("tour-result"), "");
  else if (!began) set($("tour-result"), "What comes of it will be told here.");
  else set($("tour-result"), began.refusal ? `Refused: ${began.refusal}` : step.result());
}

// The buttons are made anew only when they change, so that the focus stays.
function drawActs(step) {
  const acts = snapshot ? step.acts() : [];
  const now = JSON.stringify([at, acts]);
  const row = $("tour-act");
  if (row.dataset.acts === now) return;
  row.dataset.acts = now;
  const had = row.contains(document.activeElement);
  row.replaceChildren(...acts.map(([text, id, path]) => {
    const button = orderButton(text, text, async () => {
      // To wake what was frozen is the end of the same story.
      if (began?.id !== id) began = { id, at_ms: snapshot.at_ms - 1 };
      began.refusal = await order(path);
      draw();
    });
    button.className = "main";
    return button;
  }));
  if (step.link) {
    const link = make("a", "main", "Open the service");
    link.href = $("app-link").href;
    link.target = "_blank";
    link.rel = "noreferrer";
    row.append(link);
  }
  if (had) row.querySelector("button")?.focus();
}

function go(by) {
  at = Math.min(Math.max(at + by, 0), STEPS.length - 1);
  began = null;
  draw();
}

// Starts at the first step; `send` gives orders.
export function startTour(send) {
  order = send;
  $("tour-back").addEventListener("click", () => go(-1));
  $("tour-next").addEventListener("click", () => go(1));
  draw();
}

// Tells what has come of the step as of `now`.
export function tell(now) {
  snapshot = now;
  draw();
}
