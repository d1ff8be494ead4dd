// What the host does, as it happens: its event stream, and polling where there is none.
//
// Owns when a page is to be brought up to date, and what is known of the host itself. Invariant: a host that does not
// answer is called gone at once, and not before a request has failed.

import { get, stream } from "./api.js";

const POLL_MS = 5_000;
/** With the stream, figures that have no events of their own. */
const BEAT_MS = 10_000;
const GONE_POLL_MS = 2_000;
/** Many events in a row bring a page up to date this often. */
const SETTLE_MS = 1_500;
const RECONNECT_MS = [1_000, 2_000, 5_000, 15_000];
/** An event that is larger is no event. */
const EVENT_CHARACTERS_MAX = 1 << 20;

/** `way`: `stream`, `poll` or `gone`; `status`: what `GET status` said last; `seenAt`: when the host answered last. */
export const host = { way: "poll", status: null, seenAt: null };

const changed = new Set();
const heard = new Set();
let stop = null;
let settling = null;

/** Calls back whenever figures may have changed; returns how to end that. */
export function onChange(callback) {
  changed.add(callback);
  return () => changed.delete(callback);
}

/** Calls back with every event, `(kind, data)`. */
export function onEvent(callback) {
  heard.add(callback);
  return () => heard.delete(callback);
}

export function seen() {
  host.seenAt = Date.now();
  if (host.way === "gone") {
    host.way = "poll";
    tell();
  }
}

export function unseen() {
  if (host.way === "gone") return;
  host.way = "gone";
  tell();
}

export function start() {
  halt();
  const controller = new AbortController();
  stop = () => controller.abort();
  beat(controller.signal);
  listenForEver(controller.signal);
}

export function halt() {
  stop?.();
  stop = null;
}

/** Tells the pages now; a hidden tab is told when it is looked at. */
export function tell() {
  clearTimeout(settling);
  settling = null;
  if (document.hidden) return;
  changed.forEach((callback) => callback());
}

/** A hidden tab asks nothing until it is looked at. */
async function beat(signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      await get("status", {}, signal).then((status) => (host.status = status)).catch(() => {});
      if (signal.aborted) return;
      tell();
    }
    await pause({ stream: BEAT_MS, poll: POLL_MS, gone: GONE_POLL_MS }[host.way], signal, true);
  }
}

async function listenForEver(signal) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const reader = await stream("events", signal);
      failures = 0;
      host.way = "stream";
      tell();
      await read(reader);
    } catch {
      // What is wrong with it is seen by the next request; until then it is polled.
    }
    if (signal.aborted) return;
    if (host.way === "stream") host.way = "poll";
    // One that has broken off may be a host that has gone: find out.
    await get("status", {}, signal).then((status) => (host.status = status)).catch(() => {});
    tell();
    await pause(RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)], signal, false);
  }
}

async function read(reader) {
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    host.seenAt = Date.now();
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    if (rest.length > EVENT_CHARACTERS_MAX) throw new Error("an event without an end");
    events.forEach(dispatch);
  }
}

function dispatch(text) {
  const lines = text.split("\n");
  const field = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).trimStart());
  const [kind] = field("event");
  if (!kind) return;
  const data = JSON.parse(field("data").join("\n"));
  heard.forEach((callback) => callback(kind, data));
  settling ??= setTimeout(tell, SETTLE_MS);
}

/** Waits, or until the tab is looked at again. */
function pause(ms, signal, endsWhenShown) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const shown = () => !document.hidden && endsWhenShown && end();
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", shown);
    signal.addEventListener("abort", end);
  });
}
