// Is it moving? Backlog and age of each reader over time; what lies in it; putting a message in.

import { act, path } from "../api.js";
import { chart } from "../chart.js";
import { ask, field } from "../dialog.js";
import { h } from "../dom.js";
import { bytes, counted, foreign, number, seconds, time } from "../format.js";
import { connectorLink, copyButton, facts, headers, id, nothing, payload, section, table } from "../parts.js";
import { to } from "../router.js";

export const place = "queues";
export const title = (view) => `Queue ${view.name}`;

const PAGE = 50;
const LINES_MAX = 4;

export async function load(view) {
  const [queue, series, page] = await Promise.all([
    view.get(path`queues/${view.name}`),
    view.get("series", { queue: view.name }),
    view.get(path`queues/${view.name}/messages`, { limit: PAGE, after: view.query.after }),
  ]);
  return { queue, series, page };
}

export function view({ queue, series, page }, view) {
  const policy = queue.policy ?? {};
  const isInbox = queue.queue.startsWith("@");
  return h("div", {},
    h("div", { class: "heading" }, h("h1", {}, isInbox ? "Inbox " : "Queue ", foreign(queue.queue)), isInbox ? null : h("button", { type: "button", onclick: () => send(queue, view) }, "Send a message")),
    facts([
      ["Messages", number(queue.messages)], ["Size", bytes(queue.bytes)], ["At most", policy.max_bytes ? bytes(policy.max_bytes) : null],
      ["Order", policy.ordering], ["Kept for", policy.retention_seconds ? seconds(policy.retention_seconds) : null],
      ["Doubles dropped within", policy.dedup_seconds ? seconds(policy.dedup_seconds) : null], ["Expires after", policy.expires_seconds ? seconds(policy.expires_seconds) : null], ["Kept although settled", policy.keep_seconds ? seconds(policy.keep_seconds) : null], ["Largest message", policy.message_bytes ? bytes(policy.message_bytes) : null],
    ]),
    section("Readers", readers(queue), charts(series)),
    section("Messages", messages(page, view)));
}

function readers(queue) {
  const columns = [
    { label: "Reader", cell: (one) => connectorLink(one.connector) },
    { label: "Waiting", kind: "number", cell: (one) => number(one.backlog) },
    { label: "In flight", kind: "number", cell: (one) => number(one.in_flight) },
    { label: "Retrying", kind: "number wide", cell: (one) => number(one.retrying) },
    { label: "Dead", kind: "number", cell: (one) => number(one.dead) },
    { label: "Oldest", kind: "number", cell: (one) => seconds(one.oldest_seconds) },
  ];
  const empty = nothing("Nobody reads this queue.", h("p", {}, "What is put into it waits for as long as the queue keeps messages. A connector reads it with ", h("code", {}, "consume"), "."));
  return table({ columns, rows: queue.subscriptions, key: (one) => one.connector, address: (one) => to`connectors/${one.connector}`, label: "Readers", empty });
}

function charts(series) {
  const own = Object.entries(series.subscriptions ?? {}).slice(0, LINES_MAX);
  if (own.length === 0) return null;
  const { step_seconds, end } = series;
  const lines = (name) => own.map(([connector, it]) => ({ name: connector, values: it[name] }));
  return h("div", { class: "charts" },
    chart({ title: "Waiting", lines: lines("backlog"), say: (value) => number(Math.round(value)), step_seconds, end }),
    chart({ title: "Age of the oldest", lines: lines("oldest_seconds"), say: seconds, step_seconds, end }));
}

function messages(page, view) {
  const rows = page.messages;
  const empty = nothing(view.query.after ? "There are no more." : "Nothing lies in it.", "What every reader is done with is removed.");
  if (rows.length === 0) return empty;
  const items = rows.map((one) => h("details", { key: one.position, class: "row", "data-row": "", tabindex: "-1" },
    h("summary", {}, h("code", { class: "id" }, foreign(one.id, 120)), h("span", { class: "quiet" }, " accepted ", time(one.accepted_at), one.redriven_to ? [", again for ", foreign(one.redriven_to)] : null, one.due_at ? [", due ", time(one.due_at)] : null, one.key ? [", key ", foreign(one.key, 60)] : null, `, ${bytes(one.body_bytes)}`)),
    h("p", {}, h("a", { href: to`messages/${one.id}` }, "Where has it been?"), " ", copyButton(one.id, "copy the id")), one.is_damaged ? h("p", { class: "why" }, "It is not what was stored: nothing of it is shown.") : null, headers(one.headers), payload(whole(view, one) ?? one),
    one.is_cut && !whole(view, one) ? h("button", { type: "button", onclick: () => readWhole(view, one) }, "Show the whole body") : null));
  const next = page.next ? h("a", { href: `${to`queues/${view.name}`}?after=${encodeURIComponent(page.next)}` }, "Next page") : null;
  const first = view.query.after ? h("a", { href: to`queues/${view.name}` }, "From the oldest again") : null;
  return h("div", {}, h("p", { class: "quiet" }, "The oldest first. Looking takes nothing out. ", first), items, next);
}

const whole = (view, one) => view.state.whole?.get(one.position);

async function readWhole(view, one) {
  const { messages: [found] } = await view.get(path`queues/${view.name}/messages`, { whole: one.position });
  (view.state.whole ??= new Map()).set(one.position, found);
  view.redraw();
}

function send(queue, view) {
  const body = h("textarea", { rows: 8, spellcheck: "false" });
  const key = h("input", { type: "text" });
  const lines = h("textarea", { rows: 2, spellcheck: "false", placeholder: "name: value" });
  const readers = queue.subscriptions.map((one) => one.connector);
  const who = readers.length === 0 ? "nobody reads it yet" : `read by ${readers.map((name) => `\`${name}\``).join(", ")}`;
  ask({
    title: `Send a message into ${queue.queue}`,
    explain: `This puts one message into \`${queue.queue}\`, ${who}. It is delivered like any other.`,
    fields: [field("Body", body), field("Key", key, "What it is ordered by; may be left out."), field("Headers", lines, "One a line; may be left out.")],
    verb: "Send one message",
    run: async () => {
      const given = lines.value.split("\n").filter((line) => line.trim());
      const pairs = given.map((line) => [line.split(":", 1)[0].trim(), line.slice(line.indexOf(":") + 1).trim()]);
      if (given.some((line) => !line.includes(":"))) throw new Error("a header is `name: value`, one a line");
      const answer = await act("POST", path`queues/${queue.queue}/messages`, { body: body.value, headers: pairs, ...(key.value ? { key: key.value } : {}) });
      return `${counted(answer.ids.length, "message")} accepted: \`${answer.ids[0]}\`.`;
    },
    done: view.refresh,
  });
}
