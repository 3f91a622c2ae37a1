// Streams that do not ask for usage, with the official openai client, and what it sees of them as JSON.
//
//     openai_stream_usage.mjs BASE_URL NAME
//
// Some of the upstreams refuse requests that do ask. The script for Python beside this one does the same.
// tests/e2e/caps_and_reservations/clients.rs compares what the clients see with and without the filter.

import OpenAI, { APIError } from "openai";

const [baseURL, name] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hello!" }];

const upstreams = {
  willing: {},
  objects: { "x-mock-no-stream-options": "400" },
  "cannot-process": { "x-mock-no-stream-options": "422", "x-mock-chunk-bytes": "20" },
  compresses: { "x-mock-no-stream-options": "400", "x-mock-compress": "always" },
  fails: { "x-mock-status": "400", "x-mock-error-message": "Unsupported value: 'model'" },
};

async function see(request) {
  try {
    const chunks = [];
    for await (const chunk of await request()) chunks.push(chunk);
    return chunks;
  } catch (error) {
    if (error instanceof APIError) return { status: error.status, body: error.error };
    throw error;
  }
}

const seen = {};
for (const [upstream, defaultHeaders] of Object.entries(upstreams)) {
  // Each upstream objects for itself.
  const model = `gpt-4o-${upstream}`;
  const api = new OpenAI({ baseURL, apiKey: `usage-${name}-${upstream}`, defaultHeaders });
  const chat = (more) => see(() => api.chat.completions.create({ model, messages, stream: true, ...more }));
  seen[`chat ${upstream}`] = await chat({});
  if (upstream === "willing") {
    seen["chat with options"] = await chat({ stream_options: { include_obfuscation: false } });
  }
  seen[`completions ${upstream}`] = await see(() =>
    api.completions.create({ model: `${model}-instruct`, prompt: "Hello!", stream: true }),
  );
  seen[`responses ${upstream}`] = await see(() => api.responses.create({ model, input: "Hello!", stream: true }));
  seen[`again ${upstream}`] = await chat({});
}
console.log(JSON.stringify(seen));
