//! Changes to a stream of chat or text completions on its way to the client, event by event.
//!
//! Two are made, both only if the configuration asks for them: the usage that the filter asked for in the client's
//! place is hidden from a client that did not ask for it, and a stream that has passed its limit is ended as the API
//! ends one that reached `max_tokens`. Events that are not changed pass byte for byte; what passes is held back until
//! its event is whole, never longer.

use crate::lenient;
use serde_json::{Value, json};

/// The largest event that is held back. A larger one passes as it comes and is not changed.
const MAX_HELD: usize = 1 << 20;

/// Edits one stream.
#[derive(Debug, Default)]
pub struct StreamEditor {
    hides_usage: bool,
    /// The beginning of an event whose end has not come.
    held: Vec<u8>,
    /// The event in `held` began too large to be held: it passes.
    passing: bool,
    /// Nothing has come of the current line.
    line_is_empty: bool,
    /// The last byte was a carriage return, and whether the event that it ended passed, if it ended one.
    after_return: Option<bool>,
    /// The last event that was a completion's chunk, to end the stream in its likeness.
    likeness: Option<Value>,
    /// The stream was ended here: the rest is swallowed.
    is_cut: bool,
}

impl StreamEditor {
    /// An editor that hides the chunk that holds nothing but usage, if `hides_usage`.
    pub fn new(hides_usage: bool) -> Self {
        Self { hides_usage, ..Self::default() }
    }

    /// Takes a chunk; what to send in its place.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(chunk.len());
        for byte in chunk {
            match (self.after_return.take(), byte) {
                // The second half of a line end, which goes where its first half went.
                (Some(passed), b'\n') => {
                    if self.held.is_empty() {
                        out.extend(passed.then_some(b'\n'));
                    } else {
                        self.held.push(b'\n');
                    }
                    continue;
                }
                (_, b'\r' | b'\n') => {
                    self.held.push(*byte);
                    let ends_event = self.line_is_empty;
                    self.line_is_empty = true;
                    let passed = !ends_event || self.end_event(&mut out);
                    self.after_return = (*byte == b'\r').then_some(passed);
                }
                (_, _) => {
                    self.held.push(*byte);
                    self.line_is_empty = false;
                }
            }
            if self.held.len() > MAX_HELD {
                self.passing = true;
            }
            if self.passing && !self.is_cut {
                out.append(&mut self.held);
            }
        }
        if self.is_cut { Vec::new() } else { out }
    }

    /// The stream has ended: what was still held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        if self.is_cut { Vec::new() } else { held }
    }

    /// Ends the stream here; what to send to the client. `choices` are told that they reached their length. None if
    /// nothing has come yet that tells what the end must look like.
    pub fn cut(&mut self, choices: u64) -> Option<Vec<u8>> {
        let mut chunk = self.likeness.take()?;
        self.is_cut = true;
        self.held.clear();
        let is_chat =
            chunk.get("object").and_then(Value::as_str).is_none_or(|object| object.starts_with("chat"));
        let choice = |index| {
            if is_chat {
                json!({"index": index, "delta": {}, "finish_reason": "length"})
            } else {
                json!({"index": index, "text": "", "finish_reason": "length"})
            }
        };
        let fields = chunk.as_object_mut()?;
        fields.remove("usage");
        fields.insert("choices".into(), (0..choices.min(128)).map(choice).collect());
        Some(format!("data: {chunk}\n\ndata: [DONE]\n\n").into_bytes())
    }

    /// The event in `held` is whole: passes it on, or hides it. Whether it passed.
    fn end_event(&mut self, out: &mut Vec<u8>) -> bool {
        let event = std::mem::take(&mut self.held);
        let hidden = !std::mem::take(&mut self.passing) && self.read(&event);
        if !hidden {
            out.extend_from_slice(&event);
        }
        !hidden
    }

    /// Notes what a whole event is; whether it is to be hidden.
    fn read(&mut self, event: &[u8]) -> bool {
        let mut data = Vec::new();
        let mut parser = crate::sse::Parser::default();
        parser.push(event, |event| data = event.data.to_vec());
        let Ok(chunk) = serde_json::from_str::<Value>(&lenient::mend(&data)) else { return false };
        let Some(choices) = chunk.get("choices").and_then(Value::as_array) else { return false };
        let hidden =
            self.hides_usage && choices.is_empty() && chunk.get("usage").is_some_and(Value::is_object);
        if self.likeness.is_none() {
            self.likeness = Some(chunk);
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: &str = r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#;
    const USAGE: &str =
        r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1}}"#;

    fn edit<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> String {
        let mut editor = StreamEditor::new(true);
        let mut out: Vec<u8> = chunks.into_iter().flat_map(|chunk| editor.push(chunk)).collect();
        out.extend(editor.finish());
        String::from_utf8(out).unwrap()
    }

    fn stream(end: &str, events: &[&str]) -> String {
        events.iter().map(|event| format!("{event}{end}{end}")).collect()
    }

    #[test]
    fn the_chunk_of_usage_is_hidden_and_everything_else_passes() {
        for end in ["\n", "\r\n", "\r"] {
            let came = stream(end, &[": hello", HELLO, USAGE, "data: [DONE]"]);
            let went = stream(end, &[": hello", HELLO, "data: [DONE]"]);
            for size in 1..60 {
                assert_eq!(edit(came.as_bytes().chunks(size)), went, "{end:?} by {size}");
            }
        }
        assert_eq!(
            StreamEditor::new(false).push(stream("\n", &[USAGE]).as_bytes()),
            stream("\n", &[USAGE]).as_bytes()
        );
    }

    #[test]
    fn an_event_goes_on_as_soon_as_it_is_whole() {
        let mut editor = StreamEditor::new(true);
        assert_eq!(editor.push(HELLO.as_bytes()), b"");
        assert_eq!(editor.push(b"\n"), b"");
        assert_eq!(editor.push(b"\n"), format!("{HELLO}\n\n").as_bytes());
    }

    #[test]
    fn what_is_too_large_to_hold_passes() {
        let large = format!("data: {}\n\n", "x".repeat(MAX_HELD + 10));
        let came = format!("{large}{}", stream("\n", &[USAGE, HELLO]));
        assert_eq!(edit(came.as_bytes().chunks(8192)), format!("{large}{}", stream("\n", &[HELLO])));
    }

    #[test]
    fn a_stream_is_ended_as_its_api_ends_one() {
        let mut editor = StreamEditor::new(false);
        assert_eq!(editor.cut(1), None, "there is nothing to go by yet");
        editor.push(format!("{HELLO}\n\ndata: {{\"half").as_bytes());
        let end = String::from_utf8(editor.cut(2).unwrap()).unwrap();
        let (chunk, done) = end.split_once("\n\n").unwrap();
        let chunk: Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(
            chunk,
            json!({"id": "c", "object": "chat.completion.chunk", "choices": [
                {"index": 0, "delta": {}, "finish_reason": "length"},
                {"index": 1, "delta": {}, "finish_reason": "length"},
            ]})
        );
        assert_eq!(done, "data: [DONE]\n\n");
        assert_eq!(
            (editor.push(format!(" past\"}}\n\n{HELLO}\n\n").as_bytes()), editor.finish()),
            (vec![], vec![])
        );
    }

    #[test]
    fn text_completions_end_with_text() {
        let mut editor = StreamEditor::new(false);
        editor.push(b"data: {\"object\":\"text_completion\",\"choices\":[{\"text\":\"a\"}]}\n\n");
        assert!(String::from_utf8(editor.cut(1).unwrap()).unwrap().contains(r#""text":"""#));
    }

    proptest! {
        #[test]
        fn without_a_chunk_of_usage_every_byte_passes(bytes in "[a-z:\r\n ]{0,80}", size in 1usize..20) {
            prop_assert_eq!(edit(bytes.as_bytes().chunks(size)), bytes);
        }
    }
}
