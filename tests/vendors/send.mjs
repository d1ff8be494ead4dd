// Sends to a host what vendors would send, signed by their own libraries, and says what became of each request.
//
// It runs where the packages are installed. First it prints one line: the secrets that it signs with, and where it serves
// its JWKS. Then it reads one line, the URL of the host, and prints a line for each request: what was sent, whether the
// vendor's own library would take it, and what the host said.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

import * as events from "./events.mjs";
import * as signers from "./signers.mjs";
import * as tokens from "./tokens.mjs";

/** For one answer: a busy machine is slow. */
const ANSWER_WITHIN_MS = 60_000;

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

async function post(url, { headers, body }) {
  const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
  const answer = await fetch(url, { method: "POST", headers, body, signal });
  return { status: answer.status, message: answer.headers.get("bulkhead-message-id"), answer: await answer.text() };
}

const jwks = await tokens.serve();
say({ jwks: jwks.url, secrets: { ...signers.secrets, ...events.secrets } });
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const host = (await lines.next()).value;
for (const [vendor, requests] of Object.entries({ ...signers.vendors, ...events.vendors, ...tokens.vendors })) {
  const url = `${host}/${vendor}`;
  for await (const { name, isGood, id, request } of requests(url)) {
    const isTaken = request.verify ? await request.verify() : null;
    const digest = createHash("sha256").update(request.body).digest("hex");
    say({ vendor, name, isGood, isTaken, id, digest, ...(await post(request.url ?? url, request)) });
  }
}
jwks.close();
process.exit(0);
