"""Streams that do not ask for usage, with the official openai client, and what it sees of them as JSON.

    openai_stream_usage.py BASE_URL NAME

Some of the upstreams refuse requests that do ask. The script for Node beside this one does the same.
tests/e2e/caps_and_reservations/clients.rs compares what the clients see with and without the filter.
"""

import json
import sys

from openai import APIStatusError, OpenAI

base_url, name = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Hello!"}]

UPSTREAMS = {
    "willing": {},
    "objects": {"x-mock-no-stream-options": "400"},
    "cannot-process": {"x-mock-no-stream-options": "422", "x-mock-chunk-bytes": "20"},
    "compresses": {"x-mock-no-stream-options": "400", "x-mock-compress": "always"},
    "fails": {"x-mock-status": "400", "x-mock-error-message": "Unsupported value: 'model'"},
}


def client(call, headers):
    return OpenAI(base_url=base_url, api_key=f"usage-{name}-{call}", default_headers=headers)


def see(request):
    try:
        return [chunk.model_dump() for chunk in request()]
    except APIStatusError as error:
        return {"status": error.status_code, "body": error.body}


seen = {}
for upstream, headers in UPSTREAMS.items():
    # Each upstream objects for itself.
    model = f"gpt-4o-{upstream}"
    api = client(upstream, headers)
    for options in [{}, {"stream_options": {"include_obfuscation": False}}]:
        if options and upstream != "willing":
            continue
        call = f"chat {upstream} {json.dumps(options)}"
        seen[call] = see(
            lambda: api.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)
        )
    seen[f"completions {upstream}"] = see(
        lambda: api.completions.create(model=f"{model}-instruct", prompt="Hello!", stream=True)
    )
    seen[f"responses {upstream}"] = see(
        lambda: api.responses.create(model=model, input="Hello!", stream=True)
    )
    seen[f"again {upstream}"] = see(
        lambda: api.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    )
print(json.dumps(seen))
