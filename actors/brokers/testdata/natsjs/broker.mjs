// A broker in JavaScript: it connects with a stock .creds file, makes the requests it
// reads from standard input, one JSON object {op, body} a line, and prints each reply,
// as {status, error, body}. A request's sealTo is filled in with the public half of a curve
// key of its own, and a sealed key in the reply opened with it: {…, opened}. It then reads
// pushes until it has seen a heartbeat.
import { createInterface } from "node:readline";
import { readFile } from "node:fs/promises";
import { connect, credsAuthenticator } from "@nats-io/transport-node";
import { createCurve } from "@nats-io/nkeys";

const [url, credsFile, broker, other] = process.argv.slice(2);
const print = (value) => console.log(JSON.stringify(value));

const nc = await connect({
  servers: url,
  authenticator: credsAuthenticator(await readFile(credsFile)),
  inboxPrefix: `_INBOX_${broker}`,
  reconnect: false,
});

// Another broker's pushes must be refused.
const foreign = nc.subscribe(`gatehouse.v1.push.${other}.>`);
const refusal = (async () => {
  try {
    for await (const _ of foreign) return "heard another broker's push";
    return "ended";
  } catch (err) {
    return err.name;
  }
})();
print({ foreign: await refusal });

const pushes = nc.subscribe(`gatehouse.v1.push.${broker}.>`);
await nc.flush();

const curve = createCurve();
const opened = (c) => c.sealedPrivateKey && {
  opened: Buffer.from(curve.open(Buffer.from(c.sealedPrivateKey, "base64"), c.sealedBy)).toString(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, body } = JSON.parse(line);
  if (body.sealTo) body.sealTo = curve.getPublicKey();
  const m = await nc.request(`gatehouse.v1.${broker}.${op}`, JSON.stringify(body), { timeout: 10000 });
  print({
    status: m.headers?.get("Nats-Service-Error-Code") ?? "",
    error: m.headers?.get("Gatehouse-Error") ?? "",
    body: m.json(),
    ...opened(m.json()),
  });
}

print({ ready: true });
for await (const m of pushes) {
  print({ push: m.subject.split(".").at(-1), body: m.json(), ...opened(m.json()) });
  if (m.subject.endsWith(".heartbeat")) break;
}
await nc.close();
