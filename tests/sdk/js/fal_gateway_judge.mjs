// fal's own client, sent to a gateway by `proxyUrl` alone; prints what it saw, one JSON line for each scene.
// Usage: node fal_gateway_judge.mjs URL KEY PICTURE_IN_BASE64

import { createFalClient } from "@fal-ai/client";

const [url, credentials, drawn] = process.argv.slice(2);
const model = "fal-ai/kling-video/v3/pro/text-to-video";
const withPicture = "fal-ai/kling-video/v3/pro/image-to-video";
const input = { prompt: "a cat", duration: "5", generate_audio: false };
const client = (credentials) =>
  createFalClient({ credentials, proxyUrl: { url: `${url}/fal/proxy`, when: "always" } });
const fal = client(credentials);

const square = () => new Blob([Buffer.from(drawn, "base64")], { type: "image/png" });
const submit = async (more = {}) =>
  (await fal.queue.submit(model, { input: { ...input, ...more } })).request_id;

const scenes = {
  async status_and_result() {
    const queued = await fal.queue.submit(model, { input, priority: "low", hint: "a-runner", startTimeout: 30 });
    const requestId = queued.request_id;
    const last = await fal.queue.subscribeToStatus(model, { requestId, logs: true, pollInterval: 10 });
    return { queued, last, result: await fal.queue.result(model, { requestId }) };
  },

  async stream() {
    const stream = await fal.queue.streamStatus(model, { requestId: await submit(), logs: true });
    const statuses = [];
    stream.on("data", (event) => statuses.push(event.status));
    return { last: await stream.done(), statuses };
  },

  async subscribe() {
    const updates = [];
    const onQueueUpdate = (update) => updates.push(update.status);
    return { result: await fal.subscribe(model, { input, pollInterval: 10, logs: true, onQueueUpdate }), updates };
  },

  async subscribe_by_stream() {
    const updates = [];
    const onQueueUpdate = (update) => updates.push(update.status);
    return { result: await fal.subscribe(model, { input, mode: "streaming", onQueueUpdate }), updates };
  },

  async run() {
    return { result: await fal.run(model, { input }) };
  },

  async a_picture_in_the_input() {
    const given = { ...input, image_url: square(), aspect_ratio: "16:9" };
    return { result: await fal.subscribe(withPicture, { input: given, pollInterval: 10 }) };
  },

  async upload() {
    const address = await fal.storage.upload(square());
    const back = Buffer.from(await (await fetch(address)).arrayBuffer());
    return { address, same: back.equals(Buffer.from(drawn, "base64")) };
  },

  async cancel() {
    const requestId = await submit();
    await fal.queue.cancel(model, { requestId });
    return { status: await fal.queue.subscribeToStatus(model, { requestId, pollInterval: 10 }) };
  },

  async invalid_input() {
    await fal.subscribe(model, { input: { ...input, duration: "99" }, pollInterval: 10 });
  },

  async no_such_key() {
    await client("nonsense").queue.submit(model, { input });
  },

  async elsewhere() {
    const answer = await fetch(`${url}/fal/proxy`, {
      method: "POST",
      headers: { authorization: `Key ${credentials}`, "x-fal-target-url": "http://127.0.0.1:1/fal-ai/x" },
    });
    return { status: answer.status, body: await answer.json() };
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
