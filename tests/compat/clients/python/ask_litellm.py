"""LiteLLM's router, which is its way to retry. play.py says what it plays."""

import os

# It would ask GitHub for prices.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import play  # noqa: E402

litellm.suppress_debug_info = True


def ask(key, retries, stream, max_tokens):
    chat = {"model": "openai/gpt-4o", "api_base": f"{play.gateway}/v1", "api_key": key}
    messages = {"model": "anthropic/claude-sonnet-4-5", "api_base": play.gateway, "api_key": key}
    model = {"model_name": "model", "litellm_params": messages if play.api == "messages" else chat}
    router = litellm.Router(model_list=[model], num_retries=retries)
    answer = router.completion(
        model="model",
        messages=[{"role": "user", "content": "Hello!"}],
        max_tokens=max_tokens,
        stream=stream,
        stream_options={"include_usage": True} if stream else None,
    )
    if not stream:
        return answer.choices[0].message.content, answer.usage.prompt_tokens, answer.usage.completion_tokens
    text, usage = "", None
    for chunk in answer:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = getattr(chunk, "usage", None) or usage
    return text, usage.prompt_tokens, usage.completion_tokens


play.play(ask, litellm.RateLimitError)
