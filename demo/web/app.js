// The live page: one stream of snapshots and events in, orders out.
import { say, set } from "./page.js";
import { drawFaults, drawLog } from "./log.js";
import { drawMap } from "./map.js";
import { startTour, tell } from "./tour.js";
import { drawPulse } from "./users.js";

const $ = (id) => document.getElementById(id);
// The supervisor sends news four times a second; silence for so long means that it is gone.
const SILENCE_MS = 3000;
const RETRY_MS = 1000;

const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
history.replaceState(null, "", "/");
const headers = { "x-stackbeam-token": token };

let seen = 0;
let lastHeard = null;
let stopping = false;

// Asks the supervisor for something; gives its refusal, or nothing when it did it.
async function order(path) {
  try {
    const answer = await fetch(path, { method: "POST", headers });
    if (answer.ok) return null;
    return (await answer.text()).trim();
  } catch {
    return "the supervisor does not answer";
  }
}

// What the page shows of its own connection: `live`, `connecting` or `lost`.
function link(state, text) {
  document.body.dataset.link = state;
  set($("link-word"), state);
  set($("link-text"), text);
  for (const control of document.querySelectorAll("[data-order]")) control.inert = state !== "live";
}

function lost(why) {
  const at = lastHeard === null ? null : new Date(lastHeard).toISOString().slice(11, 19);
  link("lost", at === null ? "" : `nothing heard since ${at} UTC`);
  set($("lost"), stopping
    ? "Stopped, as you asked: no process and no temporary file is left. Start it again in the terminal and open the address that it prints."
    : `${why} ${at === null ? "" : "What you see below is as it was then. "}This page keeps trying. If the run is over, start it again in the terminal and open the address that it prints.`);
  $("lost").hidden = false;
}

function news({ snapshot, events }) {
  lastHeard = snapshot.at_ms;
  if (events.length) seen = events.at(-1).seq;
  const ready = snapshot.ready_ms !== null;
  document.body.dataset.ready = ready ? "yes" : "no";
  $("lost").hidden = true;
  link("live", ready
    ? `${snapshot.nodes.length} processes · seed ${snapshot.seed} · ready after ${snapshot.ready_ms} ms`
    : "the processes are starting …");
  if (snapshot.edge) $("app-link").href = `http://${snapshot.edge}/`;
  drawPulse(snapshot);
  drawMap(snapshot, events, order);
  drawFaults(snapshot.faults);
  drawLog(events);
  tell(snapshot);
}

// Reads news until the stream ends; what ended it is thrown.
async function follow() {
  const gone = new AbortController();
  let watchdog;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => gone.abort(), SILENCE_MS);
  };
  heard();
  try {
    const answer = await fetch(`/api/stream?after=${seen}`, { headers, signal: gone.signal });
    if (!answer.ok) throw new Error(await answer.text());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return "The supervisor has ended.";
      heard();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      lines.forEach((line) => news(JSON.parse(line)));
    }
  } catch (error) {
    if (gone.signal.aborted) return "The supervisor is silent.";
    // A browser's own words for "no connection" differ, and help nobody.
    return error instanceof TypeError ? "The supervisor does not answer." : `Refused: ${error.message.trim()}.`;
  } finally {
    clearTimeout(watchdog);
    gone.abort();
  }
}

async function keepFollowing() {
  for (;;) {
    lost(await follow());
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

// Stopping takes two clicks: what is asked for cannot be taken back.
function stopButton() {
  const button = $("down");
  let sure;
  button.addEventListener("click", async () => {
    if (!sure) {
      set(button, "Really? Click again");
      sure = setTimeout(() => {
        sure = undefined;
        set(button, "Stop everything");
      }, 4000);
      return;
    }
    clearTimeout(sure);
    stopping = true;
    set(button, "Stopping …");
    const refusal = await order("/api/down");
    if (refusal) say(refusal);
  });
}

stopButton();
startTour(order);
keepFollowing();
