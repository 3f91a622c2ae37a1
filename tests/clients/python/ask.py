"""Asks once with each official client and each key, and prints what the clients get as JSON: a text, or the status of
an error.

    ask.py GATEWAY KEY...
"""

import json
import sys

import anthropic
import openai

gateway, *keys = sys.argv[1:]
question = {"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello!"}]}


def openais(key):
    api = openai.OpenAI(base_url=f"{gateway}/v1", api_key=key, max_retries=0)
    return api.chat.completions.create(**question).choices[0].message.content


def anthropics(key):
    api = anthropic.Anthropic(base_url=gateway, api_key=key, max_retries=0)
    return api.messages.create(**question).content[0].text


def answer(ask, key):
    try:
        return ask(key)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return error.status_code


print(json.dumps([[answer(ask, key) for key in keys] for ask in (openais, anthropics)]))
