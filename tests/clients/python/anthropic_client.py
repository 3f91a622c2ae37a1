"""Calls the gateway with the official anthropic client, and prints the client's view of each answer as JSON.

    anthropic_client.py BASE_URL NAME

tests/e2e/clients.rs sets the limits of the keys clients-NAME-refused, -soon and -small, and reads the counters of those
that begin with endpoints-NAME. The script for Node beside this one does the same.
"""

import json
import sys
import time

from anthropic import Anthropic, APITimeoutError, RateLimitError

base_url, name = sys.argv[1:]
CHAT = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 60}


def client(key, retries=0, **choices):
    headers = {"x-mock-prompt-tokens": "40"}
    headers.update({f"x-mock-{choice.replace('_', '-')}": value for choice, value in choices.items()})
    return Anthropic(base_url=base_url, api_key=key, max_retries=retries, default_headers=headers)


def charged(call, **choices):
    return client(f"endpoints-{name}-{call}", **choices)


def limited(key, retries=0):
    return client(f"clients-{name}-{key}", retries)


def refusal(ask):
    try:
        ask()
    except RateLimitError as error:
        return {
            "status": error.status_code,
            "type": error.body["error"]["type"],
            "message": error.body["error"]["message"],
            "retry_after_ms": error.response.headers.get("retry-after-ms"),
            "attempts": 1 + int(error.response.request.headers["x-stainless-retry-count"]),
            "remaining": error.response.headers.get("anthropic-ratelimit-requests-remaining"),
        }
    raise SystemExit("the request was not refused")


def streamed():
    with charged("messages-stream").messages.stream(**CHAT) as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage
    return {"text": text, "usage": [usage.input_tokens, usage.output_tokens]}


def leave():
    api = charged("left", completion_tokens="400", gate="left")
    text = ""
    with api.messages.create(**CHAT, stream=True) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                text += event.delta.text
            if text.count("token") >= 5:
                break
    return text


def time_out():
    try:
        charged("timed-out", delay_ms="20000").with_options(timeout=3).messages.create(**CHAT)
    except APITimeoutError as error:
        return type(error).__name__
    raise SystemExit("there was an answer")


message = charged("messages").messages.create(**CHAT)
seen = {
    "messages": {
        "text": message.content[0].text,
        "usage": [message.usage.input_tokens, message.usage.output_tokens],
    },
    "messages-stream": streamed(),
    "left": leave(),
    "timed-out": time_out(),
}

api = limited("refused")
api.messages.create(**CHAT)
api.messages.create(**CHAT)
seen["refused"] = refusal(lambda: api.messages.create(**CHAT))
seen["refused_stream"] = refusal(lambda: api.messages.create(**CHAT, stream=True))["type"]

# The window is short: the client waits as long as the refusal says, and its user notices nothing.
api = limited("soon", retries=3)
api.messages.create(**CHAT)
began = time.monotonic()
api.messages.create(**CHAT)
seen["waited_ms"] = round((time.monotonic() - began) * 1000)

# The request can never fit, and the refusal says so: the client must not retry.
api = limited("small", retries=3)
seen["too_large"] = refusal(lambda: api.messages.create(**{**CHAT, "max_tokens": 1000}))
print(json.dumps(seen))
