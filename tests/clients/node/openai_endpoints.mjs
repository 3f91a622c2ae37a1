// Calls every endpoint with the official openai client, streamed and not, and prints the results as JSON.
//
//     openai_endpoints.mjs BASE_URL NAME
//
// Each call has its own key, endpoints-NAME-CALL, so that tests/e2e/clients.rs can check its charge. The script for
// Python beside this one does the same.

import OpenAI, { APIConnectionTimeoutError } from "openai";

const [baseURL, name] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hello!" }];
const stream_options = { include_usage: true };

function client(call, choices = {}) {
  const defaultHeaders = { "x-mock-prompt-tokens": "40" };
  for (const [choice, value] of Object.entries(choices)) defaultHeaders[`x-mock-${choice}`] = value;
  return new OpenAI({ baseURL, apiKey: `endpoints-${name}-${call}`, maxRetries: 0, defaultHeaders });
}

const chat = (call, more, choices) =>
  client(call, choices).chat.completions.create({ model: "gpt-4o", messages, max_tokens: 60, ...more });

const completions = (call, more) =>
  client(call).completions.create({ model: "gpt-3.5-turbo-instruct", prompt: "Hello!", max_tokens: 60, ...more });

const responses = (call, more) =>
  client(call).responses.create({ model: "gpt-4o", input: "Hello!", max_output_tokens: 60, ...more });

async function textOf(chunks, of) {
  let text = "";
  for await (const chunk of await chunks) {
    for (const choice of chunk.choices) text += of(choice) ?? "";
  }
  return text;
}

async function textOfEvents(events) {
  let text = "";
  for await (const event of await events) {
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  return text;
}

async function leave() {
  const choices = { "completion-tokens": "400", gate: "left" };
  let text = "";
  for await (const chunk of await chat("left", { stream: true }, choices)) {
    text += chunk.choices[0].delta.content ?? "";
    if (text.split("token").length > 5) break;
  }
  return text;
}

async function timeOut() {
  const api = client("timed-out", { "delay-ms": "20000" });
  try {
    await api.chat.completions.create({ model: "gpt-4o", messages, max_tokens: 60 }, { timeout: 3000 });
  } catch (error) {
    if (error instanceof APIConnectionTimeoutError) return "APITimeoutError";
    throw error;
  }
  throw new Error("there was an answer");
}

const delta = (choice) => choice.delta.content;
const text = (choice) => choice.text;
const embedding = { model: "text-embedding-3-small", input: "Hello!", encoding_format: "float" };

const seen = {
  chat: (await chat("chat")).choices[0].message.content,
  "chat-stream": await textOf(chat("chat-stream", { stream: true, stream_options }), delta),
  "chat-silent-stream": await textOf(chat("chat-silent-stream", { stream: true }), delta),
  completions: (await completions("completions")).choices[0].text,
  "completions-stream": await textOf(completions("completions-stream", { stream: true, stream_options }), text),
  embeddings: (await client("embeddings").embeddings.create(embedding)).data[0].embedding,
  responses: (await responses("responses")).output_text,
  "responses-stream": await textOfEvents(responses("responses-stream", { stream: true })),
  left: await leave(),
  "timed-out": await timeOut(),
};
console.log(JSON.stringify(seen));
