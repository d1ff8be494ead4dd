// Vendors that show a secret: GitLab, and CloudEvents as their SDK writes them.

import { library, payload } from "./installed.mjs";

const { CloudEvent, HTTP, Mode, emitterFor } = (await library("cloudevents")).default;

export const secrets = {
  gitlab: ["a-new-gitlab-token", "an-old-gitlab-token"],
  cloudevents: ["a-new-bearer-token", "an-old-bearer-token"],
};

function gitlabRequests() {
  const body = payload("gitlab-push.json");
  const one = (name, isGood, id, token, text = body) => ({
    name,
    isGood,
    id,
    request: {
      headers: {
        "content-type": "application/json",
        "user-agent": "GitLab/18.3.0",
        "idempotency-key": id,
        "x-gitlab-event": "Push Hook",
        "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "x-gitlab-instance": "https://gitlab.example",
        "x-gitlab-token": token,
        "x-gitlab-webhook-uuid": "02affd2d-2cba-4033-917d-ec22d5dc4b38",
      },
      body: text,
    },
  });
  const [fresh, old] = secrets.gitlab;
  return (async function* () {
    yield one("good", true, "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", fresh);
    yield one("repeat", true, "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", fresh);
    // The same once more, by the will of its sender.
    yield one("another delivery", true, "a5e5f430-f57b-4e6e-9fac-d9128cd7232f", fresh);
    yield one("old secret", true, "b5e5f430-f57b-4e6e-9fac-d9128cd7232f", old);
    yield one("foreign secret", false, "c5e5f430-f57b-4e6e-9fac-d9128cd7232f", `${fresh}x`);
    yield one("no secret", false, "d5e5f430-f57b-4e6e-9fac-d9128cd7232f", "");
  })();
}

function cloudEventRequests() {
  const event = (n, more = {}) =>
    new CloudEvent({
      id: `ce-${n}`,
      source: "https://shop.example/orders",
      type: "com.example.order.paid",
      subject: "6735",
      data: JSON.parse(payload("cloud-event.json")),
      ...more,
    });
  const one = async (name, isGood, mode, event, token = secrets.cloudevents[0]) => {
    // Their transport tells nothing of the answer.
    let sent;
    await emitterFor((message) => (sent = message), { binding: HTTP, mode })(event);
    const headers = Object.fromEntries(Object.entries(sent.headers).map(([key, value]) => [key, String(value)]));
    const request = { headers: { ...headers, authorization: `Bearer ${token}` }, body: String(sent.body) };
    return { name, isGood, id: event.id, request };
  };
  return (async function* () {
    yield await one("good", true, Mode.BINARY, event(1));
    yield await one("repeat", true, Mode.BINARY, event(1));
    yield await one("structured", true, Mode.STRUCTURED, event(2));
    yield await one("structured repeat", true, Mode.STRUCTURED, event(2));
    yield await one("old secret", true, Mode.BINARY, event(3), secrets.cloudevents[1]);
    yield await one("foreign secret", false, Mode.STRUCTURED, event(4), "another");
    yield await one("of another source", true, Mode.BINARY, event(1, { source: "/elsewhere" }));
    yield await one("extended", true, Mode.STRUCTURED, event(5, { traceparent: `00-${"ab".repeat(16)}-${"cd".repeat(8)}-01` }));
    yield await one("text", true, Mode.BINARY, event(6, { datacontenttype: "text/plain", data: "Grüße 👋" }));
  })();
}

export const vendors = { gitlab: gitlabRequests, cloudevents: cloudEventRequests };
