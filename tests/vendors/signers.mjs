// Vendors that sign: each request by the vendor's own library where that can sign, else as the vendor documents it, and
// in both cases judged by the vendor's own verifier.

import { createHmac } from "node:crypto";

import { data, library, payload } from "./installed.mjs";

const Stripe = (await library("stripe")).default;
const standard = await library("standardwebhooks");
const svix = await library("svix");
const { Webhooks } = await library("@octokit/webhooks");
const twilio = (await library("twilio")).default;
const { isValidSlackRequest } = (await library("@slack/bolt")).default;
const { webhooks: shopifyWebhooks } = await shopify();

/** For each the one that is used now, and the one before. */
export const secrets = {
  stripe: ["whsec_9f2bNew7ZkQxTq1vL0cR", "whsec_4a1dOld8YjPwSp2uK9bQ"],
  standard: [base64("a new key of twenty-four"), base64("an older one of so much!")],
  svix: [base64("the new key of the other"), base64("the old key of the other")],
  github: ["It's a Secret to Everybody", "and so was this ünïcödé one"],
  twilio: ["12345678901234567890123456789012", "abcdefabcdefabcdefabcdefabcdefab"],
  slack: ["8f742231b10e8888abcd99yyyzzz85a5", "0a742231b10e8888abcd99yyyzzz85a5"],
  shopify: ["shpss_0123456789abcdef", "shpss_fedcba9876543210aa"],
};

function base64(text) {
  return `whsec_${Buffer.from(text).toString("base64")}`;
}

// Twilio's library warns of a hash that it does not know; one is sent on purpose.
console.warn = () => {};

const now = () => Math.floor(Date.now() / 1000);
const isRight = (check) => async () => {
  try {
    return (await check()) !== false;
  } catch {
    return false;
  }
};

/**
 * What every signer goes through. `event(n)` is the body of the nth event, and its id; `sign` makes a request of a body, with
 * a secret and a time.
 */
async function* trial([fresh, old], event, sign, { isTimed, window = 300 }) {
  const foreign = fresh.slice(0, 6) + fresh.slice(6).split("").reverse().join("");
  const one = async (name, isGood, n, secret, at = now(), change = (body) => body) => {
    const { id, body } = event(n);
    return { name, isGood, id, request: await sign({ id, body, secret, at, sent: change(body) }) };
  };
  const good = await one("good", true, 1, fresh);
  yield good;
  yield { ...good, name: "repeat" };
  yield await one("altered", false, 2, fresh, now(), (body) => body.replace(/.$/s, (last) => (last === " " ? "_" : " ")));
  yield await one("old secret", true, 3, old);
  yield await one("foreign secret", false, 4, foreign);
  if (isTimed) {
    yield await one("stale", false, 5, fresh, now() - window - 10);
    yield await one("nearly stale", true, 6, fresh, now() - window / 2);
  }
}

function stripeRequests() {
  const { webhooks } = new Stripe("sk_test_none");
  const text = payload("stripe-invoice.json");
  const event = (n) => ({ id: `evt_${n}`, body: text.replace("evt_1PxYzA2eZvKYlo2CQ8mB3nLd", `evt_${n}`) });
  const request = (header, body) => ({
    headers: { "content-type": "application/json; charset=utf-8", "stripe-signature": header },
    body,
    verify: async () => {
      const verdicts = secrets.stripe.map((secret) => isRight(() => webhooks.constructEvent(body, header, secret))());
      return (await Promise.all(verdicts)).includes(true);
    },
  });
  const header = (body, secret, timestamp = now(), scheme = "v1") =>
    webhooks.generateTestHeaderString({ payload: body, secret, timestamp, scheme });
  return (async function* () {
    yield* trial(secrets.stripe, event, ({ body, secret, at, sent }) => request(header(body, secret, at), sent), {
      isTimed: true,
    });
    // While a secret is rolled: a signature for each.
    const { id, body } = event(7);
    const [first, second] = secrets.stripe.map((secret) => header(body, secret));
    yield { name: "both secrets", isGood: true, id, request: request(`${first},${second.split(",")[1]}`, body) };
    const test = header(event(8).body, secrets.stripe[0], now(), "v0");
    yield { name: "v0 alone", isGood: false, id: "evt_8", request: request(test, event(8).body) };
  })();
}

function standardRequests(Webhook, prefix, keys) {
  const event = (n) => ({ id: `msg_${prefix}_${n}`, body: payload("cloud-event.json").replace("1999", `${n}`) });
  const request = (id, at, signature, body) => {
    const headers = { [`${prefix}-id`]: id, [`${prefix}-timestamp`]: `${at}`, [`${prefix}-signature`]: signature };
    return {
      headers: { "content-type": "application/json", ...headers },
      body,
      verify: async () => {
        const verdicts = keys.map((key) => isRight(() => (new Webhook(key).verify(body, headers), true))());
        return (await Promise.all(verdicts)).includes(true);
      },
    };
  };
  const sign = (id, body, secret, at) => new Webhook(secret).sign(id, new Date(at * 1000), body);
  return (async function* () {
    const signed = ({ id, body, secret, at, sent }) => request(id, at, sign(id, body, secret, at), sent);
    yield* trial(keys, event, signed, { isTimed: true });
    const { id, body } = event(7);
    const at = now();
    const both = keys.map((key) => sign(id, body, key, at)).join(" ");
    yield { name: "both secrets", isGood: true, id, request: request(id, at, both, body) };
    const of = `v1a,AAAA ${sign("msg_other", body, keys[0], at)}`;
    yield { name: "another id", isGood: false, id, request: request(id, at, of, body) };
  })();
}

/** Payloads that GitHub has sent, the first ones of many kinds, and one with all sorts of text. */
const GITHUB_EVENTS = [
  "check_run", "dependabot_alert", "deployment_status", "discussion", "fork", "gollum", "installation", "issue_comment",
  "issues", "label", "meta", "ping", "pull_request", "pull_request_review", "push", "release", "repository_dispatch",
  "security_advisory", "star", "status", "watch", "workflow_dispatch", "workflow_job", "workflow_run",
];

function githubRequests() {
  const signers = secrets.github.map((secret) => new Webhooks({ secret }));
  const request = (kind, id, signature, body) => ({
    headers: {
      "content-type": "application/json",
      "user-agent": "GitHub-Hookshot/044aadd",
      "x-github-delivery": id,
      "x-github-event": kind,
      "x-github-hook-id": "292430182",
      "x-hub-signature": "sha1=0000000000000000000000000000000000000000",
      "x-hub-signature-256": signature,
    },
    body,
    verify: async () => {
      const verdicts = signers.map((signer) => isRight(() => signer.verify(body, signature))());
      return (await Promise.all(verdicts)).includes(true);
    },
  });
  const uuid = (n) => `72d3162e-cc78-11e3-81ab-${String(n).padStart(12, "0")}`;
  const text = payload("github-issue.json");
  const event = (n) => ({ id: uuid(n), body: text.replace("1347", `${n}`) });
  return (async function* () {
    const sign = async ({ id, body, secret, sent }) =>
      request("issues", id, await new Webhooks({ secret }).sign(body), sent);
    yield* trial(secrets.github, event, sign, { isTimed: false });
    const examples = data("@octokit/webhooks-examples");
    for (const [index, kind] of GITHUB_EVENTS.entries()) {
      const body = JSON.stringify(examples.find(({ name }) => name === kind).examples[0]);
      const id = uuid(100 + index);
      yield { name: `captured ${kind}`, isGood: true, id, request: request(kind, id, await signers[0].sign(body), body) };
    }
  })();
}

function twilioRequests(url) {
  const form = payload("twilio-sms.txt");
  const sid = "SM1f0e8ae6ade43cb3c0ce4525424e404f";
  const event = (n) => ({ id: `I-${n}`, body: form.replaceAll(sid, `SM${String(n).padStart(32, "0")}`) });
  const called = `${url}?from=caf%C3%A9&flow=a%20b`;
  const parameters = (body) => {
    const found = {};
    for (const [name, value] of new URLSearchParams(body)) {
      found[name] = name in found ? [found[name], value].flat() : value;
    }
    return found;
  };
  const request = (id, at, body, signature, settings, type = "application/x-www-form-urlencoded; charset=UTF-8") => {
    const algorithm = twilio.getSignatureAlgorithm(settings);
    const isForm = type.startsWith("application/x-www-form");
    const check = (secret) =>
      isForm
        ? twilio.validateRequest(secret, signature, at, parameters(body), algorithm)
        : twilio.validateRequestWithBody(secret, signature, at, body, algorithm);
    const chosen = settings ? { "x-twilio-webhooks-signature-settings": settings } : {};
    return {
      url: at,
      headers: { "content-type": type, "i-twilio-idempotency-token": id, "x-twilio-signature": signature, ...chosen },
      body,
      verify: async () => secrets.twilio.some(check),
    };
  };
  const [secret] = secrets.twilio;
  const sign = (at, body, algorithm) => twilio.getExpectedTwilioSignature(secret, at, parameters(body), algorithm);
  return (async function* () {
    const signed = ({ id, body, secret, sent }) =>
      request(id, called, sent, twilio.getExpectedTwilioSignature(secret, called, parameters(body)));
    yield* trial(secrets.twilio, event, signed, { isTimed: false });
    const more = (name, isGood, n, make) => {
      const { id, body } = event(n);
      return { name, isGood, id, request: make(id, body) };
    };
    const withoutPort = called.replace(/:\d+\//, "/");
    yield more("no port", true, 7, (id, body) => request(id, called, body, sign(withoutPort, body)));
    const settings = "key=webhooks_sharedkey_01,algorithm=HMAC_SHA256";
    yield more("SHA-256", true, 8, (id, body) => request(id, called, body, sign(called, body, "HMAC_SHA256"), settings));
    yield more("SHA-1 for SHA-256", false, 9, (id, body) => request(id, called, body, sign(called, body), settings));
    const other = settings.replace("SHA256", "MD5");
    yield more("an unknown hash", false, 10, (id, body) => request(id, called, body, sign(called, body), other));
    yield more("fields that come twice", true, 11, (id, body) => {
      const twice = `${body}&Media=b&Media=a&Media=b&media=c&Empty=`;
      return request(id, called, twice, sign(called, twice));
    });
    const text = payload("twilio-event.json");
    const hashed = `${called}&bodySHA256=${twilio.getExpectedBodyHash(text)}`;
    const json = (body) => (id) =>
      request(id, hashed, body, twilio.getExpectedTwilioSignature(secret, hashed, {}), undefined, "application/json");
    yield more("JSON", true, 12, json(text));
    yield more("JSON altered", false, 13, json(text.replace("SM1f", "SM2f")));
  })();
}

/** Slack has no library that signs. */
function slackRequests() {
  const request = (id, at, signature, body, type) => ({
    headers: {
      "content-type": type,
      "user-agent": "Slackbot 1.0 (+https://api.slack.example/robots)",
      "x-slack-request-timestamp": `${at}`,
      "x-slack-signature": signature,
    },
    body,
    verify: async () => {
      const headers = { "x-slack-request-timestamp": at, "x-slack-signature": signature };
      return secrets.slack.some((signingSecret) => isValidSlackRequest({ signingSecret, body, headers }));
    },
  });
  const sign = (body, secret, at) => `v0=${createHmac("sha256", secret).update(`v0:${at}:${body}`).digest("hex")}`;
  const text = payload("slack-event.json");
  const event = (n) => ({ id: `Ev${n}`, body: text.replace("Ev123ABC456", `Ev${n}`) });
  const JSON_TYPE = "application/json";
  return (async function* () {
    const signed = ({ id, body, secret, at, sent }) => request(id, at, sign(body, secret, at), sent, JSON_TYPE);
    yield* trial(secrets.slack, event, signed, { isTimed: true });
    const [at, [secret]] = [now(), secrets.slack];
    const command = payload("slack-command.txt");
    const form = "application/x-www-form-urlencoded";
    yield {
      name: "slash command",
      isGood: true,
      id: null,
      request: request(null, at, sign(command, secret, at), command, form),
    };
    const question = payload("slack-question.json");
    yield {
      name: "question",
      isGood: true,
      id: null,
      request: request(null, at, sign(question, secret, at), question, JSON_TYPE),
    };
    yield {
      name: "question unsigned",
      isGood: false,
      id: null,
      request: request(null, at, sign(question, "no secret", at), question, JSON_TYPE),
    };
  })();
}

async function shopify() {
  await library("@shopify/shopify-api/adapters/node");
  const { shopifyApi, ApiVersion } = (await library("@shopify/shopify-api")).default;
  const webhooks = (apiSecretKey) =>
    shopifyApi({
      apiKey: "key",
      apiSecretKey,
      apiVersion: ApiVersion.July26,
      hostName: "hooks.example",
      isEmbeddedApp: false,
      logger: { level: -1 },
    }).webhooks;
  return { webhooks };
}

/** Shopify's library has no public way to sign a webhook. */
function shopifyRequests() {
  const judges = secrets.shopify.map((secret) => shopifyWebhooks(secret));
  const request = (headers, body) => ({
    headers: { "content-type": "application/json", ...headers },
    body,
    verify: async () => {
      const rawRequest = { method: "POST", url: "/shopify", headers };
      const verdicts = judges.map((judge) => judge.validate({ rawBody: body, rawRequest }));
      return (await Promise.all(verdicts)).some(({ valid }) => valid);
    },
  });
  const sign = (body, secret) => createHmac("sha256", secret).update(body).digest("base64");
  const text = payload("shopify-order.json");
  const event = (n) => ({ id: `98880550-7158-44d4-b7cd-${n}`, body: text.replace("#9999", `#${n}`) });
  const headers = (id, signature) => ({
    "X-Shopify-Topic": "orders/create",
    "X-Shopify-Hmac-Sha256": signature,
    "X-Shopify-Shop-Domain": "johns-apparel.myshopify.example",
    "X-Shopify-API-Version": "2026-07",
    "X-Shopify-Webhook-Id": `delivery ${id}`,
    "X-Shopify-Triggered-At": "2026-03-29T18:00:27.877041743Z",
    "X-Shopify-Event-Id": id,
  });
  /** Those of the kind that is to take the place of the other. */
  const newer = (id, signature) => ({
    "shopify-topic": "Order",
    "shopify-hmac-sha256": signature,
    "shopify-shop-domain": "johns-apparel.myshopify.example",
    "shopify-api-version": "unstable",
    "shopify-event-id": `event ${id}`,
    "shopify-webhook-id": id,
    "shopify-handle": "orders",
    "shopify-action": "create",
  });
  return (async function* () {
    const signed = ({ id, body, secret, sent }) => request(headers(id, sign(body, secret)), sent);
    yield* trial(secrets.shopify, event, signed, { isTimed: false });
    const [secret] = secrets.shopify;
    const one = event(7);
    const good = request(newer(one.id, sign(one.body, secret)), one.body);
    yield { name: "newer kind", isGood: true, id: one.id, request: good };
    yield { name: "newer kind repeat", isGood: true, id: one.id, request: good };
    const two = event(8);
    const wrong = request(newer(two.id, sign(two.body, "no secret")), two.body);
    yield { name: "newer kind altered", isGood: false, id: two.id, request: wrong };
    // Whoever has one signature does not get in by another.
    const both = { ...newer(two.id, sign(two.body, secret)), ...headers(two.id, sign(two.body, "no secret")) };
    yield { name: "one of two kinds", isGood: false, id: two.id, request: { ...request(both, two.body), verify: null } };
  })();
}

export const vendors = {
  stripe: stripeRequests,
  standard: () => standardRequests(standard.Webhook, "webhook", secrets.standard),
  svix: () => standardRequests(svix.Webhook, "svix", secrets.svix),
  github: githubRequests,
  twilio: twilioRequests,
  slack: slackRequests,
  shopify: shopifyRequests,
};
