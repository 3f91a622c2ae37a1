// Vercel's AI SDK with its providers for OpenAI and Anthropic. play.mjs says what they play.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, RetryError, generateText, streamText } from "ai";
import { api, gateway, play } from "./play.mjs";

function model(apiKey) {
  const baseURL = `${gateway}/v1`;
  if (api === "messages") return createAnthropic({ baseURL, apiKey })("claude-sonnet-4-5");
  const openai = createOpenAI({ baseURL, apiKey });
  return api === "responses" ? openai.responses("gpt-4o") : openai.chat("gpt-4o");
}

async function ask(apiKey, { retries, stream, maxTokens }) {
  const question = {
    model: model(apiKey),
    prompt: "Hello!",
    maxOutputTokens: maxTokens,
    maxRetries: retries,
  };
  if (!stream) {
    const { text, usage } = await generateText(question);
    return [text, usage.inputTokens, usage.outputTokens];
  }
  // What goes wrong in a stream is told to onError, and the rest only says that there is no output.
  let failure;
  const onError = ({ error }) => (failure = error);
  const answer = streamText({ ...question, onError });
  try {
    const [text, usage] = await Promise.all([answer.text, answer.usage]);
    return [text, usage.inputTokens, usage.outputTokens];
  } catch (error) {
    throw failure ?? error;
  }
}

const isRefusal = (error) =>
  RetryError.isInstance(error)
    ? isRefusal(error.lastError)
    : APICallError.isInstance(error) && error.statusCode === 429 && error.isRetryable;

await play(ask, isRefusal);
