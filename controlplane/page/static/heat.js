// Lag over time as a heat map: a column for each look, a row for each band of lag.

import { byId, drawer, el, fill } from "./dom.js";

const COLUMNS = 300;
let columns = [];
let bounds = [];

export function begin(seen) {
  bounds = seen;
  columns = [];
  fill(byId("heat-labels"), ...names().reverse().map((name) => el("li", {}, name)));
  byId("heat").style.height = `${18 * names().length}px`;
}

function names() {
  return [`≤ ${bounds[0]} s`, ...bounds.slice(1).map((bound) => `≤ ${bound} s`), `> ${bounds[bounds.length - 1]} s`, "disconnected"];
}

export function add(bands) {
  columns.push(bands);
  if (columns.length > COLUMNS) columns.shift();
  show();
}

const show = drawer(() => {
  const canvas = byId("heat"), rows = names().length;
  canvas.width = canvas.clientWidth;
  canvas.height = canvas.clientHeight;
  const pen = canvas.getContext("2d"), wide = Math.max(2, canvas.width / COLUMNS), high = canvas.height / rows;
  const style = getComputedStyle(document.documentElement);
  const colours = [style.getPropertyValue("--good"), style.getPropertyValue("--commit"), style.getPropertyValue("--bad")];
  columns.forEach((bands, x) => {
    const all = Math.max(1, bands.reduce((sum, number) => sum + number, 0));
    bands.forEach((number, band) => {
      if (!number) return;
      pen.globalAlpha = 0.25 + 0.75 * Math.sqrt(number / all);
      pen.fillStyle = colours[band === 0 ? 0 : band < 4 ? 1 : 2];
      pen.fillRect(canvas.width - (columns.length - x) * wide, canvas.height - (band + 1) * high, Math.ceil(wide), high - 1);
    });
  });
  const last = columns[columns.length - 1];
  byId("heat-text").textContent = `Now: ${names().map((name, band) => [name, last[band]]).filter(([, number]) => number)
    .map(([name, number]) => `${number} nodes ${name}`).join(", ") || "no nodes"}.`;
});
