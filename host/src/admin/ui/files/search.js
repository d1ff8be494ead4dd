// Finds a connector, a queue or a message by its name or id.
//
// Invariant: it asks when somebody begins to search, and not before.

import { get } from "./api.js";
import { h, morph } from "./dom.js";
import { foreign } from "./format.js";
import { go, to } from "./router.js";

const FOUND_MAX = 12;
let known = { connectors: [], queues: [] };
let at = 0;

export function search() {
  const input = h("input", {
    id: "search", type: "search", placeholder: "Search  /", "aria-label": "Search connectors, queues, messages", autocomplete: "off", spellcheck: "false",
    role: "combobox", "aria-expanded": "false", "aria-controls": "found", oninput: (event) => list(event.target.value), onkeydown: steer,
  });
  const found = h("div", { id: "found", role: "listbox", "data-own": true });
  return h("search", { key: "search", onpointerleave: null }, input, found);
}

document.addEventListener("focusin", (event) => {
  if (event.target.id === "search") learn();
  else if (!event.target.closest?.("search")) close();
});

async function learn() {
  const [connectors, queues] = await Promise.all([get("connectors"), get("queues")]).catch(() => [[], []]);
  known = { connectors: connectors.map((one) => one.name), queues: queues.map((one) => one.queue) };
  const input = document.querySelector("#search");
  if (input?.value) list(input.value);
}

function matches(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [];
  const from = (names, kind, way) => names.filter((name) => name.toLowerCase().includes(wanted)).map((name) => ({ kind, name, address: way(name) }));
  const found = [
    ...from(known.connectors, "connector", (name) => to`connectors/${name}`),
    ...from(known.queues, "queue", (name) => to`queues/${name}`),
  ];
  found.sort((a, b) => a.name.toLowerCase().indexOf(wanted) - b.name.toLowerCase().indexOf(wanted) || a.name.length - b.name.length);
  const id = text.trim();
  const message = { kind: "message", name: id, address: to`messages/${id}` };
  const letter = /^\d+$/.test(id) ? [{ kind: "dead letter", name: id, address: to`dead/${id}` }] : [];
  return [...found.slice(0, FOUND_MAX), ...letter, message];
}

function list(text) {
  const found = matches(text);
  at = 0;
  const items = found.map((one, index) => h("a", { role: "option", href: one.address, "aria-selected": String(index === at), onclick: close }, h("span", { class: "quiet" }, one.kind), " ", foreign(one.name, 80)));
  const box = document.querySelector("#found");
  morph(box, h("div", { id: "found", role: "listbox", class: items.length ? "shown" : null }, items));
  document.querySelector("#search").setAttribute("aria-expanded", String(items.length > 0));
}

function steer(event) {
  const items = [...document.querySelectorAll("#found a")];
  if (event.key === "Enter" && items[at]) {
    go(items[at].getAttribute("href"));
    event.target.value = "";
    event.target.blur();
    close();
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    at = Math.min(items.length - 1, Math.max(0, at + (event.key === "ArrowDown" ? 1 : -1)));
    items.forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
  } else if (event.key === "Escape") {
    close();
  }
}

function close() {
  const box = document.querySelector("#found");
  if (box) morph(box, h("div", { id: "found", role: "listbox" }));
  document.querySelector("#search")?.setAttribute("aria-expanded", "false");
}
