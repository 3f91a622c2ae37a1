//! The APIs that are limited, as a client calls them: the same smallest prompt in the terms of each.

use serde_json::{Value, json};

/// An API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
}

impl Api {
    /// Its endpoint's path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// Says hello, and allows this many tokens of output.
    pub fn hello(self, max_tokens: u64) -> Value {
        let messages = json!([{"role": "user", "content": "Hello!"}]);
        match self {
            Self::Chat | Self::Messages => {
                json!({"model": "gpt-4o", "messages": messages, "max_tokens": max_tokens})
            }
            Self::Completions => json!({"model": "gpt-4o", "prompt": "Hello!", "max_tokens": max_tokens}),
            Self::Embeddings => json!({"model": "gpt-4o", "input": "Hello!"}),
            Self::Responses => json!({"model": "gpt-4o", "input": "Hello!", "max_output_tokens": max_tokens}),
        }
    }

    /// The same as a stream, whose usage is asked for where one must.
    pub fn streamed_hello(self, max_tokens: u64, asks_for_usage: bool) -> Value {
        let mut hello = self.hello(max_tokens);
        hello["stream"] = json!(true);
        if asks_for_usage && matches!(self, Self::Chat | Self::Completions) {
            hello["stream_options"] = json!({"include_usage": true});
        }
        hello
    }

    /// What its prompt is counted as: the text's two tokens, and where it is a message those around it.
    pub const fn hello_tokens(self) -> u64 {
        match self {
            Self::Completions | Self::Embeddings => 2,
            Self::Chat | Self::Responses | Self::Messages => crate::caller::HELLO_TOKENS,
        }
    }

    /// Events of the mock's stream before the one with the first word.
    pub const fn events_before_words(self) -> u64 {
        match self {
            Self::Completions | Self::Embeddings => 0,
            Self::Chat => 1,
            Self::Messages => 3,
            Self::Responses => 4,
        }
    }

    /// Whether a stream tells what the prompt cost before its first word.
    pub const fn begins_with_usage(self) -> bool {
        matches!(self, Self::Messages)
    }
}
