// Asks before something is changed, and says afterwards what has come of it.
//
// Invariant: nothing is sent before the person has read what it will do, with a count, and has pressed the button that
// says it.

import { h, morph } from "./dom.js";
import { failure, prose } from "./parts.js";
import { Silence } from "./api.js";

/**
 * Opens a dialog. `title`; `explain`: elements or text; `fields`: elements; `verb`: what the button says, or a function
 * of what `prepare` answers; `prepare`: looks (a dry run) before it can be pressed; `run`: does it, and answers the
 * sentence to be shown.
 */
export function ask({ title, explain, fields = [], verb, isDangerous = false, prepare, run, done }) {
  const button = h("button", { type: "submit", class: isDangerous ? "danger" : "primary" }, typeof verb === "string" ? verb : "…");
  const said = h("div", { class: "said", "data-own": true });
  const foretold = h("div", { class: "foretold", role: "status" });
  let prepared = null;
  let asked = 0;
  const look = async () => {
    if (!prepare) return;
    const turn = (asked += 1);
    button.disabled = true;
    try {
      const found = await prepare();
      if (turn !== asked) return;
      prepared = found;
      foretold.replaceChildren(h("p", {}, prose(found.words)));
      button.textContent = typeof verb === "function" ? verb(found) : verb;
      button.disabled = found.count === 0;
    } catch (error) {
      if (turn === asked) foretold.replaceChildren(failure(error));
    }
  };
  const onsubmit = async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    try {
      const sentence = await run(prepared);
      box.close();
      announce(sentence);
      await done?.();
    } catch (error) {
      const more = error instanceof Silence ? h("p", {}, "It may have been done all the same: look before you try again.") : null;
      said.replaceChildren(failure(error), ...(more ? [more] : []));
      button.disabled = false;
    }
  };
  const cancel = h("button", { type: "button", onclick: () => box.close() }, "Cancel");
  const explained = [explain].flat().map((part) => (typeof part === "string" ? h("p", {}, prose(part)) : part));
  const form = h("form", { onsubmit, onchange: look }, h("h2", {}, title), explained, fields, foretold, said, h("div", { class: "buttons" }, cancel, button));
  const box = h("dialog", { "aria-label": title }, form);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  look();
  return box;
}

/** A field with its name. */
export function field(label, input, help = "") {
  return h("label", { class: "field" }, h("span", {}, label), input, help ? h("small", {}, prose(help)) : null);
}

/** A sentence that goes by itself. */
export function announce(text) {
  const place = document.querySelector("#announcement");
  morph(place, h("div", { id: "announcement", role: "status", class: "shown" }, prose(text)));
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => morph(place, h("div", { id: "announcement", role: "status" })), 8_000);
}
