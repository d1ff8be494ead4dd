// The token: taken from the address or from the person, kept for this tab, forgotten when it is refused.
//
// Invariant: it is never in the address for longer than this takes, and never in a place that outlives the tab.

const PLACE = "bulkhead.token";
const IN_ADDRESS = /^#token=([A-Za-z0-9_-]{1,512})$/;

/** Takes the token out of the address, where `bulkhead ui` has put it. Whether there was one. */
export function takeFromAddress() {
  const found = IN_ADDRESS.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", `${location.pathname}#/`);
  keep(found[1]);
  return true;
}

export function token() {
  return sessionStorage.getItem(PLACE);
}

export function keep(value) {
  sessionStorage.setItem(PLACE, value);
}

export function forget() {
  sessionStorage.removeItem(PLACE);
}
