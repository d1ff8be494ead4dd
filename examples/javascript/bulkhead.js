// The host as JavaScript sees it: config and state as values, the host's errors as failures.
//
// A failure is thrown as the value that it is in WIT. Any other error is not caught here: it ends the call, costs an
// attempt, and its text is the reason.

import { send } from "bulkhead:connector/http@0.1.0";
import { publish as stage } from "bulkhead:connector/queue@0.1.0";
import { get as setting } from "wasi:config/store@0.2.0-rc.1";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";

// Statuses below 500 that may be another one the next time.
const WORTH_ANOTHER_ATTEMPT = [401, 403, 408, 409, 421, 423, 425, 429];

export const decode = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
export const encode = (value) => new TextEncoder().encode(JSON.stringify(value));

// To be thrown: this will never work, the message becomes a dead letter at once.
export const reject = (reason) => ({ tag: "reject", val: reason });

// To be thrown: another attempt is worth it, no sooner than after this time.
export const retry = (reason, afterMs) => ({ tag: "retry", val: { reason, afterMs } });

// The connector's `config` table.
export const config = () => JSON.parse(setting("$") ?? "{}");

// Stages a message: it is committed together with what is being handled.
export function publish(queue, value, key) {
  const headers = [["content-type", "application/json"]];
  try {
    return stage(queue, [{ key, headers, body: encode(value) }])[0];
  } catch ({ payload: error }) {
    throw error.tag === "full" ? retry(error.val) : reject(error.val);
  }
}

// What a GET answers, as a JavaScript value.
export function getJson(url) {
  const response = get(url);
  if (response.status >= 200 && response.status < 300) return decode(response.body);
  const reason = `${url} answered ${response.status}`;
  const again = response.status >= 500 || WORTH_ANOTHER_ATTEMPT.includes(response.status);
  throw again ? retry(reason, retryAfterMs(response)) : reject(reason);
}

function get(url) {
  try {
    return send({ method: "GET", url, headers: [["accept", "application/json"]], body: new Uint8Array() });
  } catch ({ payload: error }) {
    switch (error.tag) {
      case "held":
        throw retry("held back by the host", error.val);
      case "unreachable":
      case "interrupted":
        throw retry(error.val);
      default:
        throw reject(error.val);
    }
  }
}

// The receiver's wish, where it is a number of seconds.
function retryAfterMs(response) {
  const wish = response.headers.find(([name]) => name === "retry-after")?.[1] ?? "";
  return /^\d+$/.test(wish) ? BigInt(wish) * 1000n : undefined;
}

// The connector's state, JSON under each key. It commits together with what is being handled.
export class State {
  #bucket = open("default");

  get(key, otherwise) {
    const value = this.#bucket.get(key);
    return value === undefined ? otherwise : decode(value);
  }

  set(key, value) {
    this.#bucket.set(key, encode(value));
  }
}
