// Who changed what, and what happens now? The audit record, and events as they come.

import { h } from "../dom.js";
import { clock, counted, foreign, milliseconds, number, plain, time } from "../format.js";
import { host, onEvent } from "../live.js";
import { connectorLink, link, nothing, outcome, prose, section, state } from "../parts.js";
import { to, withQuery } from "../router.js";
import { BAD, WATCH, WELL } from "../trouble.js";

export const place = "activity";
export const title = () => "Activity";

/** Events that the page keeps. */
const EVENTS_MAX = 200;
const PAGE = 100;
const KINDS = { refusal: BAD, unusable: BAD, lost: BAD, limit: WATCH, repair: WATCH };

export const load = (view) => view.get("audit", { limit: PAGE, after: view.query.after });

export function enter(view) {
  view.state.events ??= [];
  let number = view.state.events[0]?.number ?? 0;
  view.state.unlisten = onEvent((kind, data) => {
    view.state.events = [{ kind, data, number: (number += 1) }, ...view.state.events].slice(0, EVENTS_MAX);
  });
}

export const leave = (view) => view.state.unlisten?.();

export function view(audit, view) {
  const next = audit.next ? link(withQuery("#/activity", { after: audit.next }), h("span", { class: "turn" }, "Older")) : null;
  return h("div", {}, h("h1", {}, "Activity"),
    section("As it happens", events(view.state.events ?? [])),
    section("Audit record", h("p", { class: "quiet" }, "The newest first. ", h("code", {}, "bulkhead audit verify"), " finds out whether it is as it was written."),
      audit.records.length ? h("ol", { class: "records" }, audit.records.map(record)) : nothing("The record holds nothing here."), next));
}

function events(list) {
  if (list.length === 0) {
    return host.way === "stream"
      ? nothing("Listening.", "Deliveries, log lines and changes appear here as they happen.")
      : nothing("There is no event stream now.", "The figures of all pages are asked for every 5 s instead; this page tries to listen again by itself.");
  }
  return h("div", { class: "log events", tabindex: "0" }, list.map(({ kind, data, number }) => h("div", { key: `${number}` }, event(kind, data))));
}

function event(kind, data) {
  const at = data.at ? [clock(data.at), " "] : null;
  switch (kind) {
    case "delivery":
      return [at, outcome(data.outcome), " ", connectorLink(data.connector), ` attempt ${data.attempt} `, link(to`messages/${data.message_id}`, foreign(data.message_id, 80)), h("span", { class: "quiet" }, ` ${milliseconds((data.seconds ?? 0) * 1000)} `), data.reason ? foreign(data.reason, 300) : null];
    case "held":
      return [at, state(data.is_held ? WATCH : WELL, data.is_held ? "held" : "goes on"), " ", connectorLink(data.connector), ` ${plain(data.reason)}`];
    case "log":
      return [at, h("b", {}, plain(data.level)), " ", connectorLink(data.connector), " ", foreign(data.text, 1000)];
    case "reload":
      return [at, outcome(data.outcome), " reload, asked for by ", foreign(data.asked_by ?? "?"), (data.changes ?? []).map((one) => h("div", {}, foreign(one, 1000)))];
    case "audit":
      return [at, h("b", {}, plain(`${data.kind} ${data.subject ?? ""}`)), " ", data.connector ? [connectorLink(data.connector), " "] : null, foreign(data.text ?? "", 1000)];
    case "lost":
      return state(WATCH, `${number(data.count)} events came faster than this page reads them`);
    default:
      return [at, h("b", {}, plain(kind)), " ", foreign(data.text ?? JSON.stringify(data), 1000)];
  }
}

function record(it) {
  const times = it.count > 1 ? ` ${number(it.count)} times since ` : "";
  const changes = [...(it.changes ?? []), ...(it.permissions ?? [])];
  return h("li", { key: `${it.sequence}` },
    state(KINDS[it.kind] ?? (it.reason === "refused" || it.reason === "failed" ? BAD : WELL), `${plain(it.kind)} ${plain(it.subject ?? "")} ${plain(it.reason ?? "")}`.trim()), " ",
    it.connector ? [connectorLink(it.connector), " "] : null, h("span", { class: "quiet" }, time(it.at), times, times ? time(it.since) : null),
    it.text ? h("p", { class: "foreign" }, prose(it.text)) : null,
    it.key ? h("p", { class: "quiet" }, "key ", h("code", {}, foreign(it.key))) : null,
    changes.length ? h("details", {}, h("summary", {}, counted(changes.length, it.permissions?.length ? "permission" : "change")), h("ul", {}, changes.map((one) => h("li", {}, foreign(one, 2000))))) : null);
}
