"""Calls every endpoint with the official openai client, streamed and not, and prints the results as JSON.

    openai_endpoints.py BASE_URL NAME

Each call has its own key, endpoints-NAME-CALL, so that tests/e2e/clients.rs can check its charge. The script for Node
beside this one does the same.
"""

import json
import sys

from openai import APITimeoutError, OpenAI

base_url, name = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "Hello!"}]
USAGE = {"include_usage": True}


def client(call, **choices):
    headers = {"x-mock-prompt-tokens": "40"}
    headers.update({f"x-mock-{choice.replace('_', '-')}": value for choice, value in choices.items()})
    return OpenAI(
        base_url=base_url, api_key=f"endpoints-{name}-{call}", max_retries=0, default_headers=headers
    )


def chat(call, stream=False, choices={}, **more):
    api = client(call, **choices)
    return api.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=stream, max_tokens=60, **more)


def text_of_chunks(chunks, text_of):
    return "".join(text_of(choice) or "" for chunk in chunks for choice in chunk.choices)


def completions(call, **more):
    return client(call).completions.create(model="gpt-3.5-turbo-instruct", prompt="Hello!", max_tokens=60, **more)


def responses(call, **more):
    return client(call).responses.create(model="gpt-4o", input="Hello!", max_output_tokens=60, **more)


def leave():
    with chat("left", stream=True, choices={"completion_tokens": "400", "gate": "left"}) as stream:
        text = ""
        while text.count("token") < 5:
            text += next(stream).choices[0].delta.content or ""
    return text


def time_out():
    try:
        client("timed-out", delay_ms="20000").with_options(timeout=3).chat.completions.create(
            model="gpt-4o", messages=MESSAGES, max_tokens=60
        )
    except APITimeoutError as error:
        return type(error).__name__
    raise SystemExit("there was an answer")


def delta(choice):
    return choice.delta.content


def text(choice):
    return choice.text


seen = {
    "chat": chat("chat").choices[0].message.content,
    "chat-stream": text_of_chunks(chat("chat-stream", stream=True, stream_options=USAGE), delta),
    "chat-silent-stream": text_of_chunks(chat("chat-silent-stream", stream=True), delta),
    "completions": completions("completions").choices[0].text,
    "completions-stream": text_of_chunks(
        completions("completions-stream", stream=True, stream_options=USAGE), text
    ),
    "embeddings": client("embeddings")
    .embeddings.create(model="text-embedding-3-small", input="Hello!", encoding_format="float")
    .data[0]
    .embedding,
    "responses": responses("responses").output_text,
    "responses-stream": "".join(
        event.delta
        for event in responses("responses-stream", stream=True)
        if event.type == "response.output_text.delta"
    ),
    "left": leave(),
    "timed-out": time_out(),
}
print(json.dumps(seen))
