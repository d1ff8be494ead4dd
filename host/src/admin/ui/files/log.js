// The tail of a connector's log, kept together from pages of it.

/** Lines that a page keeps; the host keeps no more. */
const LINES_MAX = 500;

/** Adds what came after `known`; `next` is where to go on. */
export function logTail(known, { lines, next }) {
  const before = known?.lines ?? [];
  const newest = before.at(-1)?.seq ?? -1;
  // A host that has started again counts from the beginning.
  const isAnother = next < newest;
  const kept = isAnother ? lines : [...before, ...lines.filter((line) => line.seq > newest)];
  return { lines: kept.slice(-LINES_MAX), next };
}
