// OpenAI's JavaScript client fetches one clip of each model that it is given; prints a JSON line for each.
// Usage: NODE_EXTRA_CA_CERTS=… node any_openai.mjs URL KEY MODEL …

import OpenAI from "openai";

const [url, apiKey, ...models] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });
for (const model of models) {
  let video = await client.videos.create({ model, prompt: "a kite", seconds: "5" });
  while (video.status === "queued" || video.status === "in_progress") {
    await new Promise((resolve) => setTimeout(resolve, 100));
    video = await client.videos.retrieve(video.id);
  }
  let start = "";
  if (video.status === "completed") {
    const bytes = await (await client.videos.downloadContent(video.id)).arrayBuffer();
    start = Buffer.from(bytes.slice(4, 8)).toString("latin1");
  }
  console.log(JSON.stringify({ name: model, id: video.id, start, error: video.error?.message ?? null }));
}
