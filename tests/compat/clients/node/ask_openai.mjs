// The official client of OpenAI. play.mjs says what it plays.

import OpenAI, { RateLimitError } from "openai";
import { api, gateway, play } from "./play.mjs";

const input = "Hello!";

async function chat(client, stream, max_tokens) {
  const question = { model: "gpt-4o", messages: [{ role: "user", content: input }], max_tokens };
  if (!stream) {
    const answer = await client.chat.completions.create(question);
    return [answer.choices[0].message.content, answer.usage];
  }
  let text = "";
  let usage;
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...question, ...options })) {
    text += chunk.choices.map((choice) => choice.delta.content ?? "").join("");
    usage = chunk.usage ?? usage;
  }
  return [text, usage];
}

async function responses(client, stream, max_output_tokens) {
  const question = { model: "gpt-4o", input, max_output_tokens };
  if (!stream) {
    const answer = await client.responses.create(question);
    return [answer.output_text, answer.usage];
  }
  let text = "";
  let usage;
  for await (const event of await client.responses.create({ ...question, stream: true })) {
    if (event.type === "response.output_text.delta") text += event.delta;
    if (event.type === "response.completed") usage = event.response.usage;
  }
  return [text, usage];
}

async function ask(apiKey, { retries, stream, maxTokens }) {
  const client = new OpenAI({ baseURL: `${gateway}/v1`, apiKey, maxRetries: retries });
  if (api === "responses") {
    const [text, usage] = await responses(client, stream, maxTokens);
    return [text, usage.input_tokens, usage.output_tokens];
  }
  const [text, usage] = await chat(client, stream, maxTokens);
  return [text, usage.prompt_tokens, usage.completion_tokens];
}

await play(ask, (error) => error instanceof RateLimitError);
