// The live page: one stream of snapshots and events in, the same elements updated in place.
"use strict";

const $ = (id) => document.getElementById(id);
const TIERS = [
  ["edge", "Edge balancer: the one public address"],
  ["web", "Web servers: no state"],
  ["store", "Databases: shards, each a primary and two replicas"],
  ["coord", "Failover coordinator"],
  ["queue", "Durable queue"],
  ["worker", "Photo workers"],
  ["load", "Synthetic users"],
];
const KEPT = 240; // A minute at four samples a second.
const series = { rps: [], p99: [], failed: [], queue: [] };
const cells = [];
const LOG_MAX = 300;

async function order(path) {
  $("said").textContent = "";
  try {
    const answer = await fetch(path, { method: "POST", headers: HEADERS });
    if (!answer.ok) $("said").textContent = await answer.text();
  } catch (error) {
    $("said").textContent = String(error);
  }
}

function nodeElement(id) {
  let element = document.querySelector(`[data-node="${CSS.escape(id)}"]`);
  if (element) return element;
  element = document.createElement("div");
  element.className = "node";
  element.dataset.node = id;
  const name = document.createElement("strong");
  name.textContent = id;
  const badge = document.createElement("span");
  badge.className = "badge";
  const line = document.createElement("p");
  element.append(name, badge, line);
  for (const [label, action] of [["Kill", "kill"], ["Pause", "pause"], ["Drain", "drain"]]) {
    if (action === "drain" && !id.startsWith("web")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.dataset.action = action;
    button.setAttribute("aria-label", `${label} ${id}`);
    button.addEventListener("click", () => order(`/api/nodes/${id}/${button.dataset.action}`));
    element.append(button, " ");
  }
  return element;
}

function tierRow(role, title) {
  let row = document.querySelector(`[data-tier="${role}"]`);
  if (row) return row;
  const tier = document.createElement("div");
  tier.className = "tier";
  const heading = document.createElement("h3");
  heading.textContent = title;
  row = document.createElement("div");
  row.className = "row";
  row.dataset.tier = role;
  tier.append(heading, row);
  $("map").append(tier);
  return row;
}

function describe(node) {
  const s = node.status || {};
  const parts = [];
  if (node.role === "store" && node.status) parts.push(`epoch ${s.epoch}, at ${s.applied}`);
  if (node.role === "queue" && s.depth !== undefined) parts.push(`${s.depth} waiting`);
  if (node.role === "worker" && s.done !== undefined) parts.push(`${s.done} done`);
  if (node.role === "web" && s.requests !== undefined) parts.push(`${s.requests} requests`);
  if (node.role === "edge" && s.requests !== undefined) parts.push(`${s.requests} requests, ${s.retries ?? 0} retries`);
  parts.push(`${(node.memory.rss_kb / 1024).toFixed(0)} MB`);
  if (node.restarts) parts.push(`${node.restarts} restarts`);
  return parts.join(" · ");
}

function badgeOf(node) {
  if (node.condition !== "up") return node.condition;
  if (node.role === "store" && node.status) return node.status.role === "primary" ? "P primary" : "R replica";
  return "up";
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawMap(nodes) {
  for (const [role, title] of TIERS) {
    const mine = nodes.filter((node) => node.role === role);
    if (mine.length === 0) continue;
    const row = tierRow(role, title);
    for (const node of mine) {
      const element = nodeElement(node.id);
      if (element.parentElement !== row) row.append(element);
      element.dataset.state = node.condition;
      element.dataset.role = node.status?.role ?? node.role;
      set(element.querySelector(".badge"), badgeOf(node));
      set(element.querySelector("p"), describe(node));
      const pause = element.querySelector("[data-action=pause], [data-action=resume]");
      const wanted = node.condition === "paused" ? "resume" : "pause";
      if (pause.dataset.action !== wanted) {
        pause.dataset.action = wanted;
        pause.textContent = wanted === "resume" ? "Resume" : "Pause";
        pause.setAttribute("aria-label", `${pause.textContent} ${node.id}`);
      }
    }
  }
  const known = new Set(nodes.map((node) => node.id));
  for (const element of document.querySelectorAll("[data-node]")) {
    if (!known.has(element.dataset.node)) element.remove();
  }
}

function chart(id, values) {
  const top = Math.max(1, ...values);
  const d = values
    .map((v, i) => `${i ? "L" : "M"}${KEPT - values.length + i},${(58 - (v / top) * 54).toFixed(1)}`)
    .join("");
  const svg = $(id);
  let path = svg.firstElementChild;
  if (!path) {
    path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.append(path);
  }
  path.setAttribute("d", d || "M0,58");
}

function keep(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}

function drawLoad(snapshot) {
  const load = snapshot.load;
  const stores = snapshot.nodes.filter((n) => n.role === "store" && n.status);
  const lag = Math.max(0, ...stores.map((n) => n.status.lag_ms ?? 0));
  const queue = snapshot.nodes.find((n) => n.role === "queue")?.status?.depth ?? 0;
  set($("f-lag"), `${lag} ms`);
  set($("f-queue"), String(queue));
  set($("f-rss"), `${(snapshot.memory.rss_kb / 1024).toFixed(0)} MB`);
  if (load) {
    set($("f-rps"), load.rps.toFixed(0));
    set($("f-p50"), `${load.p50_ms.toFixed(1)} ms`);
    set($("f-p99"), `${load.p99_ms.toFixed(1)} ms`);
    set($("f-failed"), String(load.failed_total));
    set($("f-acked"), String(load.acked_total));
    set($("f-lost"), load.lost_total === null ? "not checked yet" : String(load.lost_total));
    keep(series.rps, load.rps);
    keep(series.p99, load.p99_ms);
    keep(series.failed, load.failed * 4);
    keep(cells, load.failed ? "bad" : load.ok ? "" : "none");
  }
  keep(series.queue, queue);
  for (const name of Object.keys(series)) chart(`c-${name}`, series[name]);
  const strip = $("strip");
  while (strip.childElementCount < cells.length) strip.append(document.createElement("i"));
  cells.forEach((kind, i) => {
    if (strip.children[i].className !== kind) strip.children[i].className = kind;
  });
  const bad = cells.filter((kind) => kind === "bad").length;
  strip.setAttribute("aria-label", `last minute: ${bad} quarter seconds with a failure of ${cells.length}`);
}

function log(events) {
  const list = $("log");
  for (const event of events) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const at = new Date(event.at_ms);
    time.dateTime = at.toISOString();
    time.textContent = at.toISOString().slice(11, 23);
    const who = document.createElement("b");
    who.textContent = event.node;
    item.append(time, who, event.text);
    list.prepend(item);
  }
  while (list.childElementCount > LOG_MAX) list.lastElementChild.remove();
}

const TOKEN = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", TOKEN);
history.replaceState(null, "", "/");
const HEADERS = { "x-stackbeam-token": TOKEN };
let seen = 0;

async function follow() {
  try {
    const answer = await fetch(`/api/stream?after=${seen}`, { headers: HEADERS });
    if (!answer.ok) throw new Error(await answer.text());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the supervisor is gone; trying again …");
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach((line) => news(JSON.parse(line)));
    }
  } catch (error) {
    set($("banner"), String(error.message));
    setTimeout(follow, 1000);
  }
}

function news({ snapshot, events }) {
  if (events.length) seen = events.at(-1).seq;
  document.body.dataset.ready = snapshot.ready_ms === null ? "no" : "yes";
  set($("banner"), `${snapshot.nodes.length} processes, kills are real · seed ${snapshot.seed} · ` +
    (snapshot.ready_ms === null ? "starting …" : `ready after ${snapshot.ready_ms} ms`));
  if (snapshot.edge) $("app-link").href = `http://${snapshot.edge}/`;
  drawMap(snapshot.nodes);
  drawLoad(snapshot);
  log(events);
}

function start() {
  follow();
  $("down").addEventListener("click", () => order("/api/down"));
  $("lag").addEventListener("change", (e) => order(`/api/lag/${e.target.value}`));
  for (const role of ["web", "worker"]) {
    $(`scale-${role}`).addEventListener("change", (e) => order(`/api/scale/${role}/${e.target.value}`));
  }
  $("scale-web").value = "2";
}

start();
