// The page: follows what happens, asks for a token where one is needed, and connects again when the stream ends.

import { follow, setToken } from "./asking.js";
import * as changes from "./changes.js";
import { byId, el, fill } from "./dom.js";
import * as forms from "./forms.js";
import * as heat from "./heat.js";
import * as nodes from "./nodes.js";

const AGAIN = 2000; // milliseconds
let pause = null;

function heard(name, data) {
  byId("connection").textContent = "live";
  if (name === "whole") {
    heat.begin(data.bounds, data.looks);
    nodes.whole(data.rows, data.overview);
    changes.whole(data.changes, data.stages);
    fill(byId("trouble"));
  } else if (name === "nodes") {
    nodes.take(data.rows, data.gone, data.overview);
    heat.add(data.look);
  } else if (name === "changes") {
    changes.take(data);
  } else if (name === "trouble") {
    byId("trouble").append(el("li", { class: "bad" }, `${data.what}: ${data.why}`));
  }
}

function wantToken(text) {
  byId("token").hidden = false;
  byId("token-why").textContent = text;
  byId("token-text").focus();
  return new Promise((given) => { pause = given; });
}

async function run() {
  for (;;) {
    try {
      byId("connection").textContent = "connecting";
      forms.offer().catch(() => {});
      await follow("/api/live", heard);
      byId("connection").textContent = "the stream ended; connecting again";
    } catch (error) {
      byId("connection").textContent = error.message;
      if (error.status === 401 || error.status === 403) await wantToken(error.message);
    }
    await new Promise((done) => setTimeout(done, AGAIN));
  }
}

byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token-text").value);
  byId("token-text").value = "";
  byId("token").hidden = true;
  if (pause) pause();
});
nodes.start();
changes.start();
forms.start();
heat.start();
run();
