// Nodes by state, the replicas, and the table: what is not well first, and of what is well only as much as is asked for.

import { byId, cell, drawer, el, fill, span } from "./dom.js";

const STEP = 200;
const nodes = new Map();
let overview = { states: {}, replicas: [], head: 0, advice: [] };
let most = STEP;

export function whole(rows, seen) {
  nodes.clear();
  take(rows, [], seen);
}

export function take(rows, gone, seen) {
  for (const row of rows) nodes.set(row.name, row);
  for (const name of gone) nodes.delete(name);
  if (seen.states) overview = seen;
  show();
}

const well = (row) => row.state === "Live" && !row.failed && !row.why;
const worse = (a, b) => well(a) - well(b) || b.behind - a.behind || (a.name < b.name ? -1 : 1);

function wanted() {
  const text = byId("node-filter").value.trim().toLowerCase();
  const all = byId("node-all").checked || text;
  const found = [...nodes.values()].filter((row) => (all || !well(row)) &&
    (!text || `${row.name} ${row.state} ${row.mode} ${row.why} ${row.note}`.toLowerCase().includes(text)));
  return found.sort(worse);
}

// What is wrong with a node is said by a word, not by a colour alone.
function state(row) {
  const lasts = row.since ? ` for ${span((Date.now() - row.since) / 1000)}` : "";
  if (row.state !== "Live") return `${row.state}${lasts}`;
  if (well(row)) return row.state;
  return row.failed ? "Live, failing" : row.pending ? `Live, commit pending${lasts}` : row.behind >= 1 ? "Live, late" : "Live, held";
}

// A node without a stream that has everything so far may lack the next change.
const behind = (row) => (row.behind || row.state !== "Disconnected" ? row.behind.toFixed(1) : "–");

function line(row) {
  const cells = [row.name, state(row), behind(row), row.applied, row.mode, row.failed || "", row.why || row.note];
  const made = el("tr", {}, ...cells.map((text, at) => (at ? cell(text) : el("th", { scope: "row" }, text))));
  if (!well(row)) made.children[1].className = "bad";
  return made;
}

// Live is green while all that are live are well.
function tile(name, number) {
  const ill = [...nodes.values()].some((row) => row.state === "Live" && !well(row));
  const tone = name === "Live" ? (ill ? "" : "good") : number && !["nodes", "revision"].includes(name) ? "bad" : "";
  return el("li", { class: tone }, el("b", {}, number), name);
}

function advised({ text, nodes: names, more }) {
  return el("li", {}, el("b", {}, names.join(", ") + (more ? ` and ${more} more` : "")), `: ${text}`);
}

const show = drawer(() => {
  const found = wanted();
  fill(byId("states"), tile("nodes", nodes.size), ...Object.entries(overview.states).map(([name, number]) => tile(name, number)),
    tile("revision", overview.head));
  fill(byId("replicas"), ...overview.replicas.map((each) => el("li", { class: each.error ? "bad" : "soft" },
    `Replica ${each.where} ${each.id}: ${each.error || `${each.nodes} nodes`}`)));
  byId("advice-box").hidden = !overview.advice.length;
  fill(byId("advice"), ...overview.advice.map(advised));
  fill(byId("node-rows"), ...found.slice(0, most).map(line));
  const shown = Math.min(found.length, most);
  byId("node-count").textContent = found.length ? `${shown} of ${found.length} shown, of ${nodes.size} nodes` : `All ${nodes.size} nodes are well.`;
  byId("node-more").hidden = found.length <= most;
  const names = byId("node-names");
  if (names.childElementCount !== Math.min(nodes.size, 1000)) {
    fill(names, ...[...nodes.keys()].sort().slice(0, 1000).map((name) => el("option", { value: name })));
  }
});

export function start() {
  byId("node-filter").addEventListener("input", () => { most = STEP; show(); });
  byId("node-all").addEventListener("change", show);
  byId("node-more").addEventListener("click", () => { most += STEP; show(); });
}
