// One dead letter: its message, its attempts in order with what each did, and what can be done about it.

import { path } from "../api.js";
import { h } from "../dom.js";
import { counted, foreign, plain, time } from "../format.js";
import * as letters from "../letters.js";
import { connectorLink, effects, facts, headers, id, payload, queueLink, section, state } from "../parts.js";
import { go, to } from "../router.js";
import { BAD } from "../trouble.js";

export const place = "dead";
export const title = (view) => `Dead letter ${view.name}`;

export const load = (view) => view.get(path`dead/${view.name}`);

export function view(letter) {
  const filter = { ids: [letter.id] };
  const what = `The message \`${plain(letter.message_id)}\` died in \`${letter.connector}\` after ${counted(letter.attempts, "attempt")}`;
  const done = () => go("#/dead");
  return h("div", {},
    h("div", { class: "heading" }, h("h1", {}, "Dead letter ", letter.id),
      h("button", { type: "button", class: "primary", onclick: () => letters.retry({ filter, what, home: letter.connector, done }) }, "Retry"),
      h("button", { type: "button", onclick: () => letters.edit({ letter, done }) }, "Edit and retry"),
      h("button", { type: "button", class: "danger", onclick: () => letters.drop({ filter, what, done }) }, "Drop")),
    h("p", { class: "why" }, state(BAD, ""), foreign(letter.reason, 4000)),
    facts([
      ["Connector", connectorLink(letter.connector)], ["Queue", queueLink(letter.queue)], ["Died", time(letter.died_at)], ["Accepted", time(letter.enqueued_at)],
      ["Attempts", String(letter.attempts)], ["Passed through", counted(letter.hops, "connector")], ["Key", letter.key ? foreign(letter.key) : null],
      ["Message", id(letter.message_id, to`messages/${letter.message_id}`)], ["Made from", letter.parent ? id(letter.parent, to`messages/${letter.parent}`) : null],
    ]),
    section("Attempts", attempts(letter)),
    section("Body", payload(letter)),
    section("Headers", headers(letter.headers)));
}

function attempts(letter) {
  const items = letter.history.map((attempt, at) => h("li", { key: `${at}` },
    h("details", { open: at === letter.history.length - 1 },
      h("summary", {}, `Attempt ${at + 1}, `, time(attempt.at), ": ", foreign(attempt.reason, 160)),
      h("p", { class: "why" }, foreign(attempt.reason, 4000)),
      attempt.started_at ? h("p", { class: "quiet" }, "It began ", time(attempt.started_at), " and did this:") : null,
      effects(attempt.effects))));
  return h("ol", { class: "attempts" }, items);
}
