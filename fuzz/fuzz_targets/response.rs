//! Responses from every endpoint: none may cause a panic, the chunks of a response do not change its outcome, which is
//! returned once, and a response that the client ends is never cheaper than one that the upstream ends.
//!
//! The last byte chooses the endpoint and the content type, the byte before it the size of the chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::models::Encodings;
use llm_rate_limit::quantity::MAX_EXACT;
use llm_rate_limit::request::{Api, Endpoint};
use llm_rate_limit::tokens::Tokenizer;
use llm_rate_limit::usage::{EndedBy, Outcome, ResponseReader};

const ENDPOINTS: [Endpoint; 13] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::Gemini,
    Endpoint::GeminiEmbeddings,
    Endpoint::OllamaChat,
    Endpoint::OllamaGenerate,
    Endpoint::CohereChat,
    Endpoint::CohereEmbed,
    Endpoint::Rerank,
    Endpoint::Other(Api::OpenAi),
];

const TYPES: [Option<&str>; 3] = [Some("text/event-stream"), Some("application/json"), None];

#[derive(Clone, Copy)]
struct Exchange<'b> {
    endpoint: Endpoint,
    kind: Option<&'static str>,
    tokenizer: Tokenizer,
    bytes: &'b [u8],
}

fn read(exchange: Exchange<'_>, size: usize, ended_by: EndedBy) -> Outcome {
    let Exchange { endpoint, kind, tokenizer, bytes } = exchange;
    let mut reader = ResponseReader::new(endpoint, kind, 1, tokenizer);
    let mut given = None;
    for chunk in bytes.chunks(size) {
        let _ = reader.so_far();
        if let Some(outcome) = reader.push(chunk) {
            assert_eq!(given, None, "an outcome is returned once");
            given = Some(outcome);
        }
    }
    let outcome = reader.finish(ended_by);
    assert!(given.is_none_or(|given| given == outcome));
    outcome
}

fuzz_target!(|data: &[u8]| {
    let [bytes @ .., size, choice] = data else { return };
    let choice = usize::from(*choice);
    let endpoint = ENDPOINTS[choice % ENDPOINTS.len()];
    let kind = TYPES[choice / ENDPOINTS.len() % TYPES.len()];
    let exchange = Exchange { endpoint, kind, tokenizer: Encodings::default().tokenizer(None), bytes };
    let whole = read(exchange, bytes.len().max(1), EndedBy::Upstream);
    assert_eq!(read(exchange, usize::from(*size).max(1), EndedBy::Upstream), whole);
    if let Outcome::Reported(usage) | Outcome::Counted { usage, .. } = whole {
        assert!(usage.input_tokens.unwrap_or(0) <= MAX_EXACT && usage.output_tokens <= MAX_EXACT);
    }
    let left = read(exchange, usize::from(*size).max(1), EndedBy::Other);
    assert!(
        left == whole || left == Outcome::Unknown || kind != Some("application/json"),
        "{left:?} {whole:?}"
    );
});
