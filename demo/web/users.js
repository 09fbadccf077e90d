// What users see: the strip of the last minute, the figures, and four charts.
import { make, set } from "./page.js";

const $ = (id) => document.getElementById(id);
const KEPT = 240; // A minute at four reports a second.
const SVG = "http://www.w3.org/2000/svg";

const cells = [];
let reported = null;
let reportedAt = 0;

const CHARTS = [
  ["rps", "requests a second", ""],
  ["p99", "p99", " ms"],
  ["lag", "worst replica lag", " ms"],
  ["queue", "jobs waiting", ""],
];
const series = Object.fromEntries(CHARTS.map(([name]) => [name, []]));

function keep(list, value) {
  list.push(value);
  if (list.length > KEPT) list.shift();
}

function pathOf(svg, className) {
  let path = svg.querySelector(`.${className}`);
  if (!path) {
    path = document.createElementNS(SVG, "path");
    path.setAttribute("class", className);
    svg.append(path);
  }
  return path;
}

// One bar a quarter of a second: two thirds high when all is well; a failure stands out above it.
function drawStrip() {
  const bars = { ok: "", bad: "" };
  cells.forEach(({ failed, ok }, i) => {
    const x = KEPT - cells.length + i;
    if (failed) bars.bad += `M${x},30V0h2V30z`;
    else if (ok) bars.ok += `M${x},30V10h.8V30z`;
  });
  const strip = $("strip");
  for (const kind of ["ok", "bad"]) pathOf(strip, kind).setAttribute("d", bars[kind] || "M0,0");
  const bad = cells.filter((cell) => cell.failed).length;
  const label = bad
    ? `the last minute: failures in ${bad} of ${cells.length} quarter seconds`
    : "the last minute: no failure";
  if (strip.getAttribute("aria-label") !== label) strip.setAttribute("aria-label", label);
}

// A round number at or above `value`, so that the scale does not jump with every sample.
function ceiling(value) {
  const step = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((n) => n * step).find((n) => n >= value);
}

function drawChart([name, title, unit]) {
  let figure = $(`c-${name}`);
  if (!figure) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${KEPT} 60`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    figure = make("figure", "", make("figcaption", "", make("span", "", title), make("span", "scale")), svg);
    figure.id = `c-${name}`;
    $("charts").append(figure);
  }
  const values = series[name];
  const top = ceiling(Math.max(1, ...values));
  const points = values.map((v, i) => `${KEPT - values.length + i},${(59 - (v / top) * 57).toFixed(1)}`);
  const svg = figure.querySelector("svg");
  pathOf(svg, "line").setAttribute("d", points.length ? `M${points.join("L")}` : "M0,59");
  set(figure.querySelector(".scale"), `up to ${top}${unit}`);
  const now = values.at(-1) ?? 0;
  svg.setAttribute("aria-label", `${title}: ${now.toFixed(0)}${unit} now, ${Math.max(0, ...values).toFixed(0)}${unit} at most in the last minute`);
}

// As many digits as say something, so that it fits a small screen.
const ms = (value) => `${value.toFixed(value < 100 ? 1 : 0)} ms`;

function drawFigures(load) {
  const all = load.ok_total + load.failed_total;
  set($("f-rps"), load.rps.toFixed(0));
  // Never rounded up to 100 %: a failure shows.
  const percent = all ? Math.floor((load.ok_total / all) * 100_000) / 1000 : 0;
  set($("f-success"), all === 0 ? "–" : load.failed_total === 0 ? "100 %" : `${percent.toFixed(2)} %`);
  set($("f-failed"), load.failed_total.toLocaleString("en"));
  const classes = Object.entries(load.failed_by_class_total ?? {}).filter(([, n]) => n > 0);
  $("f-failed").title = classes.map(([name, n]) => `${n} ${name.replace("_", " ")}`).join(", ");
  $("f-failed").parentElement.dataset.bad = load.failed_total > 0;
  set($("f-p50"), ms(load.p50_ms));
  set($("f-p99"), ms(load.p99_ms));
  set($("f-acked"), load.acked_total.toLocaleString("en"));
  set($("f-lost"), load.lost_total === null ? "not checked" : `${load.lost_total}`);
  $("f-lost").parentElement.dataset.bad = load.lost_total > 0;
}

export function drawPulse({ at_ms, load, nodes }) {
  const stores = nodes.filter((node) => node.role === "store" && node.status);
  const lag = Math.max(0, ...stores.map((node) => node.status.lag_ms ?? 0));
  const queue = nodes.find((node) => node.role === "queue")?.status?.depth ?? 0;
  if (load) {
    const totals = { ok: load.ok_total, failed: load.failed_total };
    const ok = totals.ok - (reported?.ok ?? 0);
    const failed = totals.failed - (reported?.failed ?? 0);
    // The users report as often as this page hears, and not in step: a cell is a report, and only a
    // long silence is an empty one.
    if (ok || failed || at_ms - reportedAt > 1000) {
      if (reported) keep(cells, { ok, failed });
      reportedAt = at_ms;
    }
    reported = totals;
    drawFigures(load);
    drawStrip();
  }
  keep(series.rps, load?.rps ?? 0);
  keep(series.p99, load?.p99_ms ?? 0);
  keep(series.lag, lag);
  keep(series.queue, queue);
  CHARTS.forEach(drawChart);
}
