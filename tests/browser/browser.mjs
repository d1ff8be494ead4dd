// A headless Chromium that is asked over its own pipe (the DevTools protocol), without any package.
//
// Owns the browser's process and one page in it, and hears everything that the page asks for or complains of. Invariant:
// nothing waits for a time to pass: a wait ends with what it waits for, or fails with what it saw instead.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Long enough for a busy machine; every wait ends with the event itself. */
const PATIENCE_MS = 60_000;
const FLAGS = [
  "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu",
  "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  "--disable-extensions", "--mute-audio", "--no-proxy-server", "--hide-scrollbars",
];

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.folder = mkdtempSync(join(tmpdir(), "bulkhead-browser-"));
    // Who is root has no sandbox to lose.
    const root = process.getuid() === 0 ? ["--no-sandbox"] : [];
    const flags = [...FLAGS, ...root, `--user-data-dir=${browser.folder}`, "about:blank"];
    browser.process = spawn("chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    const [, , , input, output] = browser.process.stdio;
    Object.assign(browser, { input, number: 0, asked: new Map(), heard: new Set() });
    let rest = "";
    output.setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      messages.forEach((message) => browser.hear(JSON.parse(message)));
    });
    await browser.openPage();
    return browser;
  }

  hear(message) {
    const asked = this.asked.get(message.id);
    if (asked) {
      this.asked.delete(message.id);
      if (message.error) asked.reject(new Error(`${asked.method}: ${message.error.message}`));
      else asked.resolve(message.result);
    } else if (message.method) {
      this.heard.forEach((listener) => listener(message.method, message.params));
    }
  }

  send(method, params = {}) {
    const id = (this.number += 1);
    const message = { id, method, params, ...(this.session ? { sessionId: this.session } : {}) };
    return new Promise((resolve, reject) => {
      this.asked.set(id, { method, resolve, reject });
      this.input.write(`${JSON.stringify(message)}\0`);
    });
  }

  async openPage() {
    const { targetInfos } = await this.send("Target.getTargets");
    const page = targetInfos.find((target) => target.type === "page");
    const { sessionId } = await this.send("Target.attachToTarget", { targetId: page.targetId, flatten: true });
    this.session = sessionId;
    this.complaints = [];
    this.requests = [];
    this.bytes = 0;
    this.heard.add((method, params) => this.note(method, params));
    await Promise.all(["Page", "Runtime", "Log", "Network"].map((domain) => this.send(`${domain}.enable`)));
  }

  /** What a page that is well never does. */
  note(method, params) {
    if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) this.complaints.push(params.args.map((one) => one.value ?? one.description).join(" "));
    if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) this.complaints.push(`${params.entry.source}: ${params.entry.text} ${params.entry.url ?? ""}`);
    if (method === "Page.javascriptDialogOpening") this.complaints.push(`a script said: ${params.message}`);
    if (method === "Network.requestWillBeSent") this.requests.push({ method: params.request.method, url: params.request.url });
    if (method === "Network.loadingFinished") this.bytes += params.encodedDataLength;
  }

  /** Evaluates an expression in the page; what it comes to, as JSON. */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${exceptionDetails.exception?.description ?? exceptionDetails.text} in ${expression}`);
    return result.value;
  }

  /** Waits until an expression is true in the page; what it came to. */
  async until(what, expression) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      // Between two pages there is nowhere to evaluate.
      const value = await this.evaluate(expression).catch(() => null);
      if (value) return value;
      if (Date.now() > deadline) throw new Error(`${what}: not within ${PATIENCE_MS} ms; the page says:\n${await this.text()}\n${this.complaints.join("\n")}`);
      await this.evaluate("new Promise((resolve) => setTimeout(resolve, 20))").catch(() => null);
    }
  }

  text() {
    return this.evaluate("document.body.innerText");
  }

  shows(text) {
    return this.until(`the text ${JSON.stringify(text)}`, `document.body.innerText.replaceAll("\\u00a0", " ").includes(${JSON.stringify(text)})`);
  }

  async open(url) {
    await this.send("Page.navigate", { url });
  }

  /** Goes to a page of ours by its address. */
  async go(hash) {
    await this.evaluate(`location.hash = ${JSON.stringify(hash)}`);
  }

  /** Clicks what has this text, with the mouse, as somebody would. */
  async click(text, within = "body") {
    const find = `[...document.querySelectorAll(${JSON.stringify(`${within} :is(button, a, summary)`)})].find((it) => !it.disabled && it.checkVisibility() && (it.innerText ?? it.textContent).trim().startsWith(${JSON.stringify(text)}))`;
    await this.until(`something to click that says ${JSON.stringify(text)}`, `Boolean(${find})`);
    const at = await this.evaluate(`(() => { const it = ${find}; it.scrollIntoView({ block: "center" }); const box = it.getBoundingClientRect(); return { x: box.x + Math.min(box.width / 2, 12), y: box.y + box.height / 2 }; })()`);
    for (const type of ["mousePressed", "mouseReleased"]) await this.send("Input.dispatchMouseEvent", { type, ...at, button: "left", clickCount: 1 });
  }

  /** Presses keys one after the other. */
  async press(...keys) {
    for (const key of keys) {
      const text = key.length === 1 ? key : key === "Enter" ? "\r" : undefined;
      const code = { Enter: 13, Escape: 27, ArrowDown: 40, Tab: 9 }[key] ?? key.toUpperCase().charCodeAt(0);
      await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, text, windowsVirtualKeyCode: code });
      await this.send("Input.dispatchKeyEvent", { type: "keyUp", key, windowsVirtualKeyCode: code });
    }
  }

  type(text) {
    return this.send("Input.insertText", { text });
  }

  /** A screen of this size, in this scheme of colours. */
  async screen(width, height, scheme = "light") {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }] });
  }

  async picture() {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }

  async end() {
    const isGone = new Promise((resolve) => this.process.once("exit", resolve));
    this.session = undefined;
    this.input.write(`${JSON.stringify({ id: 0, method: "Browser.close" })}\0`);
    const timer = setTimeout(() => this.process.kill("SIGKILL"), 5_000);
    await isGone;
    clearTimeout(timer);
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
