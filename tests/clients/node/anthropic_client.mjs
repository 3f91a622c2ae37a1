// Calls the gateway with the official anthropic client, and prints the client's view of each answer as JSON.
//
//     anthropic_client.mjs BASE_URL NAME
//
// tests/e2e/clients.rs sets the limits of the keys clients-NAME-refused, -soon and -small, and reads the counters of
// those that begin with endpoints-NAME. The script for Python beside this one does the same.

import Anthropic, { APIConnectionTimeoutError, RateLimitError } from "@anthropic-ai/sdk";

const [baseURL, name] = process.argv.slice(2);
const chat = { model: "claude-sonnet-4-5", messages: [{ role: "user", content: "Hello!" }], max_tokens: 60 };

let attempts = 0;

function client(apiKey, maxRetries, choices = {}) {
  const counted = (...request) => {
    attempts += 1;
    return fetch(...request);
  };
  const defaultHeaders = { "x-mock-prompt-tokens": "40" };
  for (const [choice, value] of Object.entries(choices)) defaultHeaders[`x-mock-${choice}`] = value;
  return new Anthropic({ baseURL, apiKey, maxRetries, defaultHeaders, fetch: counted });
}

const charged = (call, choices) => client(`endpoints-${name}-${call}`, 0, choices);
const limited = (key, retries = 0) => client(`clients-${name}-${key}`, retries);

async function refusal(ask) {
  attempts = 0;
  try {
    await ask();
  } catch (error) {
    if (!(error instanceof RateLimitError)) throw error;
    return {
      status: error.status,
      type: error.error.error.type,
      message: error.error.error.message,
      retry_after_ms: error.headers.get("retry-after-ms"),
      attempts,
      remaining: error.headers.get("anthropic-ratelimit-requests-remaining"),
    };
  }
  throw new Error("the request was not refused");
}

async function streamed() {
  const stream = charged("messages-stream").messages.stream(chat);
  const { usage } = await stream.finalMessage();
  return { text: await stream.finalText(), usage: [usage.input_tokens, usage.output_tokens] };
}

async function leave() {
  const api = charged("left", { "completion-tokens": "400", gate: "left" });
  let text = "";
  for await (const event of await api.messages.create({ ...chat, stream: true })) {
    if (event.type === "content_block_delta") text += event.delta.text;
    if (text.split("token").length > 5) break;
  }
  return text;
}

async function timeOut() {
  try {
    await charged("timed-out", { "delay-ms": "20000" }).messages.create(chat, { timeout: 3000 });
  } catch (error) {
    if (error instanceof APIConnectionTimeoutError) return "APITimeoutError";
    throw error;
  }
  throw new Error("there was an answer");
}

const message = await charged("messages").messages.create(chat);
const seen = {
  messages: {
    text: message.content[0].text,
    usage: [message.usage.input_tokens, message.usage.output_tokens],
  },
  "messages-stream": await streamed(),
  left: await leave(),
  "timed-out": await timeOut(),
};

let api = limited("refused");
await api.messages.create(chat);
await api.messages.create(chat);
seen.refused = await refusal(() => api.messages.create(chat));
seen.refused_stream = (await refusal(() => api.messages.create({ ...chat, stream: true }))).type;

// The window is short: the client waits as long as the refusal says, and its user notices nothing.
api = limited("soon", 3);
await api.messages.create(chat);
const began = performance.now();
await api.messages.create(chat);
seen.waited_ms = Math.round(performance.now() - began);

// The request can never fit, and the refusal says so: the client must not retry.
api = limited("small", 3);
seen.too_large = await refusal(() => api.messages.create({ ...chat, max_tokens: 1000 }));
console.log(JSON.stringify(seen));
