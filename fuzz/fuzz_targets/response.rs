//! Responses from every endpoint: none may cause a panic, and the chunks of a response do not change its outcome, which
//! is returned once.
//!
//! The last byte chooses the endpoint and the content type, the byte before it the size of the chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::models::Encodings;
use llm_rate_limit::request::Endpoint;
use llm_rate_limit::tokens::Tokenizer;
use llm_rate_limit::usage::{Outcome, ResponseReader};

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
];

const TYPES: [Option<&str>; 3] = [Some("text/event-stream"), Some("application/json"), None];

fn read(endpoint: Endpoint, kind: Option<&str>, tokenizer: Tokenizer, bytes: &[u8], size: usize) -> Outcome {
    let mut reader = ResponseReader::new(endpoint, kind, 1, tokenizer);
    let mut given = None;
    for chunk in bytes.chunks(size) {
        let _ = reader.so_far();
        if let Some(outcome) = reader.push(chunk) {
            assert_eq!(given, None, "an outcome is returned once");
            given = Some(outcome);
        }
    }
    let outcome = reader.finish();
    assert!(given.is_none_or(|given| given == outcome));
    outcome
}

fuzz_target!(|data: &[u8]| {
    let [bytes @ .., size, choice] = data else { return };
    let choice = usize::from(*choice);
    let endpoint = ENDPOINTS[choice % ENDPOINTS.len()];
    let kind = TYPES[choice / ENDPOINTS.len() % TYPES.len()];
    let tokenizer = Encodings::default().tokenizer(None);
    let whole = read(endpoint, kind, tokenizer, bytes, bytes.len().max(1));
    assert_eq!(read(endpoint, kind, tokenizer, bytes, usize::from(*size).max(1)), whole);
});
