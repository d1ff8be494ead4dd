// What somebody does with the web page of a host, in a real browser: `node page.mjs URL TOKEN`.
//
// The host is that of tests/tests/ui.rs, which judges what came of it. Says a line of JSON when it needs something done,
// and goes on with the next line of its input. Pictures of every page land in the folder BULKHEAD_PICTURES, if there is one.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Browser } from "./browser.mjs";

const [base, token] = process.argv.slice(2);
const pictures = process.env.BULKHEAD_PICTURES;
const PAGES = {
  overview: "#/", connector: "#/connectors/deliver", hostile: "#/connectors/evil", queues: "#/queues", queue: "#/queues/parked", dead: "#/dead",
  group: "#/dead?connector=evil", deliveries: "#/deliveries", schedules: "#/schedules", activity: "#/activity", nowhere: "#/constructor",
};
/** In the texts of the messages; each would say so if it were read as markup. */
const MARKUP = "<img src=x onerror=pwned=1>";

const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browser = await Browser.start();

/** Has the test do something, and waits until it has. */
async function askFor(what, more = {}) {
  console.log(JSON.stringify({ what, ...more }));
  const { done } = await input.next();
  assert(!done, `nobody has done ${what}`);
}

/** Waits until what is drawn is what this address means. */
function isShown(hash) {
  return browser.until(hash, `document.querySelector("main")?.dataset.address === ${JSON.stringify(hash)} && document.querySelector("main :is(h1, .failure)") !== null && !document.querySelector("main.turning, main .loading")`);
}

async function visit(hash) {
  await browser.go(hash);
  await isShown(hash);
}

/** Nothing that a page says of itself is wrong, and it has asked nobody else. */
async function checkWell(where) {
  assert.deepEqual(browser.complaints, [], where);
  const foreign = browser.requests.filter(({ url }) => !url.startsWith(`${base}/`) && !url.startsWith("data:") && url !== "about:blank");
  assert.deepEqual(foreign, [], where);
  const found = await browser.evaluate(`({
    pwned: window.pwned ?? null,
    markup: document.querySelectorAll("body :is(img, script, iframe, object, embed, style, link)").length,
    ways: [...document.querySelectorAll("a")].map((a) => a.getAttribute("href")).filter((href) => !href?.startsWith("#/")),
  })`);
  assert.deepEqual(found, { pwned: null, markup: 0, ways: [] }, where);
}

async function signIn() {
  await browser.screen(1280, 800);
  await browser.open(`${base}/`);
  await browser.shows("admin.token");
  await browser.type("wrong");
  await browser.press("Enter");
  await browser.shows("does not know this token");
  const refused = browser.complaints.splice(0);
  assert(refused.length > 0 && refused.every((text) => text.includes("401")), refused.join("\n"));
  await browser.until("the field", `document.activeElement?.id === "token"`);
  await browser.type(token);
  await browser.press("Enter");
  await browser.shows("need you");
  await checkWell("signed in");
  // Another tab knows nothing of it; an address with the token needs no form, and does not keep it.
  await browser.evaluate(`sessionStorage.clear()`);
  await browser.open("about:blank");
  await browser.send("Network.clearBrowserCache");
  // The page that was left may have asked without its token.
  browser.complaints.length = 0;
  browser.bytes = 0;
  await browser.open(`${base}/#token=${token}`);
  await browser.shows("need you");
  assert.equal(await browser.evaluate("location.hash"), "#/");
  assert.equal(await browser.evaluate("localStorage.length + document.cookie.length"), 0);
  return browser.bytes;
}

async function lookAtAll() {
  for (const [name, hash] of Object.entries(PAGES)) {
    await browser.screen(1280, 800);
    await visit(hash);
    await browser.evaluate(`document.querySelectorAll("main details").forEach((one) => (one.open = true))`);
    await checkWell(name);
    for (const [width, height, scheme] of [[1280, 800, "light"], [1280, 800, "dark"], [390, 844, "light"], [390, 844, "dark"]]) {
      await browser.screen(width, height, scheme);
      const wide = await browser.evaluate("document.documentElement.scrollWidth");
      assert(wide <= width, `${name} is ${wide} wide on a screen of ${width}`);
      if (pictures) {
        mkdirSync(pictures, { recursive: true });
        writeFileSync(`${pictures}/${name}-${width}-${scheme}.png`, await browser.picture());
      }
    }
  }
  await browser.screen(1280, 800);
}

async function hostileTexts() {
  await visit("#/queues/parked");
  await browser.evaluate(`document.querySelectorAll("main details").forEach((one) => (one.open = true))`);
  for (const text of [MARKUP, "javascript:pwned=1", "\\u{202e}", "that are no text", "de ad be ef", "x".repeat(500), "accepted"]) await browser.shows(text);
  await visit("#/connectors/tell");
  for (const text of [MARKUP, "x".repeat(500)]) await browser.shows(text);
  await visit("#/dead?connector=evil");
  await browser.click(`reject ${MARKUP}`.slice(7, 20), "main table[aria-label=Groups]");
  await browser.shows("Only what died of");
  const id = await browser.until("a letter", `document.querySelector('main table[aria-label="Letters"] a')?.innerText`);
  await visit(`#/dead/${id}`);
  await browser.shows(MARKUP);
  await browser.click("<img");
  await browser.until("its timeline", `location.hash.startsWith("#/messages/") && document.querySelector(".timeline .entry") !== null`);
  await browser.shows(MARKUP);
  await checkWell("hostile texts");
}

async function keyboard() {
  await visit("#/");
  await browser.press("?");
  await browser.shows("next row");
  await browser.press("Escape");
  await browser.press("g", "d");
  await isShown("#/dead");
  await browser.press("j", "j", "k");
  const first = await browser.evaluate(`document.querySelector("main [data-row]").hasAttribute("data-selected")`);
  assert(first, "j, j, k leads to the first row");
  await browser.press("Enter");
  await browser.shows("Only what died of");
  await browser.press("/");
  await browser.type("deliv");
  await browser.until("what was found", `document.querySelector("#found a")?.innerText.includes("deliver")`);
  await browser.press("Enter");
  await isShown("#/connectors/deliver");
  await browser.press("g", "o");
  await isShown("#/");
}

/** The letter of a message in `deliver`. */
async function letterOf(message) {
  await visit("#/dead?connector=deliver");
  await browser.until("the letters", `document.querySelectorAll('main table[aria-label="Letters"] tbody tr').length > 0`);
  const letters = await browser.evaluate(`fetch("api/v1/dead?connector=deliver", { headers: { authorization: "Bearer " + sessionStorage.getItem("bulkhead.token") } }).then((it) => it.json())`);
  const { id } = letters.find((letter) => letter.message_id === message);
  await visit(`#/dead/${id}`);
}

async function letters() {
  await letterOf("once");
  await browser.click("Retry");
  await browser.shows("1 dead letter will be delivered to deliver");
  await browser.click("Deliver 1 letter again", "dialog");
  await browser.shows("1 dead letter delivered again.");
  await letterOf("edit");
  await browser.click("Edit and retry");
  await browser.until("its body", `document.querySelector("dialog textarea").value.includes("broken")`);
  await browser.evaluate(`document.querySelector("dialog textarea").select()`);
  await browser.type("mended");
  await browser.click("Deliver 1 letter with this body", "dialog");
  await browser.shows("1 dead letter delivered again with another body.");
  await askFor("delivered", { bodies: ["once", "mended"] });
  // What is left of this connector died alike.
  await visit("#/dead?connector=deliver");
  await browser.click("Retry these");
  await browser.shows("3 dead letters will be delivered to deliver.");
  await browser.evaluate(`document.querySelectorAll("dialog input")[1].focus()`);
  await browser.type("50/s");
  await browser.press("Tab");
  await browser.shows("3 dead letters will be delivered to deliver, at 50/s.");
  await browser.click("Deliver 3 letters again", "dialog");
  await browser.shows("3 dead letters delivered again.");
  await browser.shows("No dead letter fits.");
  await askFor("delivered", { bodies: ["alike 1", "alike 2", "alike 3"] });
  await visit("#/dead?connector=evil");
  await browser.click("Drop these");
  await browser.shows("will be removed for ever");
  await browser.click("Cancel", "dialog");
  await browser.click("Drop these");
  await browser.click("Drop 2 letters for ever", "dialog");
  await browser.shows("2 dead letters dropped.");
}

async function connector() {
  await visit("#/connectors/deliver");
  await browser.shows("may POST");
  await browser.click("Pause");
  await browser.shows("No run of deliver starts until it is resumed");
  await browser.click("Pause 1 connector", "dialog");
  await browser.shows("paused by an operator");
  await browser.click("Resume");
  await browser.click("Resume 1 connector", "dialog");
  await browser.until("that it goes on", `!document.querySelector("main").innerText.includes("paused by an operator")`);
  await visit("#/schedules");
  await browser.click("Fire now");
  await browser.click("Make 1 tick", "dialog");
  await browser.shows("is on its way.");
  await visit("#/queues/parked");
  await browser.click("Send a message");
  await browser.evaluate(`document.querySelector("dialog textarea").focus()`);
  await browser.type("sent by hand");
  await browser.click("Send one message", "dialog");
  await browser.shows("1 message accepted");
}

/** Events reach an open page by themselves. */
async function live() {
  await visit("#/activity");
  await browser.shows("live");
  await askFor("send");
  await browser.shows("sent-alive");
  await browser.shows("pause");
}

async function gone() {
  await visit("#/");
  await checkWell("before the end");
  await askFor("kill");
  await browser.shows("The host does not answer: last seen");
  await browser.until("that it counts", `/last seen [1-9]\\d* s ago/.test(document.body.innerText)`);
  await browser.go("#/queues");
  await browser.shows("The host does not answer");
  if (pictures) writeFileSync(`${pictures}/gone.png`, await browser.picture());
  assert(browser.complaints.every((text) => text.startsWith("network: ")), browser.complaints.join("\n"));
}

try {
  const bytes = await signIn();
  await lookAtAll();
  await hostileTexts();
  await keyboard();
  await letters();
  await connector();
  await live();
  await checkWell("all that was done");
  await gone();
  console.log(JSON.stringify({ what: "done", bytes }));
} finally {
  await browser.end();
}
process.exit(0);
