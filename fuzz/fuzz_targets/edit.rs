//! Streams that are changed on their way: in whatever chunks one comes, the client gets the same; nothing is lost that
//! is not hidden; and one that is ended is ended with an event of its own.
//!
//! The last byte is the size of the chunks, the one before where the stream is ended.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::codec::sse::Parser;
use llm_rate_limit::stream_edit::{Edits, StreamEditor};

const HIDES: Edits = Edits { hides_usage: true, finishes: false };
const FINISHES: Edits = Edits { hides_usage: false, finishes: true };

fn edit(edits: Edits, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut editor = StreamEditor::new(edits);
    let mut out: Vec<u8> = bytes.chunks(size).flat_map(|chunk| editor.push(chunk)).collect();
    out.extend(editor.finish());
    out
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
