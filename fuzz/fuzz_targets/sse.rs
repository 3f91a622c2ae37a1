//! Server-Sent Events: the chunks of a stream do not change its events.
//!
//! The last byte is the size of the chunks.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::codec::sse::{MAX_EVENT_BYTES, Parser};

fn events(bytes: &[u8], size: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    for chunk in bytes.chunks(size) {
        parser.push(chunk, |event| events.push((event.kind.to_vec(), event.data.to_vec())));
    }
    parser.finish(|event| events.push((event.kind.to_vec(), event.data.to_vec())));
    assert!(events.iter().all(|(_, data)| data.len() <= MAX_EVENT_BYTES));
    events
}

fuzz_target!(|data: &[u8]| {
    let Some((size, bytes)) = data.split_last() else { return };
    let whole = events(bytes, bytes.len().max(1));
    assert_eq!(events(bytes, usize::from(*size).max(1)), whole);
});
