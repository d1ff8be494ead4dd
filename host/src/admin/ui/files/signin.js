// Asks for the token, and finds out whether it is the host's.

import { get } from "./api.js";
import { h } from "./dom.js";
import { failure } from "./parts.js";
import * as session from "./session.js";

export function signIn(isRefused, done) {
  const said = h("div", { class: "said" }, isRefused ? failure(new Error("the host does not know this token: it may have another data directory now")) : null);
  // Drawn again, the elements stay: they are looked for when they are needed.
  const input = h("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const onsubmit = async (event) => {
    event.preventDefault();
    const [field, place] = ["#token", ".said"].map((it) => event.target.querySelector(it));
    session.keep(field.value.trim());
    field.value = "";
    try {
      await get("queues");
      done();
    } catch (error) {
      // A refused token has been forgotten, and this form drawn again.
      if (error.status !== 401) place.replaceChildren(failure(error));
    }
  };
  return h("div", { id: "app", key: "sign-in", class: "sign-in" },
    h("main", { id: "main" }, h("h1", {}, "Bulkhead"),
      h("form", { onsubmit }, h("label", { class: "field" }, h("span", {}, "Token"), input, h("small", {}, "It lies in the data directory, in ", h("code", {}, "admin.token"), ". ", h("code", {}, "bulkhead ui"), " prints an address of this page that brings it along.")),
        said, h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Look"))),
      h("p", { class: "quiet" }, "It is kept for this tab alone, and forgotten when you close it.")));
}
