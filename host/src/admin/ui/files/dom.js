// Elements out of data, and a page brought up to date without losing what the reader is at.
//
// Owns how text gets onto the page: as text nodes alone. Invariant: no text is ever read as markup, and no address is
// set that leaves this page.

const SVG = "http://www.w3.org/2000/svg";
/** Handlers that a part of a page may have; they move to the element that stays. */
const HANDLERS = ["onclick", "oninput", "onchange", "onsubmit", "onkeydown", "ontoggle", "onpointermove", "onpointerleave"];

/** An element: `h("a", { href: "#/", class: "quiet" }, "text", another, [more])`. What is null or false is left out. */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** The same for SVG. */
export function svg(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) element[name] = value;
    else if (name === "value" || name === "checked") element[name] = value;
    else if (name === "key") element.setAttribute("data-key", value);
    else set(element, name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, name, value) {
  if (name.startsWith("on")) throw new Error(`${name} is no handler of ours`);
  // Whatever a message says, a link leads to a page of ours.
  if (name === "href" && !String(value).startsWith("#/")) throw new Error("a link that leaves this page");
  element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Makes `old` look like `next`, keeping the elements that stay: focus, selection, what was typed or opened, and scroll
 * positions live on. Elements with the same `key` are the same; one with `data-own` has its children to itself.
 */
export function morph(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || keyOf(old) !== keyOf(next)) {
    old.replaceWith(next);
    return next;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return old;
  }
  morphAttributes(old, next);
  if (!next.hasAttribute("data-own")) morphChildren(old, next);
  return old;
}

function morphAttributes(old, next) {
  // What the reader has opened stays open.
  const isKept = (name) => name === "open" || name === "data-selected";
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !isKept(name)) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) {
    if (old[name] !== next[name]) old[name] = next[name];
  }
}

function morphChildren(old, next) {
  const wanted = new Set([...next.childNodes].map(keyOf).filter(Boolean));
  const keyed = new Map();
  for (const child of [...old.childNodes]) {
    const key = keyOf(child);
    if (key && !wanted.has(key)) child.remove();
    else if (key) keyed.set(key, child);
  }
  let place = old.firstChild;
  for (const child of [...next.childNodes]) {
    const key = keyOf(child);
    const same = key ? keyed.get(key) : place && !keyOf(place) ? place : null;
    if (!same) {
      old.insertBefore(child, place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    morph(same, child);
  }
  while (place) {
    const rest = place.nextSibling;
    place.remove();
    place = rest;
  }
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}
