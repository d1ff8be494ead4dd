// Deliveries that are not settled, and those that the history knows: what is going on, and what came of it.

import { h } from "../dom.js";
import { foreign, number, time } from "../format.js";
import { connectorLink, nothing, outcome, queueLink, table } from "../parts.js";
import { go, to, withQuery } from "../router.js";

export const place = "deliveries";
export const title = () => "Deliveries";

/** Deliveries of one page. */
const PAGE = 200;
const STATES = ["waiting", "retrying", "dead", "done", "settled", "cancelled", "failed"];

export function load(view) {
  const { connector, queue, state, after } = view.query;
  return Promise.all([view.get("deliveries", { connector, queue, state, after, limit: PAGE }), view.get("connectors")]).then(([page, connectors]) => ({ page, connectors }));
}

export function view({ page, connectors }, view) {
  const change = (name) => (event) => go(withQuery("#/deliveries", { ...view.query, after: null, [name]: event.target.value }));
  const choice = (name, label, values, every) => h("select", { "aria-label": label, onchange: change(name) }, h("option", { value: "" }, every), values.map((value) => h("option", { value, selected: value === view.query[name] }, value)));
  const next = page.next ? h("a", { href: withQuery("#/deliveries", { ...view.query, after: page.next }) }, h("span", { class: "turn" }, "Next page")) : null;
  return h("div", {}, h("h1", {}, "Deliveries"),
    h("p", { class: "quiet" }, "What was tried and is not settled, then what the history knows, the newest first. What waits for its first attempt is counted in ", h("a", { href: "#/queues" }, "queues"), "."),
    h("div", { class: "filters", key: JSON.stringify(view.query) }, choice("connector", "Connector", connectors.map((one) => one.name), "every connector"), choice("state", "State", STATES, "every state")),
    deliveryTable(page.deliveries), next);
}

/** Also of one connector alone, on its own page. */
export function deliveryTable(rows, of = null) {
  const columns = [
    { label: "State", cell: (one) => outcome(one.state) },
    of ? null : { label: "Connector", cell: (one) => connectorLink(one.connector) },
    { label: "Queue", kind: "wide", cell: (one) => queueLink(one.queue) },
    { label: "Message", cell: (one) => h("a", { href: to`messages/${one.message_id}` }, h("code", { class: "id" }, foreign(one.message_id, 80))) },
    { label: "Attempts", kind: "number wide", cell: (one) => number(one.attempts) },
    { label: "Reason", kind: "wide", cell: (one) => (one.reason ? h("span", { class: "reason" }, foreign(one.reason, 160)) : "") },
    { label: "When", kind: "number", cell: (one) => (one.due_at ? ["again ", time(one.due_at)] : time(one.ended_at ?? one.accepted_at)) },
  ].filter(Boolean);
  const empty = nothing("Nothing to tell.", h("p", {}, "The history keeps attempts that failed; with ", h("code", {}, 'history = "all"'), " in ", h("code", {}, "[host]"), " it keeps those that succeeded too."));
  return table({ columns, rows, key: (one) => one.id, address: (one) => to`messages/${one.message_id}`, label: "Deliveries", empty });
}
