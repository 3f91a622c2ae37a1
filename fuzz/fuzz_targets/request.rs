//! Bodies of requests to every endpoint: none may cause a panic, and reading one twice gives the same result.
//!
//! The last byte chooses the endpoint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::models::Encodings;
use llm_rate_limit::request::{Body, Endpoint, Request, inject_include_usage};
use llm_rate_limit::tokens::Meter;

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
];

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_last() else { return };
    let endpoint = ENDPOINTS[usize::from(*choice) % ENDPOINTS.len()];
    let body = Body::new(bytes);
    let request = Request::read(endpoint, &body);
    let count = |request: &Request<'_>| {
        let tokenizer = Encodings::default().tokenizer(request.model.as_deref());
        request.input_tokens(&Meter::unlimited(tokenizer))
    };
    let tokens = count(&request);
    assert!(request.answers() >= request.choices());
    if endpoint == Endpoint::Embeddings {
        assert_eq!(request.output_cap(), Some(0));
    }
    let again = Request::read(endpoint, &body);
    assert_eq!(request, again);
    assert_eq!(tokens, count(&again));
    // Only JSON that wants a stream is changed.
    if request.is_json
        && request.stream
        && let Some(edit) = inject_include_usage(bytes, request.has_stream_options)
    {
        let changed = [&edit.with, &bytes[edit.replaced..]].concat();
        let body = Body::new(&changed);
        let asking = Request::read(endpoint, &body);
        assert!(asking.is_json && asking.include_usage && asking.stream);
        assert_eq!(asking.model, request.model);
    }
});
