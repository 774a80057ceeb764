// Puts OpenAI's own client, of the version that PACKAGE names, through every method of its `videos`; prints what it saw,
// one JSON line for each scene. A method that this version has not is `absent`.
// Usage: node openai_methods.mjs PACKAGE URL KEY PICTURE CUT. CUT is an address of the same server whose first replies are lost.

import fs from "node:fs";

const [name, url, apiKey, picture, cut] = process.argv.slice(2);
const { default: OpenAI, toFile } = await import(name);
const { VERSION } = await import(`${name}/version`);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
const clip = { model: "sandbox/steady", prompt: `a red kite, by ${VERSION}`, seconds: "1", size: "426x240" };
let made;

async function ended(video) {
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
    const { status, code } = error;
    return { class: error.constructor.name, status, code, retry: error.headers.get("x-should-retry") };
  }
  throw new Error("nothing was refused");
}

async function bytes(answer) {
  return Buffer.from(await answer.arrayBuffer());
}

function hasNot(method) {
  return typeof client.videos[method] !== "function";
}

const scenes = {
  async version() {
    return { version: VERSION };
  },

  async create_and_poll() {
    made = await ended(await client.videos.create(clip));
    return { video: made };
  },

  async create_without_a_model() {
    const video = await client.videos.create({ prompt: "a red kite", size: "426x240" });
    await client.post(`/videos/${video.id}/cancel`);
    return { video };
  },

  async create_with_a_file() {
    return { video: await client.videos.create({ ...clip, input_reference: fs.createReadStream(picture) }) };
  },

  async create_with_a_file_id() {
    const file = await client.files.create({ file: fs.createReadStream(picture), purpose: "vision" });
    const listed = [];
    for await (const one of client.files.list()) listed.push(one.id);
    const again = await client.files.retrieve(file.id);
    const data = await bytes(await client.files.content(file.id));
    const video = await client.videos.create({ ...clip, input_reference: { file_id: file.id } });
    const { deleted } = await client.files.delete(file.id);
    const same = again.id === file.id && data.equals(fs.readFileSync(picture));
    return { file, same, listed: listed.includes(file.id), deleted, video };
  },

  async create_as_json() {
    return { video: await client.post("/videos", { body: clip }) };
  },

  async retrieve() {
    return { video: await client.videos.retrieve(made.id) };
  },

  async list_pages() {
    const first = await client.videos.list({ limit: 2 });
    const ids = [];
    for await (const video of client.videos.list({ limit: 2 })) if (ids.push(video.id) === 5) break;
    const filtered = new Set();
    for await (const video of client.videos.list({ status: "completed", model: clip.model })) filtered.add(video.status);
    return { page: first.data.length, has_more: first.has_more, ids, filtered: [...filtered] };
  },

  async download() {
    const told = {};
    for (const variant of ["video", "thumbnail", "spritesheet"]) {
      const answer = await client.videos.downloadContent(made.id, { variant });
      const type = answer.headers.get("content-type");
      const data = await bytes(answer);
      told[variant] = { type, size: data.length, start: data.subarray(0, 12).toString("hex") };
    }
    return told;
  },

  async remix() {
    return { video: await client.videos.remix(made.id, { prompt: "a blue kite" }), of: made.id };
  },

  async extend() {
    if (hasNot("extend")) return { absent: true };
    const asked = { prompt: "it goes on", seconds: "1", video: { id: made.id } };
    const video = await ended(await client.videos.extend(asked));
    const data = await bytes(await client.videos.downloadContent(video.id));
    const sent = await toFile(data, "clip.mp4", { type: "video/mp4" });
    const file = await client.videos.extend({ prompt: "and on", seconds: "1", video: sent, model: clip.model });
    return { video, data: data.toString("hex"), file };
  },

  async edit() {
    if (hasNot("edit")) return { absent: true };
    return await refusal(() => client.videos.edit({ prompt: "x", video: { id: made.id } }));
  },

  async characters() {
    if (hasNot("createCharacter")) return { absent: true };
    const video = await toFile(Buffer.alloc(100_000), "clip.mp4", { type: "video/mp4" });
    return {
      create: await refusal(() => client.videos.createCharacter({ name: "Mara", video })),
      get: await refusal(() => client.videos.getCharacter("char_1")),
    };
  },

  async delete() {
    const video = await ended(await client.videos.create(clip));
    const deleted = await client.videos.delete(video.id);
    return { id: video.id, deleted, after: await refusal(() => client.videos.retrieve(video.id)) };
  },

  async models() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { models, pinned: (await client.models.retrieve("sandbox")).id };
  },

  async create_over_a_line_that_breaks() {
    const broken = new OpenAI({ baseURL: `${cut}/v1`, apiKey, maxRetries: 2 });
    return { video: await broken.videos.create({ ...clip, prompt: `once, by ${VERSION}` }) };
  },
};

for (const [scene, play] of Object.entries(scenes)) {
  console.log(JSON.stringify({ name: scene, ...(await play()) }));
}
