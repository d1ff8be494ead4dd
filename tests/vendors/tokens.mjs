// An issuer of JWTs: it signs with three kinds of keys and publishes them.

import { createServer } from "node:http";

import { library } from "./installed.mjs";

const { SignJWT, createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify } = await library("jose");

const ISSUER = "https://issuer.example/";
const AUDIENCE = "https://hooks.example/jwt";
const ALGORITHMS = ["RS256", "ES256", "EdDSA"];
/** As far as the host lets a time be off. */
const WINDOW = 300;

const keys = await Promise.all(
  ALGORITHMS.map(async (alg) => ({ alg, kid: `key ${alg}`, ...(await generateKeyPair(alg, { extractable: true })) })),
);
const published = {
  keys: [
    { kty: "oct", kid: "no public key", k: "c2VjcmV0", alg: "HS256" },
    { kty: "of-a-kind-to-come", kid: "unknown" },
    ...(await Promise.all(
      keys.map(async ({ alg, kid, publicKey }) => ({ ...(await exportJWK(publicKey)), kid, alg, use: "sig" })),
    )),
  ],
};

/** Publishes the keys. */
export function serve() {
  const server = createServer((_, answer) => {
    answer.setHeader("content-type", "application/jwk-set+json");
    answer.end(JSON.stringify(published));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const url = `http://127.0.0.1:${server.address().port}/jwks.json`;
      resolve({ url, close: () => server.close() });
    });
  });
}

function requests() {
  const now = Math.floor(Date.now() / 1000);
  const claims = { sub: "sender@example.com", iat: now, exp: now + 600, iss: ISSUER, aud: AUDIENCE };
  const sign = ({ alg, kid, privateKey }, more = {}) =>
    new SignJWT({ ...claims, ...more }).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(privateKey);
  const options = { issuer: ISSUER, audience: AUDIENCE, subject: claims.sub, clockTolerance: WINDOW };
  const verify = (token) => async () => {
    const verdict = jwtVerify(token, createLocalJWKSet(published), { ...options, algorithms: ALGORITHMS });
    return verdict.then(() => true, () => false);
  };
  let count = 0;
  const one = (name, isGood, token) => {
    const id = `job-${(count += 1)}`;
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", "x-job": id };
    return { name, isGood, id, request: { headers, body: `{"job":${count}}`, verify: verify(token) } };
  };
  return (async function* () {
    for (const key of keys) {
      yield one(`${key.alg} good`, true, await sign(key));
      const token = await sign(key);
      const [head, , signature] = token.split(".");
      const other = (await sign(key, { admin: true })).split(".")[1];
      yield one(`${key.alg} altered`, false, `${head}.${other}.${signature}`);
      yield one(`${key.alg} stale`, false, await sign(key, { exp: now - WINDOW - 10 }));
      yield one(`${key.alg} nearly stale`, true, await sign(key, { exp: now - WINDOW / 2 }));
      yield one(`${key.alg} early`, false, await sign(key, { nbf: now + WINDOW + 120 }));
      yield one(`${key.alg} for others`, false, await sign(key, { aud: "https://elsewhere.example" }));
      yield one(`${key.alg} for several`, true, await sign(key, { aud: ["https://elsewhere.example", AUDIENCE] }));
      yield one(`${key.alg} of another issuer`, false, await sign(key, { iss: "https://other.example/" }));
      yield one(`${key.alg} of another subject`, false, await sign(key, { sub: "somebody@example.com" }));
      yield one(`${key.alg} named otherwise`, false, await sign({ ...key, kid: keys.find((it) => it !== key).kid }));
    }
    const foreign = await generateKeyPair("ES256");
    yield one("foreign key", false, await sign({ alg: "ES256", kid: "key ES256", ...foreign }));
    const secret = new TextEncoder().encode(JSON.stringify(published.keys[2]));
    yield one("public key as a secret", false, await sign({ alg: "HS256", kid: "key RS256", privateKey: secret }));
  })();
}

export const vendors = { jwt: requests };
