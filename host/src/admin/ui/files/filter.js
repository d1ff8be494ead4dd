// A field that narrows a list down as somebody types, and keeps that in the address.

import { h } from "./dom.js";
import { replaceQuery } from "./router.js";

/** What is typed is the `q` of the address. */
export function filterField(view, label) {
  const oninput = (event) => {
    view.query = { ...view.query, q: event.target.value };
    replaceQuery(view.query);
    view.redraw();
  };
  return h("input", { type: "search", class: "filter", placeholder: label, "aria-label": label, value: view.query.q ?? "", oninput });
}

/** Whether one of these texts has what was typed. */
export function isWanted(view, ...texts) {
  const wanted = (view.query.q ?? "").trim().toLowerCase();
  return !wanted || texts.some((text) => text?.toLowerCase().includes(wanted));
}
