//! The limited APIs, as a client calls them: the same smallest prompt in the format of each.

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

    /// The smallest prompt, with a maximum of this many output tokens.
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

    /// The same as a stream. With `include_usage`, it asks for usage in the APIs that report it only then.
    pub fn streamed_hello(self, max_tokens: u64, include_usage: bool) -> Value {
        let mut hello = self.hello(max_tokens);
        hello["stream"] = json!(true);
        if include_usage && matches!(self, Self::Chat | Self::Completions) {
            hello["stream_options"] = json!({"include_usage": true});
        }
        hello
    }

    /// The tokens of the prompt: two for the text, and those around a message where it is one.
    pub const fn hello_tokens(self) -> u64 {
        match self {
            Self::Completions | Self::Embeddings => 2,
            Self::Chat | Self::Responses | Self::Messages => crate::caller::HELLO_TOKENS,
        }
    }

    /// The number of events in the mock's stream before the first word.
    pub const fn events_before_words(self) -> u64 {
        match self {
            Self::Completions | Self::Embeddings => 0,
            Self::Chat => 1,
            Self::Messages => 3,
            Self::Responses => 4,
        }
    }

    /// Whether a stream reports the cost of its prompt before the first word.
    pub const fn begins_with_usage(self) -> bool {
        matches!(self, Self::Messages)
    }
}
