// One connector: what does it do, what may it do, how is it doing?

import { act, path } from "../api.js";
import { chart } from "../chart.js";
import { ask, field } from "../dialog.js";
import { h } from "../dom.js";
import { bytes, counted, foreign, milliseconds, number, percent, plain, rate, seconds, time } from "../format.js";
import { facts, id, logLines, nothing, outcome, prose, queueLink, section, state } from "../parts.js";
import { logTail } from "../log.js";
import { withQuery } from "../router.js";
import { judge } from "../trouble.js";
import { deliveryTable } from "./deliveries.js";

export const place = "";
export const title = (view) => view.name;

const DELIVERIES = 20;

export async function load(view) {
  const name = view.name;
  const [connector, series, deliveries, logs] = await Promise.all([
    view.get(path`connectors/${name}`),
    view.get("series", { connector: name }),
    view.get("deliveries", { connector: name, limit: DELIVERIES }),
    view.get(path`connectors/${name}/logs`, { after: view.state.logs?.next }),
  ]);
  view.state.logs = logTail(view.state.logs, logs);
  const isScheduled = connector.triggers.some((one) => one.kind === "schedule");
  const schedules = isScheduled ? await view.get("schedules", { next: 1 }) : [];
  return { connector, series, deliveries: deliveries.deliveries, schedules: schedules.filter((one) => one.connector === name) };
}

export function view({ connector, series, deliveries, schedules: standing }, view) {
  const { level, words, help } = judge(connector);
  const isHeld = connector.held.includes("paused") || connector.held.includes("brake");
  const schedules = connector.triggers.filter((one) => one.kind === "schedule");
  return h("div", {},
    h("div", { class: "heading" }, h("h1", {}, foreign(connector.name)), state(level, words.join(", ") || "well"),
      h("button", { type: "button", class: isHeld ? "primary" : null, onclick: () => (isHeld ? resume(connector, view) : pause(connector, view)) }, isHeld ? "Resume" : "Pause"),
      schedules.length ? h("button", { type: "button", onclick: () => fire(connector, schedules, view) }, "Fire now") : null),
    help.length ? h("p", { class: "help" }, prose(help.join(" "))) : null,
    connector.last_failure ? h("p", { class: "quiet" }, "Last failure ", time(connector.last_failure.at), ": ", foreign(connector.last_failure.reason, 300)) : null,
    facts([
      ["Rate", rate(connector.rate_per_second)], ["Errors", percent(connector.error_ratio)], ["p50", milliseconds(connector.p50_ms)], ["p99", milliseconds(connector.p99_ms)],
      ["Running", number(connector.running)], ["Waiting", number(connector.backlog)], ["Oldest", seconds(connector.oldest_seconds)],
      ["Dead letters", connector.dead ? h("a", { href: withQuery("#/dead", { connector: connector.name }) }, number(connector.dead)) : "0"],
    ]),
    charts(series),
    h("div", { class: "halves" },
      section("What it may do", rights(connector)),
      section("What starts it, and where it goes", triggers(connector, standing))),
    section("Recent deliveries", deliveryTable(deliveries, connector.name), deliveries.length ? h("a", { href: withQuery("#/deliveries", { connector: connector.name }) }, h("span", { class: "turn" }, "All of them")) : null),
    section("Log", lines(view.state.logs)),
    section("Settings", settings(connector)));
}

function charts(series) {
  const { step_seconds, end } = series;
  // The step that is under way would look like a fall; a host that has just started has no other.
  const isFirst = series.done.length === 1;
  const over = (values) => (isFirst ? values : values.slice(0, -1));
  const step = isFirst ? Math.max(1, series.last_step_seconds) : step_seconds;
  const perSecond = (values) => over(values).map((value) => value / step);
  const whole = (value) => number(Math.round(value));
  return h("div", { class: "charts" },
    chart({ title: "Attempts", lines: [{ name: "done", values: perSecond(series.done) }, { name: "retried", values: perSecond(series.retry) }, { name: "died", values: perSecond(series.dead) }], say: rate, step_seconds, end }),
    chart({ title: "Time an attempt takes", lines: [{ name: "p50", values: over(series.p50_ms) }, { name: "p99", values: over(series.p99_ms) }], say: milliseconds, step_seconds, end }),
    chart({ title: "Waiting", lines: [{ name: "messages", values: series.backlog }], say: whole, step_seconds, end }));
}

function rights(connector) {
  const list = connector.rights ?? [];
  const own = h("p", { class: "quiet" }, "Its own state, log lines and metrics reach nobody else and need no grant.");
  if (list.length === 0) return [nothing("Nothing: no grant, no effect."), own];
  return [h("ul", { class: "rights" }, list.map((right) => h("li", {}, prose(right)))), h("p", { class: "quiet" }, "Nothing else."), own];
}

function triggers(connector, standing) {
  const last = (one) => standing.find((it) => it.schedule === one.schedule)?.last;
  const items = connector.triggers.map((one) => h("li", {}, trigger(one, last(one))));
  const goes = connector.publishes.map((queue) => h("li", {}, "publishes into ", queueLink(queue)));
  const asks = (connector.hosts ?? []).map((host) => h("li", {}, "asks ", h("code", {}, foreign(host))));
  const none = items.length === 0 ? h("li", { class: "quiet" }, "nothing starts it") : null;
  return h("ul", { class: "rights" }, items, none, goes, asks);
}

function trigger(one, last) {
  if (one.kind === "queue") return ["reads ", queueLink(one.queue)];
  if (one.kind === "schedule") return ["schedule ", h("b", {}, foreign(one.schedule)), one.times ? [" (", foreign(one.times), ")"] : null, one.next?.length ? [", next ", time(one.next[0])] : ", no next time", last ? [", last ", outcome(last.outcome), " ", time(last.ended_at)] : null, " ", h("a", { href: "#/schedules" }, "schedules")];
  return ["takes ", one.methods?.join(", ") ?? "requests", " at ", h("code", {}, foreign(one.path)), one.publish ? [", and stores them in ", queueLink(one.publish)] : null];
}

function lines(logs) {
  const list = logs?.lines ?? [];
  if (list.length === 0) return nothing("It has not logged anything since the host started.");
  return logLines(list, "Log, the newest last");
}

function settings(connector) {
  const table = (values) => facts(Object.entries(values ?? {}).map(([name, value]) => [name.replace(/_(ms|seconds)$/, "").replaceAll("_", " "), setting(name, value)]));
  return h("details", {}, h("summary", {}, "Plugin, limits and retries"),
    facts([["Plugin", h("code", {}, foreign(connector.plugin ?? "none: requests are stored"))], ["SHA-256", connector.plugin_sha256 ? id(connector.plugin_sha256) : null], ["Since the start", totals(connector.totals)]]),
    h("h3", {}, "Limits"), table(connector.limits), h("h3", {}, "Retries"), table(connector.retry));
}

const SIZES = ["memory", "message", "log", "state", "hostcall"];

function setting(name, value) {
  if (value === null) return "–";
  if (typeof value !== "number") return foreign(Array.isArray(value) ? value.join(", ") || "all" : String(value));
  if (name.endsWith("_bytes") || SIZES.includes(name)) return bytes(value);
  if (name.endsWith("_ms")) return milliseconds(value);
  return name.endsWith("_seconds") ? seconds(value) : number(value);
}

const totals = (it) => (it ? `${number(it.done)} done, ${number(it.retry)} retried, ${number(it.dead)} died` : null);

function pause(connector, view) {
  ask({
    title: `Pause ${connector.name}`,
    explain: `No run of \`${connector.name}\` starts until it is resumed, also over restarts. What runs now ends. ${counted(connector.backlog, "message waits", "messages wait")} for it, and more may come: they are kept.`,
    verb: "Pause 1 connector",
    run: () => act("POST", path`connectors/${connector.name}/pause`).then(() => `\`${connector.name}\` is paused.`),
    done: view.refresh,
  });
}

function resume(connector, view) {
  const brake = connector.held.includes("brake") ? " Its brake is taken off: if the cause is not mended, it stops again after so many dead letters." : "";
  ask({
    title: `Resume ${connector.name}`,
    explain: `\`${connector.name}\` goes on with ${counted(connector.backlog, "message")} that wait for it.${brake}`,
    verb: "Resume 1 connector",
    run: () => act("POST", path`connectors/${connector.name}/resume`).then(() => `\`${connector.name}\` goes on.`),
    done: view.refresh,
  });
}

/** Also for the page of schedules. */
export function fire(connector, schedules, view) {
  const choice = h("select", {}, schedules.map((one) => h("option", { value: one.schedule }, one.schedule)));
  ask({
    title: `Fire ${connector.name} now`,
    explain: `This makes 1 tick beside those that are planned; \`${connector.name}\` runs for it as soon as it can. The plan stays as it is.`,
    fields: schedules.length > 1 ? [field("Schedule", choice)] : [],
    verb: "Make 1 tick",
    run: async () => {
      const fired = await act("POST", path`schedules/${connector.name}/fire`, { schedule: choice.value });
      return fired.duplicate ? "There is a tick of this time already: nothing was added." : `Tick \`${fired.id}\` is on its way.`;
    },
    done: view.refresh,
  });
}
