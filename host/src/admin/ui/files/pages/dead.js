// What failed, why, and how many alike? Groups by reason, and the letters of a group.

import { h } from "../dom.js";
import { counted, foreign, number, plain, time } from "../format.js";
import * as letters from "../letters.js";
import { connectorLink, nothing, queueLink, section, table } from "../parts.js";
import { go, to, withQuery } from "../router.js";

export const place = "dead";
export const title = () => "Dead letters";

/** Letters of one page. */
const PAGE = 1000;

export async function load(view) {
  const { connector, queue, reason, group } = view.query;
  const filter = { connector, queue, reason, group };
  const isFiltered = Boolean(connector || queue || reason || group);
  const [groups, list, connectors] = await Promise.all([
    view.get("dead/groups", filter),
    isFiltered ? view.get("dead", { ...filter, after: view.query.after, limit: PAGE }) : null,
    view.get("connectors"),
  ]);
  return { groups, list, connectors };
}

export function view({ groups, list, connectors }, view) {
  const total = groups.reduce((sum, one) => sum + one.count, 0);
  const { connector, queue, reason, group } = view.query;
  const given = Object.fromEntries(Object.entries({ connector, queue, reason, group }).filter(([, value]) => value));
  const isFiltered = Object.keys(given).length > 0;
  const what = isFiltered ? `${counted(total, "dead letter")} ${words(given)}` : `All ${counted(total, "dead letter")}, of every connector`;
  const home = connector ?? "where each died";
  const act = total === 0 ? null : [
    h("button", { type: "button", class: "primary", onclick: () => letters.retry({ filter: given, what, home, done: view.refresh }) }, isFiltered ? "Retry these" : "Retry all"),
    h("button", { type: "button", class: "danger", onclick: () => letters.drop({ filter: given, what, done: view.refresh }) }, isFiltered ? "Drop these" : "Drop all"),
  ];
  return h("div", {},
    h("div", { class: "heading" }, h("h1", {}, "Dead letters"), act),
    filters(view, connectors),
    total === 0 ? none(isFiltered) : [
      section(`${counted(total, "letter")} in ${counted(groups.length, "group")}`, table({ columns: columns(view), rows: groups, key: (one) => one.reason, address: (one) => ofGroup(one, view), label: "Groups" })),
      list ? section("Letters", each(list, view)) : null,
    ]);
}

function words({ connector, queue, reason, group }) {
  return [connector ? `of \`${plain(connector)}\`` : "", queue ? `from \`${plain(queue)}\`` : "", reason ? `whose reason contains “${plain(reason)}”` : "", group ? `that died of “${plain(group)}”` : ""].filter(Boolean).join(" ");
}

function ofGroup(one, view) {
  const only = one.connectors.length === 1 ? one.connectors[0] : view.query.connector;
  return withQuery("#/dead", { ...view.query, after: null, connector: only, group: one.reason });
}

function columns(view) {
  return [
    { label: "Reason", cell: (one) => h("a", { href: ofGroup(one, view), class: "reason" }, foreign(one.reason || "(no reason)")) },
    { label: "Connector", cell: (one) => one.connectors.map((name, at) => [at ? ", " : "", h("a", { href: withQuery("#/dead", { connector: name, group: one.reason }) }, foreign(name))]) },
    { label: "Letters", kind: "number", cell: (one) => number(one.count) },
    { label: "First", kind: "number wide", cell: (one) => time(one.first_died_at) },
    { label: "Last", kind: "number", cell: (one) => time(one.last_died_at) },
  ];
}

function filters(view, connectors) {
  const change = (name) => (event) => go(withQuery("#/dead", { ...view.query, after: null, [name]: event.target.value }));
  const dying = connectors.filter((one) => one.dead > 0 || one.name === view.query.connector);
  const option = (value, text) => h("option", { value, selected: value === (view.query.connector ?? "") }, text);
  const choice = h("select", { "aria-label": "Connector", onchange: change("connector") }, option("", "every connector"), dying.map((one) => option(one.name, `${one.name} (${number(one.dead)})`)));
  const reason = h("input", { type: "search", "aria-label": "Reason contains", placeholder: "Reason contains", value: view.query.reason ?? "", onchange: change("reason") });
  const group = view.query.group ? h("p", { class: "quiet" }, "Only what died of ", foreign(view.query.group), ". ", h("a", { href: withQuery("#/dead", { ...view.query, group: null, after: null }) }, "Show all groups")) : null;
  return h("div", { class: "filters", key: JSON.stringify([view.query.connector, view.query.reason]) }, choice, reason, group);
}

function none(isFiltered) {
  return isFiltered
    ? nothing("No dead letter fits.", h("p", {}, h("a", { href: "#/dead" }, "Show all")))
    : nothing("Nothing has failed.", "A message whose attempts are used up, or that its connector rejects, is kept here: with its reasons, to be delivered again, edited or dropped.");
}

function each(list, view) {
  const last = list[list.length - 1];
  const rows = table({
    columns: [
      { label: "Letter", cell: (one) => h("a", { href: to`dead/${one.id}` }, one.id) },
      { label: "Connector", cell: (one) => connectorLink(one.connector) },
      { label: "Queue", kind: "wide", cell: (one) => queueLink(one.queue) },
      { label: "Reason", cell: (one) => h("span", { class: "reason" }, foreign(one.reason, 200)) },
      { label: "Attempts", kind: "number wide", cell: (one) => number(one.attempts) },
      { label: "Died", kind: "number", cell: (one) => time(one.died_at) },
    ],
    rows: list, key: (one) => one.id, address: (one) => to`dead/${one.id}`, label: "Letters", empty: nothing("There are no more."),
    more: view.state.isWhole ? null : () => { view.state.isWhole = true; view.redraw(); },
  });
  const next = list.length >= PAGE ? h("a", { href: withQuery("#/dead", { ...view.query, after: last.id }) }, h("span", { class: "turn" }, "Next page")) : null;
  return h("div", {}, h("p", { class: "quiet" }, "The oldest first."), rows, next);
}
