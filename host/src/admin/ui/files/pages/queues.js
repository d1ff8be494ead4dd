// Every queue's state in one dense table.

import { h } from "../dom.js";
import { filterField, isWanted } from "../filter.js";
import { bytes, number, seconds } from "../format.js";
import { connectorLink, nothing, queueLink, table } from "../parts.js";
import { to } from "../router.js";

export const place = "queues";
export const title = () => "Queues";

export const load = (view) => view.get("queues");

export function view(queues, view) {
  // A row for each subscription; a queue that nobody reads has one too.
  const listed = queues.filter((one) => isWanted(view, one.queue, ...one.subscriptions.map((reader) => reader.connector)));
  const rows = listed.flatMap((queue) => (queue.subscriptions.length ? queue.subscriptions : [null]).map((reader, at) => ({ queue, reader, at })));
  const of = (show) => ({ reader }) => (reader ? show(reader) : "–");
  const columns = [
    { label: "Queue", cell: ({ queue }) => queueLink(queue.queue) },
    { label: "Reader", cell: ({ reader }) => (reader ? connectorLink(reader.connector) : h("span", { class: "quiet" }, "nobody reads it")) },
    { label: "Waiting", kind: "number", cell: of((reader) => number(reader.backlog)) },
    { label: "In flight", kind: "number wide", cell: of((reader) => number(reader.in_flight)) },
    { label: "Retrying", kind: "number wide", cell: of((reader) => number(reader.retrying)) },
    { label: "Dead", kind: "number", cell: of((reader) => number(reader.dead)) },
    { label: "Oldest", kind: "number", cell: of((reader) => seconds(reader.oldest_seconds)) },
    { label: "Messages", kind: "number wide", cell: ({ queue }) => number(queue.messages) },
    { label: "Size", kind: "number wide", cell: ({ queue }) => bytes(queue.bytes) },
  ];
  const more = () => { view.state.isWhole = true; view.redraw(); };
  return h("div", {}, h("h1", {}, "Queues"),
    h("p", { class: "quiet" }, "A message stays until every reader is done with it. ", h("code", {}, "@name"), " is the inbox of a connector: its ticks and requests."),
    filterField(view, "Filter by queue or reader"),
    table({
      columns, rows, key: ({ queue, reader }) => `${queue.queue} ${reader?.connector ?? ""}`, address: ({ queue }) => to`queues/${queue.queue}`, label: "Queues and their readers",
      more: view.state.isWhole ? null : more,
      empty: queues.length ? nothing("No queue fits the filter.") : nothing("No queue yet.", h("p", {}, "A queue needs no table of its own: it is there as soon as a connector reads it (", h("code", {}, "consume"), ") or may publish into it (", h("code", {}, "allow.publish"), ").")),
    }));
}
