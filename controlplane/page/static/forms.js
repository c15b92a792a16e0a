// One Service with its endpoints and who has it, and explain.

import { ask } from "./asking.js";
import { byId, el, fill, span, table } from "./dom.js";

const wrong = (error) => el("p", { class: "bad" }, error.message);
const paragraph = (...parts) => el("p", {}, ...parts);

async function shown(place, make) {
  fill(place, paragraph("asking"));
  try {
    fill(place, ...(await make()));
  } catch (error) {
    fill(place, wrong(error));
  }
}

function held(found) {
  const all = found.have === found.chosen;
  const parts = [el("h3", {}, "Who has it"), el("p", { class: all ? "good" : "bad" }, `${found.have} of ${found.chosen} nodes have it as it is. ${found.text}`)];
  if (found.lacking.length) {
    const rows = found.lacking.map((each) => [each.node, each.reason.toLowerCase().replace("_", " "), each.text, each.instead]);
    parts.push(table(`Those that lack it${found.more ? `, and ${found.more} more` : ""}`, ["Node", "Reason", "Why", "Forwards instead"], rows));
  }
  parts.push(el("p", { class: "soft" }, "This is what agents have put into their kernels. What other programs on a node drop or redirect is not known here: deltaplane trace, on the node, follows a packet."));
  return parts;
}

async function service(name) {
  const found = await ask("/api/service", { name });
  const rows = found.endpoints.map((each) => [each.address, each.ports, each.conditions, each.node, each.zone]);
  const parts = [el("h3", {}, found.name), paragraph(`${found.type} ${found.addresses.join(", ")}, ports ${found.ports.join("; ")}`)];
  if (found.problem) parts.push(el("p", { class: "bad" }, `Its newest form cannot be used: ${found.problem}`));
  parts.push(table(`${rows.length} endpoints`, ["Address", "Ports", "Conditions", "Node", "Zone"], rows));
  try {
    return [...parts, ...held(await ask("/api/holders", { name }))];
  } catch (error) {
    return [...parts, el("h3", {}, "Who has it"), wrong(error)];
  }
}

async function explain(query) {
  const found = await ask("/api/explain", query);
  const fate = found.fate === "reaches" ? "reaches an endpoint" : `is ${found.fate}`;
  const parts = [el("h3", { class: found.fate === "reaches" && found.sure ? "good" : "bad" }, found.sure ? `It ${fate}` : `Not certain: it ${fate} by what is known here`)];
  if (found.failed.length) parts.push(el("p", { class: "bad" }, `The node reports failures, so its kernel does something else: ${found.failed.join("; ")}`));
  if (found.silent) parts.push(el("p", { class: "bad" }, found.silent));
  if (found.basis.text) parts.push(el("p", { class: found.sure ? "" : "bad" }, found.basis.text));
  if (found.disconnected) parts.push(el("p", { class: "bad" }, `The node has been disconnected for ${span((Date.now() - found.disconnected) / 1000)}: this is what it had then.`));
  if (found.service) parts.push(paragraph(`${found.service} ${found.frontend}`));
  parts.push(table("Decisions, in their order", ["What", "Found", "Why"], found.decisions));
  if (found.choices.length) parts.push(table("Endpoints that it may get", ["Endpoint", "Chance", "Node", "Zone", "Conditions", ""], found.choices));
  if (found.near.length) parts.push(table("Services that are near", ["Service", "Frontend", "Why"], found.near));
  if (found.assumptions.length) parts.push(el("p", { class: "soft" }, `Taken for granted: ${found.assumptions.join("; ")}`));
  return parts;
}

export async function offer() {
  const found = await ask("/api/services");
  fill(byId("services"), ...found.names.map((name) => el("option", { value: name })));
}

export function start() {
  byId("service-form").addEventListener("submit", (event) => {
    event.preventDefault();
    shown(byId("service-answer"), () => service(byId("service-name").value));
  });
  byId("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = Object.fromEntries(new FormData(event.target));
    shown(byId("explain-answer"), () => explain(query));
  });
}
