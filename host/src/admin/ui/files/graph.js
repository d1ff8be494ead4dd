// The data flow as a drawing: triggers left, what is outside right, with rates, backlogs and trouble.
//
// Draws; where things stand is decided in layout.js, what is trouble in trouble.js. Invariant: what a colour says, a
// shape and words in the drawing say too.

import { h, svg } from "./dom.js";
import { compact, counted, plain, rate } from "./format.js";
import { layOut } from "./layout.js";
import { to } from "./router.js";
import { BAD, judge, WATCH, WELL } from "./trouble.js";

/** More are not read any more, only scrolled. */
export const NODES_MAX = 120;
/** Of a letter, so that a text stays in its box. */
const LETTER = { name: 7.4, note: 6.4 };
const PAD = 12;
/** A drawing no wider than this is made to fit; what is wider would be too small to read. */
const SHRINKS_BELOW = 1700;
const LEVELS = { [WELL]: "well", [WATCH]: "watch", [BAD]: "bad" };
const SHAPES = { [WELL]: "", [WATCH]: "▲ ", [BAD]: "■ " };

/**
 * `graph`: nodes and edges of the host; `connectors` and `queues`: how they stand. `wanted(name)`: whether a connector is
 * drawn, with what is next to it.
 */
export function drawing(graph, connectors, queues, wanted) {
  const part = around(graph, wanted);
  if (part.nodes.length === 0) return null;
  const layout = layOut({ ...part, nodes: part.nodes.map(({ id, kind }) => ({ id, isFirst: kind === "schedule" || kind === "webhook", isLast: kind === "outside" })) });
  const known = { connectors: new Map(connectors.map((one) => [one.name, one])), queues: new Map(queues.map((one) => [one.queue, one])) };
  const names = new Map(part.nodes.map((node) => [node.id, node]));
  const size = { width: layout.width + 2 * PAD, height: layout.height + 2 * PAD };
  const edges = layout.ways.map((way) => edge(way, names, known));
  const nodes = part.nodes.map((node) => box(node, layout.nodes.get(node.id), known));
  const label = `Data flow of ${counted(part.nodes.filter((node) => node.kind === "connector").length, "connector")}; the table below says the same`;
  return h("div", { class: `scrolls graph${size.width < SHRINKS_BELOW ? " shrinks" : ""}`, tabindex: "0" },
    svg("svg", { ...size, viewBox: `${-PAD} ${-PAD} ${size.width} ${size.height}`, role: "group", "aria-label": label }, arrowhead(), edges, nodes));
}

/** Whether all of it can be drawn. */
export function fits(graph, wanted) {
  return around(graph, wanted).nodes.length <= NODES_MAX;
}

/** The connectors that are wanted, and all that is next to them. */
function around({ nodes, edges }, wanted) {
  const isWanted = new Set(nodes.filter((node) => node.kind === "connector" && wanted(node.name)).map((node) => node.id));
  const kept = new Set(isWanted);
  const beside = edges.filter((one) => isWanted.has(one.from) || isWanted.has(one.to));
  beside.forEach((one) => kept.add(one.from).add(one.to));
  const inner = edges.filter((one) => kept.has(one.from) && kept.has(one.to));
  return { nodes: nodes.filter((node) => kept.has(node.id)), edges: inner };
}

function arrowhead() {
  const shape = svg("path", { d: "M0 0 L8 4 L0 8 z" });
  return svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, shape));
}

function edge({ edge: it, points }, names, known) {
  const said = flow(it, names.get(it.from), names.get(it.to), known);
  const [first, ...rest] = points;
  let d = `M${first.x} ${first.y}`;
  let [before, middle] = [first, null];
  for (const point of rest) {
    const reach = Math.max(24, Math.abs(point.x - before.x) / 2) * Math.sign(point.x - before.x || 1);
    d += ` C${before.x + reach} ${before.y} ${point.x - reach} ${point.y} ${point.x} ${point.y}`;
    middle = { x: (before.x + point.x) / 2, y: (before.y + point.y) / 2 };
    before = point;
  }
  // What flows above the line, what waits below it.
  const label = [[said.flows, -4], [said.waits, 12]].map(([text, away]) => (text ? svg("text", { x: middle.x, y: middle.y + away, class: `flow ${LEVELS[said.level]}` }, text) : null));
  return svg("g", { key: `${it.from} ${it.to} ${it.kind ?? ""}`, class: "edge" }, svg("path", { d, class: LEVELS[said.level], "marker-end": "url(#arrow)" }), label);
}

/** What an edge carries: into a connector its rate, out of a queue what waits there for it. */
function flow(of, from, to, known) {
  if (to.kind !== "connector") return { level: WELL, flows: of.kind === "dead_letters" || of.kind === "route" ? of.label : "" };
  const reader = known.connectors.get(to.name);
  const waiting = from.kind === "queue" && known.queues.get(from.name)?.subscriptions.find((one) => one.connector === to.name)?.backlog;
  const level = waiting && reader ? judge(reader).level : WELL;
  return { level, flows: reader?.rate_per_second ? rate(reader.rate_per_second) : "", waits: waiting ? `${compact(waiting)} wait` : "" };
}

function box(node, { x, y, width, height }, known) {
  const { level, note, address } = about(node, known);
  const text = (of, letter) => {
    const most = Math.floor((width - 16) / letter);
    return of.length > most ? `${of.slice(0, most - 1)}…` : of;
  };
  const name = plain(node.kind === "outside" ? node.label.replace(/^https:\/\//, "") : node.label);
  const full = `${node.kind} ${name}${note ? `: ${note}` : ""}`;
  const parts = [
    svg("title", {}, full),
    svg("rect", { width, height, rx: node.kind === "connector" ? 6 : node.kind === "queue" ? 3 : height / 2 }),
    svg("text", { x: 10, y: note ? 18 : 27, class: "name" }, text(name, LETTER.name)),
    note ? svg("text", { x: 10, y: 34, class: "note" }, text(`${SHAPES[level]}${note}`, LETTER.note)) : null,
  ];
  const it = { class: `node ${node.kind} ${LEVELS[level]}`, transform: `translate(${x} ${y})`, key: node.id };
  return address ? svg("a", { ...it, href: address, "aria-label": full }, parts) : svg("g", it, parts);
}

function about(node, known) {
  if (node.kind === "connector") {
    const connector = known.connectors.get(node.name);
    if (!connector) return { level: WELL, note: "", address: to`connectors/${node.name}` };
    const { level, short } = judge(connector);
    const note = short ?? (connector.rate_per_second ? rate(connector.rate_per_second) : "idle");
    return { level, note, address: to`connectors/${node.name}` };
  }
  if (node.kind === "queue") {
    const readers = known.queues.get(node.name)?.subscriptions ?? [];
    const backlog = readers.reduce((sum, one) => sum + one.backlog, 0);
    return { level: WELL, note: backlog ? `queue · ${compact(backlog)} wait` : "queue", address: to`queues/${node.name}` };
  }
  return { level: WELL, note: node.kind, address: null };
}
