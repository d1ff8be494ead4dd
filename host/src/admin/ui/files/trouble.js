// What is wrong with a connector, in words, and how much that needs somebody.
//
// Pure. Invariant: a colour on any page stands for a level of here, and the words beside it say the same.

import { counted, percent, seconds } from "./format.js";

export const WELL = 0;
export const WATCH = 1;
export const BAD = 2;

/** The part of attempts that fail before it is shown as trouble. */
const ERRORS_BAD = 0.5;
const ERRORS_WATCH = 0.05;
/** The oldest message that nothing holds back is older than this: it does not keep up. */
const OLDEST_SECONDS_WATCH = 300;

/** Level, words, and fewer words for a drawing. */
const HELD = {
  paused: [WATCH, "paused by an operator", "paused"],
  brake: [BAD, "stopped by its brake", "brake is on"],
  dead_letters: [BAD, "held: its dead letters fill their bound", "too many dead"],
  disk: [BAD, "held: no room on the disk", "disk is full"],
  full: [BAD, "held: a queue that it publishes to is full", "queue is full"],
  breaker: [BAD, "waits: a server that it asks keeps failing", "breaker is open"],
  pending: [WATCH, "waits: too much unfinished work", "too much pending"],
  conflict: [WATCH, "runs alone after conflicts of state", "runs alone"],
  rate: [WELL, "waits for its rate", "at its rate"],
};

/** What helps, for each way to be held. */
const HELP = {
  paused: "Nothing runs until it is resumed; its messages stay.",
  brake: "So many deliveries in a row became dead letters. Mend the cause, then resume it.",
  dead_letters: "Retry or drop dead letters, or raise `dead_max_bytes`.",
  disk: "Make room on the disk of the data directory; it goes on by itself.",
  full: "Whoever reads that queue does not keep up: look there first.",
  breaker: "It is tried again by itself when the breaker's time is over.",
  pending: "It reads no further until what is unfinished is worked off.",
  conflict: "Runs of it have written the same state at once; it goes on one at a time.",
  rate: "Its `rate` allows no more attempts now.",
};

/** `{ level, words, short, help }` of one connector, the worst first; `short` is the worst in few words. */
export function judge(connector) {
  const found = [];
  const add = (level, words, help = "", short = words) => found.push({ level, words, help, short });
  if (!connector.enabled) add(WELL, "not enabled", "`enabled = false`: its messages are kept.");
  for (const reason of connector.held ?? []) {
    const [level, words, short] = HELD[reason] ?? [BAD, `held: ${reason}`];
    add(level, words, HELP[reason], short);
  }
  if (connector.dead > 0) add(WATCH, counted(connector.dead, "dead letter"));
  const errors = connector.error_ratio ?? 0;
  if (errors >= ERRORS_WATCH) add(errors >= ERRORS_BAD ? BAD : WATCH, `${percent(errors)} of attempts fail`, "", `${percent(errors)} fail`);
  const isHeld = (connector.held ?? []).length > 0 || !connector.enabled;
  if (!isHeld && (connector.oldest_seconds ?? 0) >= OLDEST_SECONDS_WATCH) {
    add(WATCH, `the oldest message waits for ${seconds(connector.oldest_seconds)}`, "", `behind ${seconds(connector.oldest_seconds)}`);
  }
  found.sort((a, b) => b.level - a.level);
  return { level: found[0]?.level ?? WELL, words: found.map((one) => one.words), short: found[0]?.short ?? null, help: found.map((one) => one.help).filter(Boolean) };
}

/** Trouble first, then what is busy, then by name. */
export function byTrouble(a, b) {
  const weight = (it) => judge(it).level;
  return weight(b) - weight(a) || b.dead - a.dead || (b.rate_per_second ?? 0) - (a.rate_per_second ?? 0) || a.name.localeCompare(b.name);
}

/** One sentence that says whether it is well, and where not. */
export function sentence(connectors) {
  if (connectors.length === 0) return { level: WELL, text: "No connector is configured yet.", names: [] };
  const needing = connectors.filter((one) => judge(one).level > WELL).sort(byTrouble);
  const level = Math.max(WELL, ...needing.map((one) => judge(one).level));
  const off = connectors.filter((one) => !one.enabled).length;
  const rest = off ? ` ${counted(off, "is not enabled", "are not enabled")}.` : "";
  if (needing.length === 0) {
    const all = connectors.length === 1 ? "The one connector is" : `All ${connectors.length.toLocaleString("en")} connectors are`;
    return { level, text: `${all} well.${rest}`, names: [] };
  }
  const need = needing.length === 1 ? "needs" : "need";
  return {
    level,
    text: `${needing.length.toLocaleString("en")} of ${counted(connectors.length, "connector")} ${need} you.${rest}`,
    names: needing.map((one) => one.name),
  };
}
