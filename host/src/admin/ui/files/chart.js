// A line over the last hour, small and plain. Pure but for the reading under the pointer.
//
// Invariant: each chart says in words what it shows now and at most, and two lines differ in more than colour.

import { h, svg } from "./dom.js";

const SIZE = { width: 320, height: 72 };
const KINDS = ["one", "two", "three", "four"];

/** `title`; `lines`: `[{ name, values }]`, oldest first, null where nothing is known; `say`: a value in words. */
export function chart({ title, lines, say, step_seconds: step = 10, end }) {
  const known = lines.flatMap((line) => line.values.filter((value) => value !== null));
  const count = Math.max(2, ...lines.map((line) => line.values.length));
  const most = Math.max(0, ...known);
  const last = (line) => line.values[line.values.length - 1] ?? null;
  const summary = lines.map((line) => `${line.name} ${last(line) === null ? "–" : say(last(line))}`).join(", ");
  const legend = h("p", { class: "legend" }, lines.map((line, at) => [h("span", { class: `key ${KINDS[at]}` }), `${line.name} `, h("b", {}, last(line) === null ? "–" : say(last(line))), " "]));
  if (known.length === 0) return frame(title, [], h("p", { class: "quiet" }, "Nothing yet in the last hour."));
  const reading = h("p", { class: "reading", "data-own": true });
  const at = (index) => (index / (count - 1)) * SIZE.width;
  const height = (value) => SIZE.height - 2 - (most ? (value / most) * (SIZE.height - 6) : 0);
  const paths = lines.map((line, place) => svg("path", { class: `line ${KINDS[place]}`, d: way(line.values, count, at, height) }));
  const hair = svg("line", { class: "hair", y1: 0, y2: SIZE.height, x1: -9, x2: -9 });
  const onpointermove = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const index = Math.round(((event.clientX - box.left) / box.width) * (count - 1));
    const place = event.currentTarget.querySelector(".hair");
    place.setAttribute("x1", at(index));
    place.setAttribute("x2", at(index));
    event.currentTarget.closest("figure").querySelector(".reading").textContent = read(lines, index, count, say, step, end);
  };
  const onpointerleave = (event) => {
    event.currentTarget.querySelector(".hair").setAttribute("x1", -9);
    event.currentTarget.querySelector(".hair").setAttribute("x2", -9);
    event.currentTarget.closest("figure").querySelector(".reading").textContent = "";
  };
  const label = `${title} over the last hour: now ${summary}; at most ${say(most)}`;
  const drawing = svg("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, preserveAspectRatio: "none", role: "img", "aria-label": label, onpointermove, onpointerleave }, paths, hair);
  const axis = h("p", { class: "axis" }, h("span", {}, span(count, step)), h("span", {}, `most ${say(most)}`), h("span", {}, "now"));
  return frame(title, legend, drawing, axis, reading);
}

function frame(title, legend, ...rest) {
  return h("figure", { class: "chart" }, h("figcaption", {}, title), legend, rest);
}

/** Values that are not known interrupt the line. */
function way(values, count, at, height) {
  const offset = count - values.length;
  let [d, isDown] = ["", false];
  values.forEach((value, index) => {
    if (value === null) {
      isDown = false;
      return;
    }
    d += `${isDown ? "L" : "M"}${at(index + offset).toFixed(1)} ${height(value).toFixed(1)}`;
    if (!isDown && (values[index + 1] ?? null) === null) d += "h1";
    isDown = true;
  });
  return d;
}

function read(lines, index, count, say, step, end) {
  const values = lines.map((line) => [line.name, line.values[index - (count - line.values.length)] ?? null]);
  const when = new Date(Date.parse(end ?? new Date().toISOString()) - (count - 1 - index) * step * 1000);
  return `${when.toLocaleTimeString()}: ${values.map(([name, value]) => `${name} ${value === null ? "–" : say(value)}`).join(", ")}`;
}

const span = (count, step) => {
  const minutes = Math.round((count * step) / 60);
  return minutes < 1 ? "a moment ago" : minutes >= 60 ? "1 h ago" : `${minutes} min ago`;
};
