// Where has it been? The tree of a message as a timeline, from what it was made of to every receiver.

import { path } from "../api.js";
import { h, svg } from "../dom.js";
import { clock, foreign, milliseconds, time } from "../format.js";
import { connectorLink, effects, id, logLines, nothing, outcome, prose, queueLink, section, state } from "../parts.js";
import { to } from "../router.js";
import { WATCH } from "../trouble.js";

export const place = "deliveries";
export const title = (view) => `Message ${view.name}`;

/** The host looks through all of its ledger for it: not again and again. */
export const isStill = true;

/** The width of a line of the timeline in its own units. */
const WIDTH = 1000;
const BAR_MIN = 6;

/** Connectors whose log lines are looked for, and lines of each. */
const LOGS_MAX = 8;
const LINES_MAX = 500;

export async function load(view) {
  const tree = await view.get(path`messages/${view.name}`);
  const names = new Set();
  const walk = (node) => (node.attempts.forEach((one) => names.add(one.connector)), node.children.forEach(walk));
  [...tree.ancestors, tree.message].forEach(walk);
  // A connector that has left the configuration has no log any more.
  const logs = [...names].slice(0, LOGS_MAX).map((name) => view.get(path`connectors/${name}/logs`, { limit: LINES_MAX }).then((log) => log.lines, () => []));
  return { tree, lines: (await Promise.all(logs)).flat() };
}

export function view({ tree, lines: logged }, view) {
  const whole = [...tree.ancestors.map((node) => ({ ...node, children: [] })), tree.message];
  const range = reach(whole);
  const rows = [...tree.ancestors.flatMap((node, depth) => lines({ ...node, children: [] }, depth, { range, logged })), ...lines(tree.message, tree.ancestors.length, { range, logged }, view.name)];
  return h("div", {},
    h("h1", {}, "Message ", id(view.name)),
    tree.is_complete ? null : h("p", {}, state(WATCH, "Not all was looked through: something may be missing here.")),
    range ? h("p", { class: "quiet" }, "From ", clock(new Date(range.from).toISOString()), ", ", time(new Date(range.from).toISOString()), `, over ${milliseconds(range.until - range.from)}.`) : null,
    section("Timeline", rows.length ? h("div", { class: "timeline" }, rows) : nothing("The ledger knows nothing of it any more.")),
    h("p", { class: "quiet" }, prose(tree.note), " As of now: ", h("kbd", {}, "r"), " looks again."));
}

function reach(nodes) {
  const times = [];
  const walk = (node) => {
    node.copies.forEach((copy) => times.push(copy.accepted_at, copy.due_at, ...copy.deliveries.map((one) => one.at)));
    node.attempts.forEach((attempt) => times.push(attempt.started_at, attempt.ended_at));
    node.children.forEach(walk);
  };
  nodes.forEach(walk);
  const known = times.map((text) => Date.parse(text ?? "")).filter((at) => !Number.isNaN(at));
  if (known.length === 0) return null;
  const [from, until] = [Math.min(...known), Math.max(...known)];
  return { from, until: Math.max(until, from + 1) };
}

/** A message, its attempts below it, and below those what was made of it. */
function lines(node, depth, known, meant = null) {
  const { range } = known;
  const made = node.copies.flatMap((copy) => copy.deliveries.map((delivery) => standing(copy, delivery, depth, range)));
  const places = node.copies.map((copy) => [queueLink(copy.queue), " ", outcome(copy.place === "queue" ? "in its queue" : copy.place), " "]);
  const accepted = node.copies[0]?.accepted_at;
  const head = line(depth, "message", range, accepted, accepted,
    [h("span", { class: node.message_id === meant ? "meant" : null }, id(node.message_id, to`messages/${node.message_id}`)), " ", node.copies.length ? places : h("span", { class: "quiet" }, "no longer in a queue"), accepted ? [" accepted ", clock(accepted)] : null]);
  const attempts = node.attempts.map((attempt) => tried(node.message_id, attempt, depth, known));
  return [head, ...attempts, ...made, ...node.children.flatMap((child) => lines(child, depth + 1, known, meant))];
}

function tried(message, attempt, depth, { range, logged }) {
  const delivery = `${attempt.connector}:${attempt.queue}:${message}`;
  const said = logged.filter((one) => one.delivery === delivery && one.attempt === attempt.attempt);
  const took = Date.parse(attempt.ended_at) - Date.parse(attempt.started_at);
  const label = [connectorLink(attempt.connector), ` attempt ${attempt.attempt} `, outcome(attempt.outcome), h("span", { class: "quiet" }, " ", clock(attempt.started_at), `, ${milliseconds(took)}`)];
  const more = [h("p", {}, "From ", queueLink(attempt.queue), "."), attempt.reason ? h("p", { class: "why" }, foreign(attempt.reason, 4000)) : null, effects(attempt.effects), said.length ? logLines(said, "Log of this attempt") : null];
  return line(depth, `attempt ${attempt.outcome}`, range, attempt.started_at, attempt.ended_at, label, more);
}

/** How far a delivery is; failed attempts that the history does not have are told here. */
function standing(copy, delivery, depth, range) {
  const when = delivery.at ?? copy.accepted_at;
  const verb = { dead: " since ", retrying: ", next attempt " }[delivery.state] ?? "";
  const letter = copy.letter && delivery.state === "dead" ? h("a", { href: to`dead/${copy.letter}` }, `dead letter ${copy.letter}`) : null;
  const label = [connectorLink(delivery.connector), " ", outcome(delivery.state), verb && delivery.at ? [verb, time(delivery.at)] : null, " ", letter];
  const failed = delivery.history.map((attempt, at) => h("li", {}, `attempt ${at + 1}, `, time(attempt.at), ": ", foreign(attempt.reason, 1000)));
  return line(depth, `standing ${delivery.state}`, range, when, when, label, failed.length ? [h("ol", {}, failed)] : null);
}

function line(depth, kind, range, from, until, label, more = null) {
  const indent = Math.min(depth, 6);
  const bar = range && from ? drawn(kind, range, Date.parse(from), Date.parse(until)) : null;
  const text = h("div", { class: `label depth${indent}` }, more ? h("details", {}, h("summary", {}, label), more) : label);
  return h("div", { class: `entry ${kind}` }, text, h("div", { class: "track" }, bar));
}

function drawn(kind, range, from, until) {
  const scale = (WIDTH - BAR_MIN) / (range.until - range.from);
  const x = (from - range.from) * scale;
  return svg("svg", { viewBox: `0 0 ${WIDTH} 10`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: kind, x: x.toFixed(1), y: 1, width: Math.max(BAR_MIN, (until - from) * scale).toFixed(1), height: 8 }));
}
