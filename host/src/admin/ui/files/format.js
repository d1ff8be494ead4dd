// Figures, times and texts for people. Pure: nothing here asks or keeps anything, but for the clock of the page.
//
// Invariant: what a message says cannot turn the direction of the text around it, and no character of it is invisible.

import { h } from "./dom.js";

const NUMBERS = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const ABSOLUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86_400, 3600, "h"], [Infinity, 86_400, "d"]];
/** Control characters but for tab and line feed; marks of direction; characters of no width. */
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

export const number = (value) => NUMBERS.format(value);

/** `1.2K`, where there is little room. */
export const compact = (value) => SHORT.format(value);

/** `3 dead letters`. */
export function counted(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** How much in a second, or in a minute where that is little. */
export function rate(perSecond) {
  if (!perSecond) return "0/s";
  if (perSecond >= 10) return `${number(Math.round(perSecond))}/s`;
  if (perSecond >= 0.1) return `${perSecond.toFixed(1)}/s`;
  return `${(perSecond * 60).toFixed(perSecond * 60 >= 1 ? 0 : 1)}/min`;
}

export function percent(part) {
  if (part === null || part === undefined) return "–";
  if (part === 0) return "0 %";
  return part < 0.01 ? "< 1 %" : `${Math.round(part * 100)} %`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return "< 1 ms";
  if (value < 1000) return `${Math.round(value)} ms`;
  return value < 60_000 ? `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s` : seconds(value / 1000);
}

/** In its two largest units. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  const at = STEPS.findIndex(([below]) => value < below);
  const [, size, unit] = STEPS[at];
  const whole = Math.floor(value / size);
  if (at === 0) return `${whole} ${unit}`;
  const [, smaller, name] = STEPS[at - 1];
  const rest = Math.floor((value % size) / smaller);
  return rest ? `${whole} ${unit} ${rest} ${name}` : `${whole} ${unit}`;
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  const scaled = value / 1024 ** power;
  return `${scaled < 10 && power > 0 ? scaled.toFixed(1) : NUMBERS.format(Math.round(scaled))} ${units[power]}`;
}

/** `12 s ago`, `in 3 min`. */
export function relative(at, now = Date.now()) {
  const away = (now - at) / 1000;
  if (Math.abs(away) < 1) return "now";
  const [, size, unit] = STEPS.find(([below]) => Math.abs(away) < below);
  const said = `${Math.floor(Math.abs(away) / size)} ${unit}`;
  return away > 0 ? `${said} ago` : `in ${said}`;
}

/** A time as it is said: relative, and in full with its zone when it is pointed at. */
export function time(text, empty = "–") {
  const at = Date.parse(text ?? "");
  if (Number.isNaN(at)) return empty;
  const absolute = `${ABSOLUTE.format(at)} (${text})`;
  return h("time", { datetime: text, title: absolute, "data-at": at }, relative(at));
}

/** Brings all relative times up to date. */
export function tick(now = Date.now()) {
  for (const element of document.querySelectorAll("time[data-at]")) {
    const said = relative(Number(element.dataset.at), now);
    if (element.textContent !== said) element.textContent = said;
  }
}

/** The time of day with milliseconds, for lines that lie close together. */
export function clock(text) {
  const at = new Date(text);
  const pad = (value, size = 2) => String(value).padStart(size, "0");
  const said = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)}`;
  return h("time", { datetime: text, title: `${ABSOLUTE.format(at)} (${text})` }, said);
}

/** Characters that nobody sees, or that steer what is beside them, become their numbers. */
export function plain(text) {
  return String(text ?? "").replace(UNSEEN, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

/** A text of a message or a plugin, in a direction of its own; longer ones are cut. */
export function foreign(text, most = 300) {
  const shown = plain(text);
  const cut = shown.length > most ? `${shown.slice(0, most)}…` : shown;
  return h("bdi", { class: "foreign", title: shown.length > most ? "cut here: open it to read all" : null }, cut);
}
