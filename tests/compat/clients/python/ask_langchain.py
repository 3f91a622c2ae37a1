"""LangChain's chat models for OpenAI and for Anthropic. play.py says what they play.

They pass on the errors of the official clients, which their users catch.
"""

import anthropic
import openai
import play
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI


def model(key, retries, max_tokens):
    common = {"api_key": key, "max_retries": retries, "max_tokens": max_tokens}
    if play.api == "messages":
        return ChatAnthropic(model="claude-sonnet-4-5", base_url=play.gateway, **common)
    responses = {"use_responses_api": play.api == "responses"}
    return ChatOpenAI(model="gpt-4o", base_url=f"{play.gateway}/v1", stream_usage=True, **responses, **common)


def ask(key, retries, stream, max_tokens):
    chat = model(key, retries, max_tokens)
    if stream:
        answer = None
        for chunk in chat.stream("Hello!"):
            answer = chunk if answer is None else answer + chunk
    else:
        answer = chat.invoke("Hello!")
    return answer.text, answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]


play.play(ask, (openai.RateLimitError, anthropic.RateLimitError))
