"""Calls the gateway with the official openai client, and prints the client's view of each answer as JSON.

    openai_refusals.py BASE_URL NAME

tests/e2e/clients.rs sets the limits of the keys clients-NAME-refused, -soon and -small. The script for Node beside this
one does the same.
"""

import json
import sys
import time

import httpx
from openai import OpenAI, RateLimitError

base_url, name = sys.argv[1:]
attempts = 0


def count(_request):
    global attempts
    attempts += 1


def client(key, retries):
    global attempts
    attempts = 0
    return OpenAI(
        base_url=base_url,
        api_key=f"clients-{name}-{key}",
        max_retries=retries,
        http_client=httpx.Client(event_hooks={"request": [count]}),
    )


def hello(api, **more):
    return api.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}], **more
    )


def refusal(ask):
    try:
        ask()
    except RateLimitError as error:
        return {
            "status": error.status_code,
            "code": error.code,
            "type": error.type,
            "message": error.body["message"],
            "retry_after_ms": error.response.headers.get("retry-after-ms"),
            "attempts": attempts,
        }
    raise SystemExit("the request was not refused")


def streamed(api):
    stream = hello(api, stream=True, stream_options={"include_usage": True})
    text, usage = "", None
    for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    return {"text": text, "completion_tokens": usage.completion_tokens}


seen = {}
api = client("refused", 0)
seen["answered"] = hello(api).choices[0].message.content
seen["streamed"] = streamed(api)
seen["refused"] = refusal(lambda: hello(api))
seen["refused_stream"] = refusal(lambda: hello(api, stream=True))["code"]

# The window is short: the client waits as long as the refusal says, and its user notices nothing.
api = client("soon", 3)
hello(api)
began = time.monotonic()
hello(api)
seen["waited_ms"] = round((time.monotonic() - began) * 1000)
seen["attempts_of_two"] = attempts

# The request can never fit, and the refusal says so: the client must not retry.
api = client("small", 3)
seen["too_large"] = refusal(lambda: hello(api, max_tokens=1000))
print(json.dumps(seen))
