// Parts that pages are put together from: states, tables, ids, bodies, what to say when there is nothing.
//
// Pure: data in, elements out. Invariant: a colour never stands alone, a shape and a word are beside it.

import { h } from "./dom.js";
import { bytes, foreign, plain, time } from "./format.js";
import { go, to } from "./router.js";
import { BAD, WATCH, WELL } from "./trouble.js";

const LEVELS = { [WELL]: ["well", "●"], [WATCH]: ["watch", "▲"], [BAD]: ["bad", "■"] };
const OUTCOMES = {
  done: WELL, settled: WELL, waiting: WELL, cancelled: WELL,
  retry: WATCH, retrying: WATCH, held: WATCH, expired: WATCH, delayed: WATCH, redriven: WATCH,
  dead: BAD, failed: BAD, refused: BAD,
};
/** Bytes of a body that are shown as hexadecimal. */
const HEX_BYTES = 1024;
/** Characters of a body that are shown: a page with more is slow to scroll. */
const BODY_CHARACTERS = 200_000;
/** Characters of a log line that are shown. */
const LINE_CHARACTERS = 12_000;
/** Rows of a table that are drawn at first. */
export const ROWS_AT_FIRST = 200;

/** A word with its colour and shape. */
export function state(level, text) {
  const [name, shape] = LEVELS[level];
  return h("span", { class: `state ${name}` }, h("span", { class: "shape", "aria-hidden": "true" }, shape), `\u00a0${text}`);
}

export function outcome(word) {
  const shown = state(OUTCOMES[word] ?? WELL, plain(word));
  shown.classList.add("word");
  return shown;
}

export const link = (address, ...children) => h("a", { href: address }, ...children);

export const connectorLink = (name) => link(to`connectors/${name}`, foreign(name));

/** An inbox, `@NAME`, is where a connector's ticks and requests wait. */
export const queueLink = (name) => link(to`queues/${name}`, foreign(name));

/** An id in full, with a way to copy it. */
export function id(text, address = null) {
  const shown = h("code", { class: "id" }, foreign(text, 512));
  return h("span", { class: "copyable" }, address ? link(address, shown) : shown, copyButton(text));
}

export function copyButton(text, what = "copy") {
  const onclick = async (event) => {
    const button = event.currentTarget;
    const isCopied = await copy(text);
    button.textContent = isCopied ? "copied" : "select it, and copy";
    setTimeout(() => (button.textContent = what), 1500);
  };
  return h("button", { type: "button", class: "copy", "data-own": true, "aria-label": `${what} ${plain(text).slice(0, 80)}`, onclick }, what);
}

/** Pages over plain HTTP from another machine have no clipboard of their own. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const field = h("textarea", { class: "unseen", value: text });
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  return isCopied;
}

/**
 * A table. `columns`: `{ label, cell, kind }`, where `kind` is `number`, `wide` (left out on a phone) or both. `address`
 * makes a row lead somewhere; `more`: how to draw the rest, where there is more than at first.
 */
export function table({ columns, rows, key, address, empty, label, more }) {
  if (rows.length === 0) return empty ?? nothing("Nothing here.");
  const head = h("tr", {}, columns.map((column) => h("th", { scope: "col", class: column.kind ?? null }, column.label)));
  const shown = more ? rows.slice(0, ROWS_AT_FIRST) : rows;
  const body = shown.map((row) => {
    const way = address?.(row);
    const cells = columns.map((column) => h("td", { class: column.kind ?? null }, column.cell(row)));
    return h("tr", { key: key(row), "data-row": way ?? "", tabindex: "-1", class: way ? "leads" : null, onclick: way ? follow(way) : null }, cells);
  });
  const rest = rows.length > shown.length
    ? h("button", { type: "button", class: "more", onclick: more }, `Show all ${rows.length.toLocaleString("en")}`)
    : null;
  return h("div", { class: "scrolls" }, h("table", { "aria-label": label ?? null }, h("thead", {}, head), h("tbody", {}, body)), rest);
}

/** A click on a row follows it, unless something in it was meant or selected. */
function follow(address) {
  return (event) => {
    if (event.target.closest("a, button, input, summary") || String(getSelection()) !== "") return;
    go(address);
  };
}

export function nothing(title, ...more) {
  return h("div", { class: "nothing" }, h("p", { class: "title" }, title), more.map((one) => (typeof one === "string" ? h("p", {}, one) : one)));
}

export function section(title, ...children) {
  return h("section", {}, h("h2", {}, title), children);
}

/** Names and values, as pairs. */
export function facts(pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", { class: "facts" }, given.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** The sentences that the host says have names in backticks. */
export function prose(text) {
  return plain(text).split("`").map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

export function headers(list) {
  if (!list?.length) return h("p", { class: "quiet" }, "No headers.");
  return facts(list.map(([name, value]) => [foreign(name), h("code", {}, foreign(value, 4096))]));
}

/** A payload: JSON with its lines broken, text as it is, bytes in hexadecimal. */
export function payload({ body, body_base64: encoded, body_bytes: size, is_cut: isCut }) {
  const cut = isCut ? h("p", { class: "quiet" }, `Cut: the whole has ${bytes(size)}.`) : null;
  if (encoded !== null && encoded !== undefined) {
    const raw = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    const some = raw.length > HEX_BYTES ? ` The first ${bytes(HEX_BYTES)}:` : "";
    return h("div", { class: "payload" }, h("p", { class: "quiet" }, `${bytes(size ?? raw.length)} that are no text.${some} `, copyButton(encoded, "copy as base64")), h("pre", { tabindex: "0" }, hexadecimal(raw.subarray(0, HEX_BYTES))), cut);
  }
  if (body === "" || body === undefined || body === null) return h("p", { class: "quiet" }, "An empty body.");
  const long = body.length > BODY_CHARACTERS ? h("p", { class: "quiet" }, `The first ${BODY_CHARACTERS.toLocaleString("en")} of ${body.length.toLocaleString("en")} characters; a copy has all.`) : null;
  const text = plain(long ? body.slice(0, BODY_CHARACTERS) : laidOut(body));
  return h("div", { class: "payload" }, h("pre", { tabindex: "0" }, h("bdi", {}, text)), h("p", { class: "quiet" }, copyButton(body, "copy the body")), long, cut);
}

function hexadecimal(raw) {
  const lines = [];
  for (let at = 0; at < raw.length; at += 16) {
    const row = [...raw.subarray(at, at + 16)];
    const codes = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const letters = row.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${codes.padEnd(47)}  ${letters}`);
  }
  return lines.join("\n");
}

/** JSON with an item a line. Works on the text: a number keeps its digits, and what comes twice is seen twice. */
export function laidOut(text) {
  try {
    if (typeof JSON.parse(text) !== "object") return text;
  } catch {
    return text;
  }
  let depth = 0;
  const line = (change) => `\n${"  ".repeat((depth = Math.max(0, depth + change)))}`;
  return text.replace(/"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[[\]{}:,]|\s+/g, (part) => {
    if (part[0] === '"' || part.length > 1 && /^[[{]/.test(part)) return part.replace(/^([[{])\s+/, "$1");
    if (part === "{" || part === "[") return part + line(1);
    if (part === "}" || part === "]") return line(-1) + part;
    if (part === ",") return part + line(0);
    return part === ":" ? ": " : "";
  });
}

/** Log lines, the newest last. */
export function logLines(list, label) {
  const level = (name) => ({ error: "bad", warn: "watch" })[name] ?? "well";
  const line = (one) => h("div", { key: `${one.seq}`, class: level(one.level) },
    h("span", { class: "quiet" }, time(one.at), " "), h("b", {}, plain(one.level)), " ", foreign(one.text, LINE_CHARACTERS), one.delivery ? h("span", { class: "quiet" }, " ", foreign(one.delivery, 200)) : null);
  return h("div", { class: "log", tabindex: "0", role: "log", "aria-label": label }, list.map(line));
}

/** What an attempt did to the world, an effect a line. */
export function effects(list) {
  if (!list?.length) return h("p", { class: "quiet" }, "The history has no effects of it.");
  return h("ol", { class: "effects" }, list.map((one) => h("li", {}, effect(one))));
}

function effect(it) {
  switch (it.effect) {
    case "request": {
      const status = it.status === null || it.status === undefined ? state(BAD, "no whole answer") : state(it.status < 400 ? WELL : BAD, `answered ${it.status}`);
      const took = it.duration_ms === null || it.duration_ms === undefined ? "" : ` in ${it.duration_ms} ms`;
      return ["sent ", h("code", {}, foreign(`${it.method} ${it.url}`, 600)), " ", status, took];
    }
    case "publish":
      return [it.is_committed ? "published into " : "would have published (dropped with the failed call) into ", queueLink(it.queue), " ", it.is_committed ? id(it.id, to`messages/${it.id}`) : id(it.id)];
    case "state":
      return `wrote ${it.keys} key${it.keys === 1 ? "" : "s"} of its state`;
    case "secret":
      return ["used the secret ", h("code", {}, foreign(it.name))];
    default:
      return plain(JSON.stringify(it));
  }
}

/** What the host answered instead of data. */
export function failure(error) {
  const help = error.status === 404 ? "It may have been dealt with meanwhile: go back and look again." : error.status === 503 ? "Try again in a moment." : "";
  return h("div", { class: "failure", role: "alert" }, state(BAD, "That did not work"), h("p", {}, prose(error.message)), help ? h("p", { class: "quiet" }, help) : null);
}

export const when = (text) => time(text);
