"""The official client of OpenAI. play.py says what it plays."""

import play
from openai import OpenAI, RateLimitError

QUESTION = "Hello!"


def chat(client, stream, max_tokens):
    question = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": max_tokens,
    }
    if not stream:
        answer = client.chat.completions.create(**question)
        return answer.choices[0].message.content, answer.usage
    text, usage = "", None
    for chunk in client.chat.completions.create(
        **question, stream=True, stream_options={"include_usage": True}
    ):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    return text, usage


def responses(client, stream, max_tokens):
    question = {"model": "gpt-4o", "input": QUESTION, "max_output_tokens": max_tokens}
    if not stream:
        answer = client.responses.create(**question)
        return answer.output_text, answer.usage
    text, usage = "", None
    for event in client.responses.create(**question, stream=True):
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            usage = event.response.usage
    return text, usage


def ask(key, retries, stream, max_tokens):
    client = OpenAI(base_url=f"{play.gateway}/v1", api_key=key, max_retries=retries)
    if play.api == "responses":
        text, usage = responses(client, stream, max_tokens)
        return text, usage.input_tokens, usage.output_tokens
    text, usage = chat(client, stream, max_tokens)
    return text, usage.prompt_tokens, usage.completion_tokens


play.play(ask, RateLimitError)
