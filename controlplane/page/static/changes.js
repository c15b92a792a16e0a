// The last changes as a waterfall. All bars have one scale, which the slowest of them sets.

import { byId, drawer, el, fill } from "./dom.js";

const MOST = 40;
const changes = new Map();

export function whole(rows, stages) {
  changes.clear();
  fill(byId("legend"), ...stages.flatMap((name) => [el("i", { class: name }), name]));
  take(rows);
}

export function take(rows) {
  for (const row of rows) changes.set(`${row.at} ${row.object}`, row);
  if (changes.size > MOST) {
    const oldest = [...changes.entries()].sort(([, a], [, b]) => a.at - b.at).slice(0, changes.size - MOST);
    for (const [key] of oldest) changes.delete(key);
  }
  if (!byId("pause").checked) show();
}

function bar(row, longest) {
  const parts = row.stages.map(([name, start, took]) => {
    const part = el("i", { class: name, title: `${name}: ${took} ms` });
    part.style.left = `${(100 * start) / longest}%`;
    part.style.width = `${(100 * took) / longest}%`;
    return part;
  });
  const text = `${row.ms} ms: ${row.stages.map(([name, , took]) => `${name} ${took}`).join(", ")}`;
  return el("div", { class: "bar", role: "img", "aria-label": text }, ...parts);
}

function line(row, longest) {
  const at = new Date(row.at).toLocaleTimeString([], { hour12: false });
  const trouble = row.failed.length ? el("span", { class: "bad" }, ` fails on ${row.failed.join(", ")}`) : "";
  const [most, , took] = row.stages.reduce((best, each) => (each[2] > best[2] ? each : best), ["", 0, 0]);
  const where = took > row.ms / 2 ? `, most of it ${most}` : "";
  const about = el("span", { class: "soft" }, ` ${row.nodes} nodes, slowest ${row.slowest}, ${row.ms} ms${where}${row.trace ? `, trace ${row.trace}` : ""}`);
  return el("li", { class: "change" }, el("span", {}, `${at} `, el("b", {}, row.object), about, trouble), bar(row, longest));
}

const show = drawer(() => {
  const rows = [...changes.values()].sort((a, b) => b.at - a.at);
  const longest = Math.max(1, ...rows.map((row) => row.ms));
  fill(byId("change-rows"), ...(rows.length ? rows.map((row) => line(row, longest)) : [el("li", { class: "soft" }, "No change has been acknowledged since this replica's start.")]));
});

export function start() {
  byId("pause").addEventListener("change", show);
}
