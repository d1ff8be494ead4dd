// Addresses: which page the part behind `#` means, and how such an address is made.
//
// Invariant: everything that a page shows can be reached again by its address alone.

/** Escapes every value: to`connectors/${name}`. */
export function to(parts, ...values) {
  return `#/${parts.reduce((whole, part, at) => whole + encodeURIComponent(values[at - 1]) + part)}`;
}

/** The same address with another query. */
export function withQuery(address, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return text ? `${address}?${text}` : address;
}

/** The address that is shown now, apart: its parts, and its query. */
export function here() {
  const [way, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { parts: way.split("/").filter(Boolean).map(decoded), query: Object.fromEntries(new URLSearchParams(query)) };
}

/** Changes the query of the address in place: what is typed does not fill the history. */
export function replaceQuery(query) {
  const way = location.hash.split("?", 1)[0] || "#/";
  history.replaceState(null, "", withQuery(way, query));
}

export function go(address) {
  location.hash = address;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
