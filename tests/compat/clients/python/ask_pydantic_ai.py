"""pydantic-ai's models for OpenAI and for Anthropic. play.py says what they play.

Their number of retries is that of the official client inside.
"""

import asyncio

import play
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


def model(key, retries):
    if play.api == "messages":
        client = AsyncAnthropic(base_url=play.gateway, api_key=key, max_retries=retries)
        return AnthropicModel("claude-sonnet-4-5", provider=AnthropicProvider(anthropic_client=client))
    client = AsyncOpenAI(base_url=f"{play.gateway}/v1", api_key=key, max_retries=retries)
    kind = OpenAIResponsesModel if play.api == "responses" else OpenAIChatModel
    return kind("gpt-4o", provider=OpenAIProvider(openai_client=client))


async def asked(key, retries, stream, max_tokens):
    agent = Agent(model(key, retries), model_settings={"max_tokens": max_tokens})
    if stream:
        async with agent.run_stream("Hello!") as answer:
            text = await answer.get_output()
            usage = answer.usage
    else:
        answer = await agent.run("Hello!")
        text, usage = answer.output, answer.usage
    usage = usage() if callable(usage) else usage
    return text, usage.input_tokens, usage.output_tokens


def ask(*arguments):
    return asyncio.run(asked(*arguments))


play.play(ask, ModelHTTPError)
