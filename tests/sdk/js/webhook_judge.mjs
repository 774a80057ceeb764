// Lets OpenAI's own client verify and read webhooks; prints what it saw, one JSON line for each.
// Usage: node webhook_judge.mjs FILE. FILE holds a list of {name, secret, headers, body}.

import fs from "node:fs";

import OpenAI from "openai";

for (const { name, secret, headers, body } of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  const client = new OpenAI({ apiKey: "none", webhookSecret: secret });
  try {
    console.log(JSON.stringify({ name, event: await client.webhooks.unwrap(body, headers) }));
  } catch (error) {
    console.log(JSON.stringify({ name, refused: error.constructor.name }));
  }
}
