//! Bodies of requests to every endpoint: none may cause a panic, and reading one twice, or in steps, gives the
//! same result.
//!
//! The last byte chooses the endpoint and the size of the pieces that come.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::models::Encodings;
use llm_rate_limit::request::steps::{Counting, Read, Reading};
use llm_rate_limit::request::{Body, Endpoint, IncludeUsage, NewMembers, Request};
use llm_rate_limit::tokens::Meter;

const ENDPOINTS: [Endpoint; 12] = [
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
];

/// Reads a body in steps, in pieces of `size` bytes.
fn in_steps(endpoint: Endpoint, bytes: &[u8], size: usize) -> Read {
    let mut reading = Reading::new(endpoint, bytes.len());
    let mut pieces = bytes.chunks(size);
    while !reading.is_read() {
        if !reading.wants_bytes() {
            reading.step();
        } else if let Some(piece) = pieces.next() {
            reading.push(piece);
        } else {
            reading.finish();
        }
    }
    reading.into_read()
}

/// The tokens of its prompt.
fn counted_in_steps(Read { request, texts }: &Read) -> u64 {
    let tokenizer = Encodings::default().tokenizer(request.first_model());
    let mut counting = Counting::new(tokenizer);
    while !counting.is_done() {
        counting.step(texts, 100, |_| false);
    }
    request.input_tokens(counting.tokens(), request.first_model(), tokenizer)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_last() else { return };
    let endpoint = ENDPOINTS[usize::from(*choice) % ENDPOINTS.len()];
    let body = Body::new(bytes);
    let request = Request::read(endpoint, &body);
    let count = |request: &Request<'_>| {
        let tokenizer = Encodings::default().tokenizer(request.first_model());
        let text = request.text_tokens(&Meter::unlimited(tokenizer));
        request.input_tokens(text, request.first_model(), tokenizer)
    };
    let tokens = count(&request);
    assert!(request.answers() >= request.choices());
    if !endpoint.has_output() {
        assert_eq!(request.output_cap().tokens, Some(0));
    }
    let again = Request::read(endpoint, &body);
    assert_eq!(request, again);
    assert_eq!(tokens, count(&again));
    let in_steps = in_steps(endpoint, bytes, usize::from(*choice / 7).max(1));
    assert_eq!(in_steps.request.fault.is_some(), request.fault.is_some());
    if request.fault.is_none() {
        let found = &in_steps.request;
        assert_eq!((found.models(), found.output_cap()), (request.models(), request.output_cap()));
        assert_eq!((found.stream, found.is_plain()), (request.stream, request.is_plain()));
        assert_eq!(counted_in_steps(&in_steps), tokens);
    }
    // Only JSON is changed, and only a stream is asked for its usage.
    if request.is_plain() && request.fault.is_none() && request.has_content() {
        let has_options = request.has_stream_options;
        let include_usage = request.stream.then_some(IncludeUsage { has_options });
        let output_cap = endpoint.has_output().then(|| request.new_cap(7, &request.models()));
        let Some(edit) = (NewMembers { include_usage, output_cap }).edit(bytes) else { return };
        let changed = [&edit.with, &bytes[edit.replaced..]].concat();
        let body = Body::new(&changed);
        let read = Request::read(endpoint, &body);
        assert!(read.fault.is_none() && read.stream == request.stream);
        assert!(read.include_usage || !request.stream);
        assert_eq!(read.models(), request.models());
        if let Some(cap) = read.answer_cap() {
            assert!(cap.tokens.is_some_and(|most| most <= 7));
        }
    }
});
