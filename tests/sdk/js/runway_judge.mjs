// Puts Runway's own client through its paces against a Runway server; prints what it saw, one JSON line for each scene.
// Usage: node runway_judge.mjs URL PICTURE. PICTURE is a PNG in base64. Its helper looks every 6 s; here it looks at once.

import RunwayML, { toFile } from "@runwayml/sdk";

const [baseURL, drawn] = process.argv.slice(2);
const client = new RunwayML({ apiKey: "key_test", baseURL });
const input = { model: "gen4.5", promptText: "a cat", ratio: "1280:720", duration: 5 };

const patient = globalThis.setTimeout;
globalThis.setTimeout = (work, delay, ...more) => patient(work, delay > 4000 && delay < 8000 ? 1 : delay, ...more);

async function say(...acts) {
  const answer = await fetch(`${baseURL}/_script`, { method: "POST", body: JSON.stringify(acts) });
  if (!answer.ok) throw new Error(await answer.text());
}

const scenes = {
  async submit_and_poll() {
    const created = await client.textToVideo.create(input);
    const told = [];
    for (let look = 0; look < 3; look++) told.push(await client.tasks.retrieve(created.id));
    const clip = Buffer.from(await (await fetch(told[2].output[0])).arrayBuffer());
    return { created, told, start: clip.subarray(4, 8).toString() };
  },

  async wait() {
    return { done: await client.textToVideo.create(input).waitForTaskOutput() };
  },

  async upload() {
    const file = await toFile(Buffer.from(drawn, "base64"), "a.png", { type: "image/png" });
    const { uri } = await client.uploads.createEphemeral({ file });
    const promptImage = [{ uri, position: "first" }];
    const done = await client.imageToVideo.create({ ...input, promptImage, ratio: "1104:832" }).waitForTaskOutput();
    return { uri, done };
  },

  async failure() {
    await say({ verb: "fail_render", word: "THIRD_PARTY.UNAVAILABLE", message: "the partner is away" });
    await client.textToVideo.create(input).waitForTaskOutput();
  },

  async moderation() {
    await client.textToVideo.create({ ...input, promptText: "forbidden-by-policy" }).waitForTaskOutput();
  },

  async cancel() {
    const created = client.textToVideo.create(input);
    const { id } = await created;
    await client.tasks.delete(id);
    const waited = await created.waitForTaskOutput().catch((error) => error.name);
    return { told: await client.tasks.retrieve(id), waited };
  },

  async cancel_again() {
    const { id } = await client.textToVideo.create(input);
    await client.tasks.delete(id);
    await client.tasks.delete(id);
  },

  async invalid() {
    await client.textToVideo.create({ ...input, ratio: "1:1", duration: 50 });
  },

  async bad_key() {
    await new RunwayML({ apiKey: "key_nobody", baseURL }).textToVideo.create(input);
  },

  async lost_reply() {
    await say({ verb: "accept_then_cut" });
    return { id: (await client.textToVideo.create({ ...input, promptText: "lost reply" })).id };
  },
};

for (const [name, scene] of Object.entries(scenes)) {
  let seen;
  try {
    seen = await scene();
  } catch (error) {
    const { message, status, taskDetails } = error;
    seen = { error: { name: error.constructor.name, message, status, body: error.error, task: taskDetails } };
  }
  console.log(JSON.stringify({ name, ...seen }));
}
