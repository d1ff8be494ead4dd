// Is it well, and where not? One sentence, the data flow, and the list sorted by trouble.

import { h } from "../dom.js";
import { filterField, isWanted } from "../filter.js";
import { bytes, counted, milliseconds, number, percent, rate, seconds, time } from "../format.js";
import { drawing, fits, NODES_MAX } from "../graph.js";
import { connectorLink, facts, nothing, section, state, table } from "../parts.js";
import { to } from "../router.js";
import { byTrouble, judge, sentence, WELL } from "../trouble.js";

export const place = "";
export const title = (view) => (view.data ? sentence(view.data.connectors).text.replace(/\.$/, "") : "Overview");

const FIRST = `[connectors.hello]
plugin  = "builtin:log"
consume = "greetings"
config  = { level = "info" }
# then: bulkhead reload && bulkhead send greetings --body hello`;

export async function load(view) {
  const [status, connectors, queues] = await Promise.all([view.get("status"), view.get("connectors"), view.get("queues")]);
  // The graph is the configuration's: it changes with it alone.
  if (view.state.sha256 !== status.config_sha256 || !view.state.graph) {
    view.state.graph = await view.get("graph");
    view.state.sha256 = status.config_sha256;
  }
  return { status, connectors, queues, graph: view.state.graph };
}

export function view({ status, connectors, queues, graph }, view) {
  if (connectors.length === 0) return empty();
  const said = sentence(connectors);
  const listed = connectors.filter((one) => isWanted(view, one.name, ...judge(one).words)).sort(byTrouble);
  const total = connectors.reduce((sum, one) => sum + (one.rate_per_second ?? 0), 0);
  return h("div", {},
    h("h1", { class: "sentence" }, state(said.level, said.text)),
    said.names.length ? h("p", { class: "quiet names" }, said.names.slice(0, 6).map((name, at) => [at ? ", " : "", connectorLink(name)]), said.names.length > 6 ? ` and ${number(said.names.length - 6)} more, below` : "") : null,
    facts([
      ["Deliveries", rate(total)], ["Waiting", counted(status.backlog, "message")], ["Dead letters", number(status.dead)], ["Held", counted(status.held, "connector")],
      ["Disk", `${bytes(status.disk_free_bytes)} free`], ["Started", time(status.started_at)], ["Version", status.version],
    ]),
    section("Data flow", flow(graph, connectors, queues, view.query.q, listed)),
    section("Connectors", filterField(view, "Filter by name or trouble"), list(listed, view)));
}

function empty() {
  return h("div", {}, h("h1", { class: "sentence" }, "No connector is configured yet."), nothing("Five lines of TOML add the first one:", h("pre", {}, FIRST), "The README builds a connector of your own in five minutes."));
}

/** All of it where that can be read; otherwise what is troubled or searched for, or a plain word why not. */
function flow(graph, connectors, queues, filter, listed) {
  const names = new Set(listed.map((one) => one.name));
  const troubled = new Set(listed.filter((one) => judge(one).level > WELL).map((one) => one.name));
  const wishes = [[(name) => names.has(name), filter ? "What fits the filter" : null], [(name) => troubled.has(name), "What needs you"]];
  for (const [wanted, what] of wishes) {
    if (!fits(graph, wanted)) continue;
    const drawn = drawing(graph, connectors, queues, wanted);
    if (drawn) return [what ? h("p", { class: "quiet" }, `${what}, with what is next to it.`) : null, drawn];
  }
  const many = troubled.size ? `${counted(listed.length, "connector")}, of which ${number(troubled.size)} need you,` : counted(listed.length, "connector");
  const words = listed.length === 0 ? "Nothing fits the filter." : `${many} are too many to draw: more than ${NODES_MAX} places are scrolled, not read. Filter the list below, and what is left is drawn.`;
  return h("p", { class: "quiet" }, words);
}

function list(listed, view) {
  const columns = [
    { label: "Connector", cell: (one) => connectorLink(one.name) },
    { label: "State", cell: (one) => { const { level, words } = judge(one); return state(level, words.join(", ") || (one.running ? `${number(one.running)} running` : "well")); } },
    { label: "Rate", kind: "number", cell: (one) => rate(one.rate_per_second) },
    { label: "Errors", kind: "number wide", cell: (one) => percent(one.error_ratio) },
    { label: "p50", kind: "number wide", cell: (one) => milliseconds(one.p50_ms) },
    { label: "p99", kind: "number wide", cell: (one) => milliseconds(one.p99_ms) },
    { label: "Waiting", kind: "number", cell: (one) => number(one.backlog) },
    { label: "Oldest", kind: "number wide", cell: (one) => seconds(one.oldest_seconds) },
    { label: "Dead", kind: "number", cell: (one) => number(one.dead) },
  ];
  const more = () => { view.state.isWhole = true; view.redraw(); };
  return table({
    columns, rows: listed, key: (one) => one.name, address: (one) => to`connectors/${one.name}`, label: "Connectors, trouble first",
    empty: nothing("No connector fits the filter."), more: view.state.isWhole ? null : more,
  });
}
