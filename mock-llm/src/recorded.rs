//! Answers of other endpoints than chat completions, as the tests' transcripts have them.

use crate::completion::Answer;
use crate::journal::Usage;
use bytes::Bytes;

/// The transcript `name`, in whole events if it is a stream. Its usage is not in the journal's sums.
///
/// # Errors
/// If there is none of this name.
pub(crate) fn answer(name: &str) -> Result<Answer, String> {
    let text = match name {
        "completions" => include_str!("../../tests/data/transcripts/completions/body.body"),
        "completions-stream" => include_str!("../../tests/data/transcripts/completions/include_usage.sse"),
        "embeddings" => include_str!("../../tests/data/transcripts/embeddings/body.body"),
        "responses" => include_str!("../../tests/data/transcripts/responses/body.body"),
        "responses-stream" => include_str!("../../tests/data/transcripts/responses/completed.sse"),
        "messages" => include_str!("../../tests/data/transcripts/messages/body.body"),
        "messages-stream" => include_str!("../../tests/data/transcripts/messages/text.sse"),
        _ => return Err(format!("there is no transcript {name:?}")),
    };
    let streamed = name.ends_with("-stream");
    let pieces = if streamed {
        text.split_inclusive("\n\n").map(|event| Bytes::from_static(event.as_bytes())).collect()
    } else {
        vec![Bytes::from_static(text.as_bytes())]
    };
    Ok(Answer { pieces, streamed, usage: Usage::default() })
}
