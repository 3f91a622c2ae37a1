// LangChain's chat models for OpenAI and for Anthropic. play.mjs says what they play.

import { ChatAnthropic } from "@langchain/anthropic";
import { ChatOpenAI } from "@langchain/openai";
import { api, gateway, play } from "./play.mjs";

function model(apiKey, retries, maxTokens) {
  const common = { apiKey, maxRetries: retries, maxTokens };
  if (api === "messages") {
    return new ChatAnthropic({ ...common, model: "claude-sonnet-4-5", anthropicApiUrl: gateway });
  }
  const configuration = { baseURL: `${gateway}/v1` };
  return new ChatOpenAI({ ...common, model: "gpt-4o", configuration, useResponsesApi: api === "responses" });
}

async function ask(apiKey, { retries, stream, maxTokens }) {
  const chat = model(apiKey, retries, maxTokens);
  let answer;
  if (stream) {
    for await (const chunk of await chat.stream("Hello!")) answer = answer ? answer.concat(chunk) : chunk;
  } else {
    answer = await chat.invoke("Hello!");
  }
  const { input_tokens, output_tokens } = answer.usage_metadata;
  return [answer.text, input_tokens, output_tokens];
}

// It marks the official clients' errors for its users.
await play(ask, (error) => error.lc_error_code === "MODEL_RATE_LIMIT");
