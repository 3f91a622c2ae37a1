"""Calls the gateway with Google's official client, google-genai, and prints the client's view of each answer as JSON.

    google_client.py BASE_URL

tests/e2e/clients.rs sets the limits of the key clients-google-refused, and reads the counters of those that begin with
endpoints-google.
"""

import json
import sys

from google import genai
from google.genai import errors, types

base_url = sys.argv[1]
MODEL = "gemini-2.5-flash"
CONFIG = types.GenerateContentConfig(max_output_tokens=60)


# A client that nothing refers to closes its connections, also while its `models` are used.
clients = []


def models(key):
    headers = {"x-mock-prompt-tokens": "40"}
    clients.append(genai.Client(api_key=key, http_options=types.HttpOptions(base_url=base_url, headers=headers)))
    return clients[-1].models


def charged(call):
    return models(f"endpoints-google-{call}")


def seen_in(answer):
    usage = answer.usage_metadata
    return {"text": answer.text, "usage": [usage.prompt_token_count, usage.candidates_token_count]}


def streamed():
    text = ""
    for chunk in charged("stream").generate_content_stream(model=MODEL, contents="Hello!", config=CONFIG):
        text += chunk.text
        last = chunk
    return {**seen_in(last), "text": text}


def refusal(ask):
    try:
        ask()
    except errors.ClientError as error:
        details = error.details["error"]["details"]
        return {
            "code": error.code,
            "status": error.status,
            "message": error.message,
            "retry": [detail["retryDelay"] for detail in details],
        }
    raise SystemExit("the request was not refused")


seen = {
    "generate": seen_in(charged("generate").generate_content(model=MODEL, contents="Hello!", config=CONFIG)),
    "stream": streamed(),
}
api = models("clients-google-refused")
api.generate_content(model=MODEL, contents="Hello!", config=CONFIG)
api.generate_content(model=MODEL, contents="Hello!", config=CONFIG)
seen["refused"] = refusal(lambda: api.generate_content(model=MODEL, contents="Hello!", config=CONFIG))
print(json.dumps(seen))
