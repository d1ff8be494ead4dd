// What can be done to dead letters: deliver again, edit, drop. Each says what it will do, with a count, before it does.
//
// Invariant: what is dropped is what was counted: as long as there are no more than a page of them, they are named one by
// one, and a letter that came meanwhile stays.

import { act, get } from "./api.js";
import { ask, field } from "./dialog.js";
import { h } from "./dom.js";
import { counted, plain } from "./format.js";

/** Letters of one page of the API. */
const PAGE = 1000;

/** The filter itself, or the ids that it means now where these are not too many. */
async function exactly(filter) {
  if (filter.ids) return filter;
  const letters = await get("dead", { ...filter, limit: PAGE });
  return letters.length < PAGE ? { ids: letters.map((letter) => letter.id) } : filter;
}

async function foresee(verb, filter, more = {}) {
  const exact = await exactly(filter);
  if (exact.ids?.length === 0) return { count: 0, filter: exact, words: "There are none any more." };
  const { count } = await act("POST", `dead/${verb}`, { filter: exact, ...more, dry_run: true });
  return { count, filter: exact };
}

/** `what`: the group or the letter in words; `home`: where they are delivered. */
export function retry({ filter, what, home, done }) {
  const to = h("input", { type: "text", placeholder: home, spellcheck: "false", autocomplete: "off" });
  const rate = h("input", { type: "text", placeholder: "all at once", spellcheck: "false", autocomplete: "off" });
  const options = () => ({ ...(to.value.trim() ? { to: to.value.trim() } : {}), ...(rate.value.trim() ? { rate: rate.value.trim() } : {}) });
  const isOne = filter.ids?.length === 1;
  ask({
    title: isOne ? "Deliver it again" : "Deliver them again",
    explain: `${what}. Attempts begin at one again, with the same message id; ${isOne ? "nobody but the connector where it died sees it" : "nobody but the connector where each died sees them"} again.`,
    fields: [field("To", to, "Another connector; where it died, if left empty."), isOne ? null : field("Rate", rate, "No more than so many in a time, as in `10/s` or `100/m`.")].filter(Boolean),
    verb: ({ count }) => `Deliver ${counted(count, "letter")} again`,
    prepare: async () => {
      const seen = await foresee("retry", filter, options());
      const where = to.value.trim() || home;
      const pace = rate.value.trim() ? `, at \`${rate.value.trim()}\`` : "";
      return { ...seen, words: seen.words ?? `${counted(seen.count, "dead letter")} will be delivered to \`${plain(where)}\`${pace}. What fails again becomes a dead letter again.` };
    },
    run: async (seen) => {
      const { count } = await act("POST", "dead/retry", { filter: seen.filter, ...options() });
      return `${counted(count, "dead letter")} delivered again.`;
    },
    done,
  });
}

export function drop({ filter, what, done }) {
  ask({
    title: filter.ids?.length === 1 ? "Drop it" : "Drop them",
    explain: `${what}.`,
    verb: ({ count }) => `Drop ${counted(count, "letter")} for ever`,
    isDangerous: true,
    prepare: async () => {
      const seen = await foresee("drop", filter);
      return { ...seen, words: seen.words ?? `${counted(seen.count, "dead letter")} will be removed for ever, with ${seen.count === 1 ? "its message" : "their messages"}. Nothing brings ${seen.count === 1 ? "it" : "them"} back.` };
    },
    run: async (seen) => {
      const { count } = await act("POST", "dead/drop", { filter: seen.filter });
      return `${counted(count, "dead letter")} dropped.`;
    },
    done,
  });
}

/** Another body for one letter. */
export function edit({ letter, done }) {
  const isText = letter.body !== undefined && letter.body !== null;
  const given = (isText ? letter.body : letter.body_base64) ?? "";
  const body = h("textarea", { rows: 16, spellcheck: "false", class: "code", value: given });
  const returns = isText && given.includes("\r") ? " Its lines end in CR LF; after an edit here they end in LF." : "";
  ask({
    title: "Edit it and deliver it again",
    explain: `The message \`${plain(letter.message_id)}\` will be delivered to \`${letter.connector}\` with this body instead of its own; headers, key and id stay.${returns}`,
    fields: [field(isText ? "Body" : "Body, in base64", body, "A mark such as `<masked /cards/0/number>` stands for the stored value: leave it, and it is filled in again.")],
    verb: "Deliver 1 letter with this body",
    run: async () => {
      // The browser writes LF for every end of line: what was not changed is delivered as it is.
      const isSame = body.value === given.replaceAll("\r\n", "\n");
      const changed = isSame ? {} : isText ? { body: body.value } : { body_base64: body.value.trim() };
      await act("POST", "dead/retry", { filter: { ids: [letter.id] }, ...changed });
      return isSame ? "1 dead letter delivered again, with its own body: nothing was changed." : "1 dead letter delivered again with another body.";
    },
    done,
  });
}
