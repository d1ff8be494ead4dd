// The page as a whole: which part is shown, when it is brought up to date, and what stands around it.
//
// Owns the frame and the life of a page; what a page shows is its own. Invariant: old figures are never shown as if they
// were new: where the host is silent, the frame says since when.

import * as api from "./api.js";
import { h, morph } from "./dom.js";
import { shell } from "./frame.js";
import { tick } from "./format.js";
import * as keys from "./keys.js";
import * as live from "./live.js";
import { failure, nothing } from "./parts.js";
import { here } from "./router.js";
import * as session from "./session.js";
import { signIn } from "./signin.js";
import * as activity from "./pages/activity.js";
import * as connector from "./pages/connector.js";
import * as dead from "./pages/dead.js";
import * as deliveries from "./pages/deliveries.js";
import * as letter from "./pages/letter.js";
import * as message from "./pages/message.js";
import * as overview from "./pages/overview.js";
import * as queue from "./pages/queue.js";
import * as queues from "./pages/queues.js";
import * as schedules from "./pages/schedules.js";

const PAGES = new Map(Object.entries({
  "": overview, queues, deliveries, dead, schedules, activity,
  "connectors/": connector, "queues/": queue, "dead/": letter, "messages/": message,
}));
/** A page that takes long to look is brought up to date so many times its own time later, at the soonest. */
const REST = 10;
const root = document.body;
let shown = null;

/** What is shown of one address. */
class View {
  constructor(page, key, { parts, query }) {
    Object.assign(this, { page, key });
    this.address = location.hash || "#/";
    this.name = parts[1];
    this.query = query;
    this.state = {};
    this.data = null;
    this.error = null;
    this.controller = new AbortController();
    this.isLoading = false;
    this.isStale = false;
    this.restsUntil = 0;
  }

  get = (where, query) => api.get(where, query, this.controller.signal);

  /** Draws what is known. */
  redraw = () => {
    const isKnown = this.data || this.error;
    if (shown !== this || (!isKnown && document.querySelector("#main.turning"))) return;
    const isSilent = this.error instanceof api.Silence;
    const unseen = isSilent ? [nothing("Nothing is known of this yet.", "It is shown as soon as the host answers.")] : [];
    const body = this.data ? [this.page.view(this.data, this)] : this.error ? unseen : [h("p", { class: "quiet loading", role: "status" }, "Looking …")];
    // A host that is silent is told of in the frame.
    const problem = this.error && !isSilent ? failure(this.error) : null;
    draw(shell(this.page.place, h("main", { id: "main", tabindex: "-1", key: this.key, "data-address": this.address, class: live.host.way === "gone" ? "old" : null }, problem, body)));
    document.title = `${this.page.title(this)} · Bulkhead`;
  };

  /** Looks again; what comes meanwhile is not lost. */
  refresh = async () => {
    if (this.isLoading) {
      this.isStale = true;
      return;
    }
    this.isLoading = true;
    const began = performance.now();
    try {
      const data = await this.page.load(this);
      [this.data, this.error] = [data, null];
    } catch (error) {
      if (this.controller.signal.aborted) return;
      this.error = error;
      if (!(error instanceof api.Problem || error instanceof api.Silence)) console.error(error);
    } finally {
      this.isLoading = false;
    }
    this.redraw();
    this.restsUntil = performance.now() + REST * (performance.now() - began);
    if (this.isStale) {
      this.isStale = false;
      await this.refresh();
    }
  };

  /** Figures may have changed: looks again, unless that costs too much by now. */
  stir() {
    if (this.page.isStill && this.data) this.redraw();
    else if (performance.now() >= this.restsUntil) this.refresh();
    else this.redraw();
  }

  end() {
    this.controller.abort();
    this.page.leave?.(this);
  }
}

function draw(frame) {
  const old = root.querySelector("#app");
  if (old) morph(old, frame);
  else root.prepend(frame);
}

function show() {
  if (session.takeFromAddress()) begin();
  if (!session.token()) return askForToken();
  const address = here();
  const [place = "", name] = address.parts;
  const page = PAGES.get(name === undefined ? place : `${place}/`);
  const key = address.parts.join("/");
  const before = shown?.key === key ? shown : null;
  shown?.end();
  shown = new View(page ?? nowhere, key, address);
  if (before) {
    // Another part of the same: what is there stays until it is known.
    shown.state = before.state;
    document.querySelector("#main")?.classList.add("turning");
  } else {
    shown.redraw();
    scrollTo(0, 0);
    document.querySelector("#main")?.focus({ preventScroll: true });
  }
  page?.enter?.(shown);
  return shown.refresh();
}

const nowhere = {
  place: "nowhere",
  title: () => "Nowhere",
  load: async () => ({}),
  view: () => h("div", { class: "nothing" }, h("h1", {}, "There is no page at this address."), h("p", {}, h("a", { href: "#/" }, "Back to the overview"))),
};

function askForToken(isRefused = false) {
  live.halt();
  shown?.end();
  shown = null;
  draw(signIn(isRefused, () => {
    begin();
    show();
  }));
  document.title = "Sign in · Bulkhead";
  document.querySelector("#token")?.focus();
}

function begin() {
  live.start();
}

api.listen({
  answered: live.seen,
  silent: live.unseen,
  unauthorized: () => {
    if (!session.token()) return;
    session.forget();
    askForToken(true);
  },
});
root.append(h("div", { id: "announcement", role: "status" }));
keys.start(() => shown?.refresh());
addEventListener("hashchange", show);
setInterval(() => {
  tick();
  if (live.host.way === "gone") shown?.redraw();
}, 1_000);
live.onChange(() => {
  if (!shown) return;
  if (live.host.way === "gone") shown.redraw();
  else shown.stir();
});
show();
if (session.token()) begin();
