"""What each client for Python plays against the gateway, and how it reports what it saw.

    ask_CLIENT.py GATEWAY NAME API

GATEWAY is the address without a path, NAME ends the keys of this client, whose limits `tests/compat/clients.rs` sets,
and API is what the client speaks: chat, responses or messages. The report is JSON; `tests/compat/clients.rs` judges it.
"""

import json
import sys
import time

gateway, name, api = sys.argv[1:]


def key(limit):
    return f"{limit}-{name}"


def described(error):
    kind = type(error)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "message": " ".join(str(error).split())[:300]}


def play(ask, refusal):
    """`ask(key, retries, stream, max_tokens)` returns the text, the input and the output tokens of an answer as the
    client reports them. `refusal` is the class that the client's users catch for a 429."""

    def seen(key_of, retries=0, stream=False, max_tokens=60):
        began = time.monotonic()
        try:
            text, *usage = ask(key(key_of), retries, stream, max_tokens)
            outcome = {"text": text, "usage": usage}
        except Exception as error:  # Whatever it is, it is what the client's user sees.
            outcome = {**described(error), "own": isinstance(error, refusal)}
        return {**outcome, "ms": round((time.monotonic() - began) * 1000)}

    report = {
        "answer": seen("plain"),
        "stream": seen("plain", stream=True),
        "first": seen("refused"),
        "refused": seen("refused"),
        "refused_stream": seen("refused", stream=True),
        "before": seen("soon"),
        "waited": seen("soon", retries=3),
        "too_large": seen("small", retries=2, max_tokens=1000),
    }
    print(json.dumps(report))
