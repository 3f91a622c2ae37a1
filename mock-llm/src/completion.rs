//! The answer to a chat completion: its JSON or its events, and the usage that they tell.
//!
//! Shapes are those of <https://platform.openai.com/docs/api-reference/chat>. As there, a stream tells its usage in
//! an event of its own, before `[DONE]`, and only if `stream_options.include_usage` asks for it.

use crate::behaviour::Behaviour;
use crate::journal::Usage;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

/// Words in a completion when nobody asks for more or fewer.
const DEFAULT_COMPLETION_TOKENS: u64 = 16;

/// The parts of a request that its answer depends on.
#[derive(Deserialize)]
struct Chat {
    #[serde(default)]
    model: String,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// An answer, cut into the pieces that it is sent in.
pub(crate) struct Answer {
    /// The body.
    pub(crate) pieces: Vec<Bytes>,
    /// Whether the body is a stream of events.
    pub(crate) streamed: bool,
    /// What the answer costs, whether it tells so or not.
    pub(crate) usage: Usage,
}

impl Answer {
    /// Answers the chat completion in `body`.
    ///
    /// # Errors
    /// If `body` is not JSON, or a member that matters has the wrong type.
    pub(crate) fn to(body: &[u8], behaviour: &Behaviour) -> Result<Self, String> {
        if let Some(name) = &behaviour.recorded {
            return crate::recorded::answer(name);
        }
        let chat: Chat = serde_json::from_slice(body).map_err(|why| why.to_string())?;
        let cap = chat.max_completion_tokens.or(chat.max_tokens);
        let words = behaviour
            .completion_tokens
            .unwrap_or_else(|| DEFAULT_COMPLETION_TOKENS.min(cap.unwrap_or(DEFAULT_COMPLETION_TOKENS)));
        let choices = chat.n.unwrap_or(1).clamp(1, 128);
        let usage = Usage {
            prompt_tokens: behaviour
                .prompt_tokens
                .unwrap_or_else(|| u64::try_from(body.len()).unwrap_or(0) / 4),
            completion_tokens: words * choices,
        };
        let finish_reason = if cap == Some(words) { "length" } else { "stop" };
        let events = if chat.stream {
            events(&chat, behaviour, words, choices, finish_reason, usage)
        } else {
            let all = (0..choices).map(|index| choice(index, words, finish_reason)).collect();
            let usage = (!behaviour.no_usage).then(|| told(usage));
            let answer = envelope(&chat.model, "chat.completion", all, usage);
            vec![Bytes::from(answer.to_string())]
        };
        let pieces = match behaviour.chunk_bytes {
            None => events,
            Some(size) => events.concat().chunks(size).map(Bytes::copy_from_slice).collect(),
        };
        Ok(Self { pieces, streamed: chat.stream, usage })
    }
}

fn events(
    chat: &Chat,
    behaviour: &Behaviour,
    words: u64,
    choices: u64,
    finish_reason: &str,
    usage: Usage,
) -> Vec<Bytes> {
    let tell =
        !behaviour.no_usage && chat.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let nothing_yet = tell.then_some(Value::Null);
    let chunk = |choices| envelope(&chat.model, "chat.completion.chunk", choices, nothing_yet.clone());
    let mut chunks = Vec::new();
    for index in 0..choices {
        let delta = json!({"role": "assistant", "content": ""});
        chunks.push(chunk(json!([{"index": index, "delta": delta, "finish_reason": null}])));
    }
    for word in 0..words {
        let content = if word == 0 { "token" } else { " token" };
        for index in 0..choices {
            chunks
                .push(chunk(json!([{"index": index, "delta": {"content": content}, "finish_reason": null}])));
        }
    }
    for index in 0..choices {
        chunks.push(chunk(json!([{"index": index, "delta": {}, "finish_reason": finish_reason}])));
    }
    if tell {
        chunks.push(envelope(&chat.model, "chat.completion.chunk", json!([]), Some(told(usage))));
    }
    let mut events: Vec<Bytes> =
        chunks.into_iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n"))).collect();
    if !behaviour.no_done {
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    }
    events
}

fn choice(index: u64, words: u64, finish_reason: &str) -> Value {
    let words = usize::try_from(words).unwrap_or(usize::MAX);
    let content = vec!["token"; words].join(" ");
    json!({"index": index, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason})
}

fn envelope(model: &str, object: &str, choices: Value, usage: Option<Value>) -> Value {
    let head = json!({"id": "chatcmpl-mock", "object": object, "created": 1_700_000_000, "model": model});
    let rest = [("choices", Some(choices)), ("usage", usage)];
    let rest = rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    head.as_object().cloned().unwrap_or_default().into_iter().chain(rest).collect()
}

fn told(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}
