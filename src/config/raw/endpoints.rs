//! The fields that determine which requests limits apply to.

use serde::Deserialize;

/// What happens to requests to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Their bodies are read as those of OpenAI's chat completions.
    ChatCompletions,
    /// Their bodies are read as those of OpenAI's completions.
    Completions,
    /// Their bodies are read as those of OpenAI's embeddings.
    Embeddings,
    /// Their bodies are read as those of OpenAI's responses.
    Responses,
    /// Their bodies are read as those of Anthropic's messages.
    Messages,
    /// Their bodies are read as those of Google's Gemini API and Vertex AI.
    Gemini,
    /// Their bodies are read as those of Anthropic's messages: Claude on Vertex AI.
    VertexClaude,
    /// Their bodies are read as those of OpenAI's responses: what compacts a conversation.
    Compact,
    /// Their bodies are read as those of completions: Mistral's fill-in-the-middle.
    MistralFim,
    /// Their bodies are read as those of chat completions: Mistral's agents, of any model.
    MistralAgents,
    /// Their bodies are read as those of Ollama's `/api/chat`.
    OllamaChat,
    /// Their bodies are read as those of Ollama's `/api/generate`.
    OllamaGenerate,
    /// Their bodies are read as those of Cohere's `/v2/chat`.
    CohereChat,
    /// Their bodies are read as those of Cohere's `/v2/embed`.
    CohereEmbed,
    /// Their bodies have a query and documents, of which the answer is an order.
    Rerank,
    /// They are requests without tokens.
    Moderations,
    /// Limits count them as requests, by the size of a JSON body, and by the usage that the answer reports. Those that
    /// only read (GET and HEAD) pass.
    Count,
    /// They pass untouched, also those of unknown senders.
    Pass,
    /// They are answered 403.
    Reject,
}

/// What happens to a WebSocket to an LLM endpoint under limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WebSocket {
    /// It is answered 426, so that clients use HTTP.
    #[default]
    Refuse,
    /// It is one request, and holds a slot as long as it lives, whatever is sent in it.
    Count,
}

/// Whether headers of requests wait for their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HeadersMode {
    /// They do, unless bodies turn out to come only after them.
    #[default]
    Auto,
    /// They do not: for Envoys where `allow_on_headers_stop_iteration` cannot be set, such as those of a `WasmPlugin`.
    HeadersFirst,
}
