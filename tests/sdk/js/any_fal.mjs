// fal's JavaScript client fetches one clip of each model that it is given; prints a JSON line for each.
// Usage: NODE_EXTRA_CA_CERTS=… node any_fal.mjs URL KEY MODEL …

import { fal } from "@fal-ai/client";

const [url, credentials, ...models] = process.argv.slice(2);
fal.config({ credentials, proxyUrl: { url: `${url}/fal/proxy`, when: "always" } });
for (const model of models) {
  let id = null;
  let start = "";
  let error = null;
  try {
    const input = { prompt: "a kite", duration: "5" };
    const onEnqueue = (number) => (id = number);
    const result = await fal.subscribe(`filmgate/${model}`, { input, pollInterval: 100, onEnqueue });
    const bytes = await (await fetch(result.data.video.url)).arrayBuffer();
    start = Buffer.from(bytes.slice(4, 8)).toString("latin1");
  } catch (refused) {
    error = `${refused.message} ${JSON.stringify(refused.body ?? null)}`;
  }
  console.log(JSON.stringify({ name: model, id, start, error }));
}
