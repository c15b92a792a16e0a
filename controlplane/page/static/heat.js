// Lag over time as a heat map: a column for each look, a row for each band of lag. The height of a mark says how many nodes,
// its strength as well. One look at a time is chosen by the keyboard or the pointer and said in words; a table has all.

import { byId, drawer, el, fill, table } from "./dom.js";

const COLUMNS = 300, ROWS = 60, LEAP = 10;
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowDown: -1, ArrowUp: 1, PageDown: -LEAP, PageUp: LEAP, Home: -COLUMNS, End: COLUMNS };
let columns = []; // { at, bands, own }, the oldest first; own: of the replica's own nodes alone
let bounds = [];
let chosen = null; // a column; null: always the newest

export function begin(seen, looks) {
  bounds = seen;
  columns = looks;
  chosen = null;
  fill(byId("heat-labels"), ...names().reverse().map((name) => el("li", {}, name)));
  byId("heat").style.height = `${18 * names().length}px`;
  show();
}

function names() {
  return [`≤ ${bounds[0]} s`, ...bounds.slice(1).map((bound) => `≤ ${bound} s`), `> ${bounds[bounds.length - 1]} s`, "disconnected"];
}

export function add(look) {
  columns.push(look);
  if (columns.length > COLUMNS) columns.shift();
  if (chosen !== null && !columns.includes(chosen)) chosen = columns[0];
  show();
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
const when = (look) => `At ${clock(look.at)}${look.own ? ", of this replica's nodes" : ""}`;
const words = (bands) => names().map((name, band) => [name, bands[band]]).filter(([, number]) => number)
  .map(([name, number]) => `${number} ${number === 1 ? "node" : "nodes"} ${name}`).join(", ") || "no nodes";

function draw() {
  const canvas = byId("heat"), rows = names().length;
  canvas.width = canvas.clientWidth;
  canvas.height = canvas.clientHeight;
  const pen = canvas.getContext("2d"), wide = Math.max(2, canvas.width / COLUMNS), high = canvas.height / rows;
  const style = getComputedStyle(document.documentElement);
  const colours = ["--good", "--commit", "--bad", "--mark"].map((name) => style.getPropertyValue(name));
  const left = (x) => canvas.width - (columns.length - x) * wide;
  columns.forEach(({ bands }, x) => {
    const all = Math.max(1, bands.reduce((sum, number) => sum + number, 0));
    bands.forEach((number, band) => {
      if (!number) return;
      const share = Math.sqrt(number / all), tall = Math.max(3, share * (high - 2));
      pen.globalAlpha = 0.7 + 0.3 * share;
      pen.fillStyle = colours[band === 0 ? 0 : band < 4 ? 1 : 2];
      pen.fillRect(left(x), canvas.height - band * high - 1 - tall, Math.ceil(wide), tall);
    });
  });
  if (chosen === null) return;
  pen.globalAlpha = 1;
  pen.strokeStyle = colours[3];
  pen.lineWidth = 2;
  pen.strokeRect(left(columns.indexOf(chosen)) - 1, 1, Math.ceil(wide) + 2, canvas.height - 2);
}

function say() {
  const last = columns[columns.length - 1], one = chosen || last, canvas = byId("heat");
  byId("heat-text").textContent = `Now: ${words(last.bands)}.`;
  byId("heat-chosen").textContent = chosen ? `${when(chosen)}: ${words(chosen.bands)}.` : "";
  canvas.setAttribute("aria-valuemax", columns.length);
  canvas.setAttribute("aria-valuenow", columns.indexOf(one) + 1);
  canvas.setAttribute("aria-valuetext", `${chosen ? when(one) : "Now"}: ${words(one.bands)}`);
}

// Looks that follow each other with the same numbers are one row.
function spans() {
  const found = [];
  for (const { at, bands } of columns) {
    const before = found[found.length - 1];
    if (before && before.bands.every((number, band) => number === bands[band])) before.until = at;
    else found.push({ at, until: at, bands });
  }
  return found.slice(-ROWS).reverse();
}

function list() {
  if (!byId("heat-details").open) return;
  const rows = spans().map(({ at, until, bands }) => [at === until ? clock(at) : `${clock(at)} to ${clock(until)}`, ...bands]);
  fill(byId("heat-table"), table("Nodes by lag, the newest first. Looks with the same numbers are one row.", ["Time", ...names()], rows));
}

const show = drawer(() => {
  if (!columns.length) return;
  draw();
  say();
  list();
});

function choose(at) {
  chosen = at >= columns.length ? null : columns[Math.max(0, at)];
  show();
}

export function start() {
  const canvas = byId("heat");
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in STEPS) || !columns.length) return;
    event.preventDefault();
    choose(event.key === "End" ? COLUMNS : (chosen ? columns.indexOf(chosen) : columns.length - 1) + STEPS[event.key]);
  });
  canvas.addEventListener("pointerdown", (event) => {
    const wide = Math.max(2, canvas.width / COLUMNS);
    choose(columns.length - Math.ceil((canvas.width - event.offsetX) / wide));
  });
  byId("heat-details").addEventListener("toggle", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  addEventListener("resize", show);
}
