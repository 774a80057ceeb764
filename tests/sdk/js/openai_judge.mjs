// Puts OpenAI's own client through its paces against a Filmgate server; prints what it saw, one JSON line for each scene.
// Usage: node openai_judge.mjs URL KEY PICTURE. PICTURE is the path of a PNG file. An error is shown as its class and fields.

import fs from "node:fs";

import OpenAI, { toFile } from "openai";

const [url, apiKey, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
const clip = { model: "sandbox/steady", prompt: "a red kite over the dunes", seconds: "1", size: "426x240" };

async function finished(video) {
  // the client has no helper for it: its users write this loop
  const until = Date.now() + 60_000;
  while (video.status === "queued" || video.status === "in_progress") {
    if (Date.now() > until) throw new Error(`${video.id} is still ${video.status}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    video = await client.videos.retrieve(video.id);
  }
  return video;
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, type, requestID, message } = error;
    return { class: error.constructor.name, status, code, param, type, requestID, message };
  }
  throw new Error("nothing was refused");
}

function start(bytes) {
  return Buffer.from(bytes.slice(4, 8)).toString("latin1");
}

const scenes = {
  async create_with_a_file() {
    const input_reference = await toFile(fs.readFileSync(picture), "kite.png", { type: "image/png" });
    const video = await client.videos.create({ ...clip, input_reference });
    const done = await finished(video);
    const answer = await client.videos.downloadContent(video.id);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return { video, done, type: answer.headers.get("content-type"), size: bytes.length, start: start(bytes) };
  },

  async create_with_a_stream() {
    // sent in chunks, without a length, as application/octet-stream
    return { video: await client.videos.create({ ...clip, input_reference: fs.createReadStream(picture) }) };
  },

  async create_with_an_address() {
    const image_url = `data:image/png;base64,${fs.readFileSync(picture).toString("base64")}`;
    return { video: await client.videos.create({ ...clip, input_reference: { image_url } }) };
  },

  async create_with_our_own_fields() {
    const more = { generate_audio: true, metadata: { shot: "12" }, provider: { only: ["sandbox"], sort: "price" } };
    return { video: await client.videos.create({ ...clip, ...more, seed: 7 }) };
  },

  async create_as_json() {
    return { video: await client.post("/videos", { body: { ...clip, seconds: 1 } }) };
  },

  async create_sora() {
    return { video: await client.videos.create({ model: "sora-2", prompt: "a red kite", size: "426x240" }) };
  },

  async list() {
    const first = await client.videos.list({ limit: 2 });
    const ids = [];
    for await (const video of client.videos.list({ limit: 2 })) ids.push(video.id);
    return { ids, has_more: first.has_more, page: first.data.length };
  },

  async delete() {
    const video = await finished(await client.videos.create(clip));
    const deleted = await client.videos.delete(video.id);
    return { id: video.id, deleted, after: await refusal(() => client.videos.retrieve(video.id)) };
  },

  async bad_key() {
    const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "fg_live_nobody" });
    return await refusal(() => stranger.videos.create(clip));
  },

  async unknown_id() {
    return await refusal(() => client.videos.retrieve("video_000000000000000000000000000000000000"));
  },

  async impossible() {
    return await refusal(() => client.videos.create({ ...clip, seconds: "99" }));
  },

  async content_too_early() {
    const video = await client.videos.create({ ...clip, seconds: "5" });
    return await refusal(() => client.videos.downloadContent(video.id));
  },

  async form_labelled_json() {
    const headers = { "content-type": "application/json" };
    return await refusal(() => client.videos.create(clip, { headers }));
  },
};

for (const [name, scene] of Object.entries(scenes)) {
  console.log(JSON.stringify({ name, ...(await scene()) }));
}
