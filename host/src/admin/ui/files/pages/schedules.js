// What runs next, and what was missed?

import { h } from "../dom.js";
import { foreign, seconds, time } from "../format.js";
import { connectorLink, nothing, outcome, table } from "../parts.js";
import { to } from "../router.js";
import { fire } from "./connector.js";

export const place = "schedules";
export const title = () => "Schedules";

const NEXT = 5;

export const load = (view) => view.get("schedules", { next: NEXT });

export function view(schedules, view) {
  const soonest = (one) => Date.parse(one.next[0] ?? "") || Infinity;
  const rows = [...schedules].sort((a, b) => soonest(a) - soonest(b));
  const columns = [
    { label: "Connector", cell: (one) => [connectorLink(one.connector), one.schedule === "default" ? null : h("span", { class: "quiet" }, " ", foreign(one.schedule))] },
    { label: "Next", kind: "number", cell: (one) => (one.next.length ? time(one.next[0]) : h("span", { class: "quiet" }, "not enabled, or over")) },
    { label: "Then", kind: "wide", cell: (one) => h("span", { class: "quiet" }, one.next.slice(1).map((at, index) => [index ? ", " : "", time(at)])) },
    { label: "Last outcome", cell: (one) => (one.last ? [outcome(one.last.outcome), h("span", { class: "quiet" }, " ", time(one.last.ended_at))] : h("span", { class: "quiet" }, "has not run yet")) },
    { label: "Lag", kind: "number wide", cell: (one) => (one.lag_seconds === null ? "–" : one.lag_seconds < 1 ? "< 1 s" : seconds(one.lag_seconds)) },
    { label: "", cell: (one) => h("button", { type: "button", disabled: one.next.length === 0, onclick: () => fire({ name: one.connector }, [one], view) }, "Fire now") },
  ];
  const empty = nothing("No connector has a schedule.", h("p", {}, "One line adds it: ", h("code", {}, 'schedule = { every = "5m" }'), ", or ", h("code", {}, '{ cron = "0 9 * * MON-FRI", timezone = "Europe/Berlin" }'), "."));
  return h("div", {}, h("h1", {}, "Schedules"),
    h("p", { class: "quiet" }, "A tick that was missed while the host was down is made up for as its ", h("code", {}, "catch_up"), " says; ", h("b", {}, "lag"), " is how late the last one was."),
    table({ columns, rows, key: (one) => `${one.connector} ${one.schedule}`, address: (one) => to`connectors/${one.connector}`, label: "Schedules, the next first", empty }));
}
