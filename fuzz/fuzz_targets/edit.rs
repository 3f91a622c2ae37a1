//! Edited streams: the chunks of a stream change neither the client's bytes nor the outcome, only hidden events are
//! lost, and a stream that is ended ends with an event of its own.
//!
//! The last byte is the size of the chunks, the byte before it the place where the stream is ended.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::codec::sse::Parser;
use llm_rate_limit::models::Encodings;
use llm_rate_limit::request::Endpoint;
use llm_rate_limit::stream_edit::{EditedStream, Edits, StreamEditor};
use llm_rate_limit::usage::{EndedBy, Outcome, ResponseReader};

const HIDES: Edits = Edits { hides_usage: true, finishes: false };
const FINISHES: Edits = Edits { hides_usage: false, finishes: true };

fn edit(edits: Edits, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut editor = StreamEditor::new(edits);
    let mut out: Vec<u8> = bytes.chunks(size).flat_map(|chunk| editor.push(chunk)).collect();
    out.extend(editor.finish());
    out
}

fn edit_and_read(bytes: &[u8], size: usize) -> (Vec<u8>, Outcome) {
    let tokenizer = Encodings::default().tokenizer(None);
    let reader = ResponseReader::new(Endpoint::ChatCompletions, Some("text/event-stream"), 1, tokenizer);
    let mut stream = EditedStream::new(HIDES, reader);
    let mut out: Vec<u8> = bytes.chunks(size).flat_map(|chunk| stream.push(chunk).0).collect();
    let (end, outcome) = stream.finish(EndedBy::Upstream);
    out.extend(end);
    (out, outcome)
}

/// The data of the last event.
fn last_data(stream: &[u8]) -> Vec<u8> {
    let (mut parser, mut last) = (Parser::default(), Vec::new());
    parser.push(stream, |event| last = event.data.to_vec());
    last
}

fuzz_target!(|data: &[u8]| {
    let [bytes @ .., end, size] = data else { return };
    let size = usize::from(*size).max(1);
    assert_eq!(edit(FINISHES, bytes, size), bytes);
    let hidden = edit(HIDES, bytes, size);
    assert_eq!(hidden, edit(HIDES, bytes, bytes.len().max(1)));
    assert!(hidden.len() <= bytes.len());
    let read = edit_and_read(bytes, size);
    assert_eq!(read.0, hidden);
    assert_eq!(read, edit_and_read(bytes, bytes.len().max(1)));

    let mut editor = StreamEditor::new(FINISHES);
    let (before, after) = bytes.split_at(usize::from(*end).saturating_mul(8).min(bytes.len()));
    let mut out = editor.push(before);
    if let Some(end) = editor.cut(1, 5) {
        out.extend(end);
        let last = String::from_utf8(last_data(&out)).unwrap();
        assert!(
            last == "[DONE]" || last.contains("\"message_stop\"") || last.contains("\"response.incomplete\""),
            "{last}"
        );
        assert!(editor.push(after).is_empty() && editor.finish().is_empty());
    }
});
