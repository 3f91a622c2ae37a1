//! The answer to a request: its cost, and its JSON or its events in the format of the endpoint.
//!
//! This module plans an answer in terms that all formats share; one module for each format writes it.

mod chat;
mod cohere;
mod completions;
pub(crate) mod compress;
mod embeddings;
mod gemini;
pub(crate) mod given;
mod messages;
mod ollama;
mod responses;

use crate::behaviour::Behaviour;
use crate::journal::Usage;
use axum::http::HeaderValue;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// Words in an answer without any other choice.
const DEFAULT_COMPLETION_TOKENS: u64 = 16;

/// The word that every answer repeats.
const WORD: &str = "token";

/// An answer in the pieces in which it is sent.
pub(crate) struct Answer {
    /// The body.
    pub(crate) pieces: Vec<Bytes>,
    /// The type of the body.
    pub(crate) content_type: HeaderValue,
    /// The cost of the answer.
    pub(crate) usage: Usage,
    /// Whether the answer reports it.
    pub(crate) reports_usage: bool,
}

/// The parts of a request that its answer depends on, in any format.
#[derive(Default, Deserialize)]
struct Fields {
    #[serde(default)]
    model: String,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(default)]
    background: bool,
    n: Option<u64>,
    /// Of completions: one text, or several.
    #[serde(default)]
    prompt: Value,
    /// Of embeddings: one text, or several.
    #[serde(default)]
    input: Value,
    /// Of Gemini: what the others have beside the prompt.
    #[serde(default, rename = "generationConfig")]
    config: GenerationConfig,
    /// The same of Ollama.
    #[serde(default)]
    options: Options,
    /// Of Cohere's embeddings: several texts.
    #[serde(default)]
    texts: Value,
    /// Of Gemini's embeddings: several contents.
    #[serde(default)]
    requests: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: Option<u64>,
    candidate_count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// The content of an answer.
struct Plan {
    model: String,
    /// Answers side by side: choices, or embeddings.
    answers: u64,
    /// Words in each.
    words: u64,
    /// Whether the request's maximum has cut the answer.
    is_cut: bool,
    usage: Usage,
    reports_usage: bool,
    /// Whether a stream ends with the last event of its format.
    ends_properly: bool,
    /// The id of a response.
    response_id: String,
    /// The status of a response, if it is not that of its end.
    response_status: Option<String>,
}

/// The id of the response that `path` leads to, to read it or to cancel it.
fn stored(path: &str) -> Option<&str> {
    let path = path.trim_end_matches('/');
    let (_, id) = path.strip_suffix("/cancel").unwrap_or(path).rsplit_once("/responses/")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// An endpoint, by the end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Chat,
    Completions,
    Embeddings,
    Responses,
    Messages,
    Gemini,
    GeminiEmbeddings,
    Ollama(ollama::Kind),
    Cohere,
    CohereEmbeddings,
    Rerank,
}

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Events,
    /// An array of chunks: Gemini's, where nobody asks for events.
    Array,
    /// A line for each object.
    Lines,
}

impl Framing {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Array => "application/json; charset=UTF-8",
            Self::Lines => "application/x-ndjson",
        }
    }

    fn write(self, chunks: &[Value]) -> Vec<String> {
        let last = chunks.len().saturating_sub(1);
        let write = |(at, chunk): (usize, &Value)| match self {
            Self::Events => format!("data: {chunk}\r\n\r\n"),
            Self::Lines => format!("{chunk}\n"),
            Self::Array => {
                format!(
                    "{}{chunk}{}",
                    if at == 0 { "[" } else { "" },
                    if at == last { "]\n" } else { "\n,\r\n" }
                )
            }
        };
        chunks.iter().enumerate().map(write).collect()
    }
}

impl Format {
    /// A path of no other endpoint is answered as a chat.
    fn of(path: &str) -> Self {
        if path.ends_with("/chat/completions") {
            Self::Chat
        } else if path.ends_with("/completions") {
            Self::Completions
        } else if path.ends_with("/embeddings") {
            Self::Embeddings
        } else if path.ends_with("/responses") {
            Self::Responses
        } else if path.ends_with("/messages") {
            Self::Messages
        } else if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") {
            Self::Gemini
        } else if path.ends_with(":embedContent") || path.ends_with(":batchEmbedContents") {
            Self::GeminiEmbeddings
        } else if path.ends_with("/v2/chat") {
            Self::Cohere
        } else if path.ends_with("/v2/embed") {
            Self::CohereEmbeddings
        } else if path.ends_with("/rerank") {
            Self::Rerank
        } else if path.ends_with("/api/chat") {
            Self::Ollama(ollama::Kind::Chat)
        } else if path.ends_with("/api/generate") {
            Self::Ollama(ollama::Kind::Generate)
        } else {
            Self::Chat
        }
    }

    fn body(self, plan: &Plan) -> Value {
        match self {
            Self::Chat => chat::body(plan),
            Self::Completions => completions::body(plan),
            Self::Embeddings => embeddings::body(plan),
            Self::Responses => responses::body(plan),
            Self::Messages => messages::body(plan),
            Self::Gemini => gemini::body(plan),
            Self::GeminiEmbeddings => gemini::embeddings(plan),
            Self::Ollama(kind) => kind.body(plan),
            Self::Cohere => cohere::body(plan),
            Self::CohereEmbeddings => cohere::embeddings(plan),
            Self::Rerank => cohere::ranking(plan),
        }
    }

    /// Whether its answers are text.
    const fn has_text(self) -> bool {
        !matches!(self, Self::Embeddings | Self::GeminiEmbeddings | Self::CohereEmbeddings | Self::Rerank)
    }

    /// The events of a stream, each with what is between it and the next.
    fn events(self, plan: &Plan, framing: Framing) -> Vec<String> {
        match self {
            Self::Chat => chat::events(plan),
            Self::Completions => completions::events(plan),
            Self::Embeddings => vec![embeddings::body(plan).to_string()],
            Self::Responses => responses::events(plan),
            Self::Messages => messages::events(plan),
            Self::Gemini => framing.write(&gemini::chunks(plan)),
            Self::GeminiEmbeddings => vec![gemini::embeddings(plan).to_string()],
            Self::Ollama(kind) => framing.write(&kind.lines(plan)),
            Self::Cohere => framing.write(&cohere::events(plan)),
            Self::CohereEmbeddings => vec![cohere::embeddings(plan).to_string()],
            Self::Rerank => vec![cohere::ranking(plan).to_string()],
        }
    }
}

impl Answer {
    /// Answers the request with `body` to `path`, which has this `query`.
    ///
    /// # Errors
    /// If `body` is not JSON, or a member that matters has the wrong type, unless the mock is to be lax.
    pub(crate) fn to(path: &str, query: &str, body: &[u8], behaviour: &Behaviour) -> Result<Self, String> {
        if let Some(id) = stored(path) {
            let fields = Fields {
                model: "gpt-4o".to_owned(),
                stream: Some(query.contains("stream=true")),
                ..Fields::default()
            };
            let behaviour = Behaviour { response_id: Some(id.to_owned()), ..behaviour.clone() };
            return Ok(Self::of(Format::Responses, Framing::Events, fields, body.len(), &behaviour));
        }
        let mut fields: Fields = match serde_json::from_slice(body) {
            Ok(fields) => fields,
            Err(_) if behaviour.lax => Fields::default(),
            Err(why) => return Err(why.to_string()),
        };
        let format = Format::of(path);
        let mut framing = Framing::Events;
        if format == Format::Gemini {
            fields.stream = Some(path.ends_with(":streamGenerateContent"));
            framing = if query.contains("alt=sse") { Framing::Events } else { Framing::Array };
        }
        if matches!(format, Format::Ollama(_)) {
            fields.stream = fields.stream.or(Some(true));
            framing = Framing::Lines;
        }
        Ok(Self::of(format, framing, fields, body.len(), behaviour))
    }

    fn of(format: Format, framing: Framing, fields: Fields, bytes: usize, behaviour: &Behaviour) -> Self {
        let streamed = fields.stream == Some(true) && format.has_text();
        let plan = Plan::new(format, fields, streamed, bytes, behaviour);
        let events: Vec<Bytes> = if streamed {
            format.events(&plan, framing).into_iter().map(Bytes::from).collect()
        } else {
            vec![Bytes::from(format.body(&plan).to_string())]
        };
        let pieces = match behaviour.chunk_bytes {
            None => events,
            Some(size) => events.concat().chunks(size).map(Bytes::copy_from_slice).collect(),
        };
        let content_type = if streamed { framing.content_type() } else { "application/json" };
        let content_type = HeaderValue::from_static(content_type);
        Self { pieces, content_type, usage: plan.usage, reports_usage: plan.reports_usage }
    }
}

impl Plan {
    fn new(format: Format, fields: Fields, streamed: bool, bytes: usize, behaviour: &Behaviour) -> Self {
        let texts = |value: &Value| value.as_array().map_or(1, |texts| texts.len().max(1)) as u64;
        let answers = match format {
            Format::Chat => fields.n.unwrap_or(1),
            Format::Completions => fields.n.unwrap_or(1).saturating_mul(texts(&fields.prompt)),
            Format::Embeddings => texts(&fields.input),
            Format::Responses | Format::Messages | Format::Ollama(_) | Format::Cohere | Format::Rerank => 1,
            Format::CohereEmbeddings => texts(&fields.texts),
            Format::Gemini => fields.config.candidate_count.unwrap_or(1),
            Format::GeminiEmbeddings => texts(&fields.requests),
        }
        .clamp(1, 128);
        let cap = fields.max_completion_tokens.or(fields.max_output_tokens).or(fields.max_tokens);
        let predicted = fields.options.num_predict.and_then(|most| u64::try_from(most).ok());
        let cap = cap.or(fields.config.max_output_tokens).or(predicted);
        let words = match format {
            _ if !format.has_text() => 0,
            _ => behaviour
                .completion_tokens
                .unwrap_or_else(|| DEFAULT_COMPLETION_TOKENS.min(cap.unwrap_or(DEFAULT_COMPLETION_TOKENS))),
        };
        // OpenAI's streams of choices report usage only on request.
        let requests_usage = fields.stream_options.is_some_and(|options| options.include_usage);
        let queued = (fields.background && !streamed).then(|| "queued".to_owned());
        let is_silent = streamed && matches!(format, Format::Chat | Format::Completions) && !requests_usage;
        Self {
            model: behaviour.model.clone().unwrap_or(fields.model),
            answers,
            words,
            is_cut: cap == Some(words),
            usage: Usage {
                prompt_tokens: behaviour
                    .prompt_tokens
                    .unwrap_or_else(|| u64::try_from(bytes).unwrap_or(0) / 4),
                completion_tokens: words * answers,
            },
            reports_usage: !behaviour.no_usage && !is_silent,
            ends_properly: !behaviour.no_done,
            response_id: behaviour.response_id.clone().unwrap_or_else(|| "resp_mock".to_owned()),
            response_status: behaviour.response_status.clone().or(queued),
        }
    }

    /// One answer's text.
    fn text(&self) -> String {
        vec![WORD; usize::try_from(self.words).unwrap_or(usize::MAX)].join(" ")
    }

    /// The same, word by word.
    fn deltas(&self) -> impl Iterator<Item = String> {
        (0..self.words).map(|at| if at == 0 { WORD.to_owned() } else { format!(" {WORD}") })
    }
}

/// `object` with more members.
fn with(mut object: Value, members: Value) -> Value {
    if let (Value::Object(object), Value::Object(members)) = (&mut object, members) {
        object.extend(members);
    }
    object
}
