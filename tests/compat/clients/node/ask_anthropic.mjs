// The official client of Anthropic. play.mjs says what it plays.

import Anthropic, { RateLimitError } from "@anthropic-ai/sdk";
import { gateway, play } from "./play.mjs";

async function ask(apiKey, { retries, stream, maxTokens }) {
  const client = new Anthropic({ baseURL: gateway, apiKey, maxRetries: retries });
  const messages = [{ role: "user", content: "Hello!" }];
  const question = { model: "claude-sonnet-4-5", messages, max_tokens: maxTokens };
  if (stream) {
    const events = client.messages.stream(question);
    const { usage } = await events.finalMessage();
    return [await events.finalText(), usage.input_tokens, usage.output_tokens];
  }
  const { content, usage } = await client.messages.create(question);
  return [content[0].text, usage.input_tokens, usage.output_tokens];
}

await play(ask, (error) => error instanceof RateLimitError);
