// Asks the host, and says plainly what went wrong. Owns the requests; knows nothing of pages.
//
// Invariant: the token goes to the host that served this page and nowhere else.

import * as session from "./session.js";

/** For an answer; the host's own work with the ledger takes far less. */
const ANSWER_WITHIN_MS = 30_000;

const base = new URL("api/v1/", document.baseURI);
const listeners = { unauthorized: () => {}, answered: () => {}, silent: () => {} };

/** The host has answered with an error; `message` is what it says. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The host has not answered. */
export class Silence extends Error {
  constructor() {
    super("the host does not answer");
  }
}

/** Who hears of answers: `unauthorized`, `answered`, `silent`. */
export function listen(given) {
  Object.assign(listeners, given);
}

/** A path with every value in it escaped: path`dead/${id}`. */
export function path(parts, ...values) {
  return parts.reduce((whole, part, at) => whole + encodeURIComponent(values[at - 1]) + part);
}

export function get(where, query = {}, signal = undefined) {
  return ask("GET", where, { query, signal }).then((response) => response.json());
}

/** Has the host do something; what it answers, or null. */
export async function act(method, where, body = undefined) {
  const response = await ask(method, where, { body: method === "DELETE" ? undefined : JSON.stringify(body ?? {}) });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** An answer that goes on, to be read as it comes. */
export async function stream(where, signal) {
  const response = await ask("GET", where, { signal, isEndless: true });
  return response.body.pipeThrough(new TextDecoderStream()).getReader();
}

async function ask(method, where, { query = {}, body, signal, isEndless = false }) {
  const url = new URL(where, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = { authorization: `Bearer ${session.token() ?? ""}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const limits = isEndless ? [signal] : [signal, AbortSignal.timeout(ANSWER_WITHIN_MS)];
  const options = { method, headers, body, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", redirect: "error" };
  const response = await fetch(url, { ...options, signal: anyOf(limits.filter(Boolean)) }).catch((error) => {
    if (signal?.aborted) throw error;
    listeners.silent();
    throw new Silence();
  });
  listeners.answered();
  if (response.status === 401) listeners.unauthorized();
  if (!response.ok) throw new Problem(response.status, await detail(response));
  return response;
}

/** `AbortSignal.any` is not in every browser that reads the rest. */
function anyOf(signals) {
  if (AbortSignal.any) return AbortSignal.any(signals);
  const controller = new AbortController();
  signals.forEach((one) => one.addEventListener("abort", () => controller.abort(one.reason)));
  return controller.signal;
}

async function detail(response) {
  const text = await response.text().catch(() => "");
  try {
    return JSON.parse(text).detail || text;
  } catch {
    return text || `it answered ${response.status}`;
  }
}
