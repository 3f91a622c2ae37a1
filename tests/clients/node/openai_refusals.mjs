// Calls the gateway with the official openai client, and prints the client's view of each answer as JSON.
//
//     openai_refusals.mjs BASE_URL NAME
//
// tests/e2e/clients.rs sets the limits of the keys clients-NAME-refused, -soon and -small. The script for Python beside
// this one does the same.

import OpenAI, { RateLimitError } from "openai";

const [baseURL, name] = process.argv.slice(2);
let attempts = 0;

function client(key, maxRetries) {
  attempts = 0;
  const counted = (...request) => {
    attempts += 1;
    return fetch(...request);
  };
  return new OpenAI({ baseURL, apiKey: `clients-${name}-${key}`, maxRetries, fetch: counted });
}

const hello = (api, more) =>
  api.chat.completions.create({ model: "gpt-4o", messages: [{ role: "user", content: "Hello!" }], ...more });

async function refusal(ask) {
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof RateLimitError)) throw error;
    return {
      status: error.status,
      code: error.code,
      type: error.type,
      message: error.error.message,
      retry_after_ms: error.headers.get("retry-after-ms"),
      attempts,
    };
  }
  throw new Error("the request was not refused");
}

async function streamed(api) {
  const stream = await hello(api, { stream: true, stream_options: { include_usage: true } });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices.map((choice) => choice.delta.content ?? "").join("");
    usage = chunk.usage ?? usage;
  }
  return { text, completion_tokens: usage.completion_tokens };
}

const seen = {};
let api = client("refused", 0);
seen.answered = (await hello(api)).choices[0].message.content;
seen.streamed = await streamed(api);
seen.refused = await refusal(() => hello(api));
seen.refused_stream = (await refusal(() => hello(api, { stream: true }))).code;

// The window is short: the client waits as long as the refusal says, and its user notices nothing.
api = client("soon", 3);
await hello(api);
const began = performance.now();
await hello(api);
seen.waited_ms = Math.round(performance.now() - began);
seen.attempts_of_two = attempts;

// The request can never fit, and the refusal says so: the client must not retry.
api = client("small", 3);
seen.too_large = await refusal(() => hello(api, { max_tokens: 1000 }));
console.log(JSON.stringify(seen));
