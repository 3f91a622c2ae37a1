"""The official client of Anthropic. play.py says what it plays."""

import play
from anthropic import Anthropic, RateLimitError


def ask(key, retries, stream, max_tokens):
    client = Anthropic(base_url=play.gateway, api_key=key, max_retries=retries)
    question = {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": max_tokens,
    }
    if stream:
        with client.messages.stream(**question) as events:
            text = "".join(events.text_stream)
            usage = events.get_final_message().usage
        return text, usage.input_tokens, usage.output_tokens
    answer = client.messages.create(**question)
    return answer.content[0].text, answer.usage.input_tokens, answer.usage.output_tokens


play.play(ask, RateLimitError)
