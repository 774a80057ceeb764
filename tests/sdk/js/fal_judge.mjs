// Puts fal's own client through its paces against a fal server; prints what it saw, one JSON line for each scene.
// Usage: node fal_judge.mjs URL. The client knows fal's hosts only, so a middleware sends each call to URL instead.

import crypto from "node:crypto";
import http from "node:http";

import { createFalClient } from "@fal-ai/client";

const url = process.argv[2];
const model = "fal-ai/kling-video/v3/pro/text-to-video";
const withPicture = "fal-ai/kling-video/v3/pro/image-to-video";
const input = { prompt: "a cat", duration: "5", generate_audio: false };
const hosts = {
  "https://queue.fal.run/": `${url}/`,
  "https://fal.run/": `${url}/run/`,
  "https://rest.fal.ai/": `${url}/`,
};

function client(credentials) {
  return createFalClient({
    credentials,
    requestMiddleware: async (request) => {
      const host = Object.keys(hosts).find((known) => request.url.startsWith(known));
      if (!host) throw new Error(`the client calls a host that fal does not have: ${request.url}`);
      return { ...request, url: request.url.replace(host, hosts[host]) };
    },
  });
}

const fal = client("test-id:test-secret");

async function say(...acts) {
  const answer = await fetch(`${url}/_script`, { method: "POST", body: JSON.stringify(acts) });
  if (!answer.ok) throw new Error(await answer.text());
}

function square() {
  const pixels = Buffer.from(process.argv[3], "base64"); // a PNG that the caller of this judge has drawn
  return new Blob([pixels], { type: "image/png" });
}

async function submit(more = {}) {
  return (await fal.queue.submit(model, { input: { ...input, ...more } })).request_id;
}

const scenes = {
  async submit() {
    return { queued: await fal.queue.submit(model, { input, priority: "low", hint: "a-runner", startTimeout: 30 }) };
  },

  async status_and_result() {
    const requestId = await submit();
    const statuses = [];
    for (let status; status !== "COMPLETED"; statuses.push(status)) {
      ({ status } = await fal.queue.status(model, { requestId, logs: true }));
    }
    const result = await fal.queue.result(model, { requestId });
    return { requestId, statuses, result };
  },

  async stream() {
    const stream = await fal.queue.streamStatus(model, { requestId: await submit(), logs: true });
    const statuses = [];
    stream.on("data", (event) => statuses.push(event.status));
    const last = await stream.done();
    return { statuses, last };
  },

  async subscribe() {
    const updates = [];
    const onQueueUpdate = (update) => updates.push(update.status);
    const result = await fal.subscribe(model, { input, pollInterval: 10, logs: true, onQueueUpdate });
    return { updates, result };
  },

  async subscribe_by_stream() {
    const updates = [];
    const onQueueUpdate = (update) => updates.push(update.status);
    return { result: await fal.subscribe(model, { input, mode: "streaming", onQueueUpdate }), updates };
  },

  async run() {
    await say({ verb: "render", on: "run", seconds: 0 });
    return { result: await fal.run(model, { input }) };
  },

  async cancel() {
    const requestId = await submit();
    await fal.queue.cancel(model, { requestId });
    const status = await fal.queue.status(model, { requestId });
    return { status };
  },

  async cancel_too_late() {
    const requestId = await submit();
    await fal.queue.subscribeToStatus(model, { requestId, pollInterval: 10 });
    await fal.queue.cancel(model, { requestId });
  },

  async upload() {
    const address = await fal.storage.upload(square());
    const back = Buffer.from(await (await fetch(address)).arrayBuffer());
    return { address, same: back.equals(Buffer.from(await square().arrayBuffer())) };
  },

  async a_picture_in_the_input() {
    const result = await fal.subscribe(withPicture, { input: { ...input, start_image_url: square() }, pollInterval: 10 });
    return { result };
  },

  async invalid_input() {
    await fal.subscribe(model, { input: { ...input, duration: 5 }, pollInterval: 10 });
  },

  async moderation() {
    await fal.subscribe(model, { input: { ...input, prompt: "forbidden-by-policy" }, pollInterval: 10 });
  },

  async failed_render() {
    await say({ verb: "fail_render", word: "runner_server_error", message: "the runner broke" });
    const requestId = await submit();
    const status = await fal.queue.subscribeToStatus(model, { requestId, pollInterval: 10 });
    const error = await fal.queue.result(model, { requestId }).catch((reason) => reason);
    return { status, result: { status: error.status, body: error.body } };
  },

  async locked() {
    await say({ verb: "status", status: 403 });
    await submit();
  },

  async no_key() {
    await client("").queue.submit(model, { input });
  },

  async lost_reply() {
    await say({ verb: "accept_then_cut" });
    return { requestId: await submit({ prompt: "lost reply" }) };
  },

  async signature() {
    await say({ verb: "render", seconds: 0 });
    const called = new Promise((resolve) => {
      const gateway = http.createServer(async (request, answer) => {
        const pieces = [];
        for await (const piece of request) pieces.push(piece);
        const body = Buffer.concat(pieces);
        answer.end();
        gateway.close();
        gateway.closeAllConnections();
        resolve({ headers: request.headers, body });
      });
      gateway.listen(0, "127.0.0.1", () =>
        fal.queue.submit(model, { input, webhookUrl: `http://127.0.0.1:${gateway.address().port}/callbacks/t` }),
      );
    });
    const { headers, body } = await called;
    const { keys } = await (await fetch(`${url}/.well-known/jwks.json`)).json();
    const digest = crypto.createHash("sha256").update(body).digest("hex");
    const named = ["request-id", "user-id", "timestamp"].map((name) => headers[`x-fal-webhook-${name}`]);
    const signature = Buffer.from(headers["x-fal-webhook-signature"], "hex");
    const confirms = (text) =>
      keys.some((key) =>
        crypto.verify(null, Buffer.from(text), crypto.createPublicKey({ key, format: "jwk" }), signature),
      );
    return {
      confirmed: confirms([...named, digest].join("\n")),
      forged: confirms([...named, digest, ""].join("\n")),
      told: JSON.parse(body),
    };
  },
};

for (const [name, scene] of Object.entries(scenes)) {
  let seen;
  try {
    seen = await scene();
  } catch (error) {
    const { message, status, body } = error;
    seen = { error: { name: error.constructor.name, message, status, body, fields: error.fieldErrors } };
  }
  console.log(JSON.stringify({ name, ...seen }));
}
