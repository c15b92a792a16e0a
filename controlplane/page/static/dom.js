// Elements made of text alone: nothing that comes from the cluster is ever read as HTML.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}

export function fill(place, ...children) {
  place.replaceChildren(...children);
}

// A long text breaks anywhere; names, addresses and words of a few letters stay whole.
const LONG = 32;
export const cell = (text) => el("td", String(text).length > LONG ? { class: "long" } : {}, text);

export function table(caption, heads, rows) {
  const head = el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text))));
  const body = el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell))));
  return el("div", { class: "scroll" }, el("table", {}, el("caption", {}, caption), head, body));
}

// A time that has passed, as the command says it: 12s, 3m20s, 2h5m, 4d1h.
export function span(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))}s`;
  const [size, unit, smaller, name] = seconds < 3600 ? [60, "m", 1, "s"] : seconds < 86400 ? [3600, "h", 60, "m"] : [86400, "d", 3600, "h"];
  const rest = Math.floor((seconds % size) / smaller);
  return `${Math.floor(seconds / size)}${unit}${rest ? `${rest}${name}` : ""}`;
}

// Draws at most once for each picture that the screen shows, whatever comes in between.
export function drawer(draw) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; draw(); });
  };
}
