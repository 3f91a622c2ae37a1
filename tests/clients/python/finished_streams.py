"""Reads streams that the filter ends at their limit, with the official clients, and prints how each client saw the end,
as JSON.

    finished_streams.py GATEWAY
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

from anthropic import Anthropic
from openai import OpenAI

(gateway,) = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Hello!"}]
HEADERS = {"x-mock-completion-tokens": "2000", "x-mock-chunk-delay-ms": "5"}


def openai(key):
    return OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0, default_headers=HEADERS)


def chat():
    chunks = list(openai("chat").chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, max_tokens=20))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return {"words": text.count("token"), "reason": chunks[-1].choices[0].finish_reason}


def responses():
    request = {"model": "gpt-4o", "input": "Hello!", "max_output_tokens": 20}
    events = list(openai("responses").responses.create(**request, stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.incomplete", last
    assert last.response.output_text == deltas, "the response has all that was said"
    return {"words": deltas.count("token"), "reason": last.response.incomplete_details.reason}


def messages():
    api = Anthropic(base_url=gateway, api_key="messages", max_retries=0, default_headers=HEADERS)
    with api.messages.stream(model="gpt-4o", messages=MESSAGES, max_tokens=20) as stream:
        message = stream.get_final_message()
    return {"words": message.content[0].text.count("token"), "reason": message.stop_reason}


# Side by side: each client reads for as long as the upstream sends, ten seconds and more.
with ThreadPoolExecutor() as pool:
    runs = {run.__name__: pool.submit(run) for run in (chat, responses, messages)}
print(json.dumps({name: run.result() for name, run in runs.items()}))
