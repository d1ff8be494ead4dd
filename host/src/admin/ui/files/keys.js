// The keyboard: where a key leads, and how one walks through a list.
//
// Invariant: no key of ours works while somebody writes, or holds a modifier that is the browser's.

import { h } from "./dom.js";
import { go } from "./router.js";

export const PLACES = [
  ["o", "", "Overview"],
  ["q", "queues", "Queues"],
  ["l", "deliveries", "Deliveries"],
  ["d", "dead", "Dead letters"],
  ["s", "schedules", "Schedules"],
  ["a", "activity", "Activity"],
];
/** The second key has to follow within this time. */
const FOLLOWS_WITHIN_MS = 1_500;
const OTHERS = [["/", "search"], ["j", "next row"], ["k", "row before"], ["Enter", "open the row"], ["r", "look again now"], ["?", "these keys"], ["Esc", "close, leave a field"]];

let prefixedAt = 0;

export function start(refresh) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (handle(event.key, refresh)) event.preventDefault();
  });
}

function handle(key, refresh) {
  const place = Date.now() - prefixedAt < FOLLOWS_WITHIN_MS ? PLACES.find(([letter]) => letter === key) : null;
  prefixedAt = key === "g" ? Date.now() : 0;
  if (place) return go(`#/${place[1]}`), true;
  switch (key) {
    case "/":
      document.querySelector("#search")?.focus();
      return true;
    case "j":
      return step(1);
    case "k":
      return step(-1);
    case "Enter":
      return open();
    case "r":
      return refresh(), true;
    case "?":
      return show(), true;
    default:
      return key === "g";
  }
}

function step(by) {
  const rows = [...document.querySelectorAll("main [data-row]")];
  if (rows.length === 0) return false;
  const at = rows.findIndex((row) => row.getAttribute("data-selected") === "true");
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  rows.forEach((row) => row.removeAttribute("data-selected"));
  next.setAttribute("data-selected", "true");
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function open() {
  const row = document.activeElement?.closest?.("[data-row]");
  const isItself = row && document.activeElement === row;
  if (isItself && row.nodeName === "DETAILS") return (row.open = !row.open), true;
  if (isItself && row.dataset.row) return go(row.dataset.row), true;
  return false;
}

export function show() {
  const line = (keys, what) => h("div", {}, h("dt", {}, keys.map((key) => h("kbd", {}, key))), h("dd", {}, what));
  const lines = [...PLACES.map(([letter, , name]) => line(["g", letter], name)), ...OTHERS.map(([key, what]) => line([key], what))];
  const box = h("dialog", { "aria-label": "Keys", class: "keys" }, h("h2", {}, "Keys"), h("dl", {}, lines), h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: () => box.close() }, "Close")));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}
