// What stands around every page: the places, the search, and whether the host answers.

import { h } from "./dom.js";
import { bytes, counted, relative } from "./format.js";
import { PLACES, show as showKeys } from "./keys.js";
import { host } from "./live.js";
import { state } from "./parts.js";
import { search } from "./search.js";
import { BAD, WATCH, WELL } from "./trouble.js";

export function shell(place, main) {
  const status = host.status;
  const badges = { dead: status?.dead, "": status?.held };
  const links = PLACES.map(([letter, way, name]) => {
    const count = badges[way];
    const badge = count ? h("span", { class: "badge", title: way === "dead" ? counted(count, "dead letter") : `${counted(count, "connector")} held` }, short(count)) : null;
    return h("a", { href: `#/${way}`, "aria-current": place === way ? "page" : null, title: `g ${letter}` }, h("span", {}, name), badge);
  });
  const help = h("button", { type: "button", class: "keys-button", title: "Keys (?)", "aria-label": "Keys", onclick: showKeys }, "?");
  const skip = h("button", { type: "button", class: "skip", onclick: () => document.querySelector("#main").focus() }, "To the content");
  return h("div", { id: "app", key: "app" }, skip,
    h("header", {}, h("a", { href: "#/", class: "brand" }, "Bulkhead"), search(), health(status), help),
    h("nav", { "aria-label": "Places" }, links), silence(), main);
}

const short = (count) => (count > 9_999 ? "9,999+" : count.toLocaleString("en"));

/** How the host is, in few words. */
function health(status) {
  const [level, words] = { stream: [WELL, "live"], poll: [WELL, "every 5 s"], gone: [BAD, "no answer"] }[host.way];
  const isStopping = status && !status.ready && host.way !== "gone";
  const title = status ? `version ${status.version}, configuration ${String(status.config_sha256 ?? "").slice(0, 12)}, ${bytes(status.disk_free_bytes)} free on the disk` : "";
  return h("span", { class: "health", title }, isStopping ? state(WATCH, "stopping") : state(level, words));
}

function silence() {
  if (host.way !== "gone") return null;
  const since = host.seenAt ? `last seen ${relative(host.seenAt)}` : "it has not answered yet";
  return h("div", { class: "silence", role: "alert", key: "silence" }, state(BAD, `The host does not answer: ${since}.`), h("span", {}, " What is shown is as it was then. Is it running? Its log says why it ended; this page asks again every 2 s."));
}
