//! A response that is both edited and read: one parser finds its events, for the editor and for the reader.

use super::{Edits, StreamEditor};
use crate::usage::{EndedBy, Outcome, ResponseReader};

/// Edits a response that is not compressed, and reads its usage.
#[derive(Debug)]
pub struct EditedStream {
    editor: StreamEditor,
    reader: ResponseReader,
}

impl EditedStream {
    /// Makes these `edits`, and reads with `reader`, which has read nothing yet.
    pub fn new(edits: Edits, reader: ResponseReader) -> Self {
        Self { editor: StreamEditor::new(edits), reader }
    }

    /// Takes a chunk. Returns the bytes to send in its place, and the outcome like [`ResponseReader::push`].
    pub fn push(&mut self, chunk: &[u8]) -> (Vec<u8>, Option<Outcome>) {
        let Self { editor, reader } = self;
        if !reader.reads_events(chunk) {
            return (editor.push(chunk), reader.push(chunk));
        }
        let mut outcome = None;
        let edited = editor.push_and_read(chunk, |event| outcome = outcome.or(reader.read_event(event)));
        (edited, outcome)
    }

    /// About how many output tokens have arrived: [`ResponseReader::so_far`].
    pub fn so_far(&self) -> u64 {
        self.reader.so_far()
    }

    /// The reader of the stream.
    pub const fn reader(&self) -> &ResponseReader {
        &self.reader
    }

    /// Ends the stream for the client: [`StreamEditor::cut`]. The reader goes on, because the upstream charges for what
    /// it still sends.
    pub fn cut(&mut self, choices: u64) -> Option<Vec<u8>> {
        self.editor.cut(choices, self.reader.so_far())
    }

    /// Ends the response, which `ended_by` ended. Returns the bytes that still wait, and the outcome.
    pub fn finish(self, ended_by: EndedBy) -> (Vec<u8>, Outcome) {
        let Self { mut editor, mut reader } = self;
        let edited = editor.finish_and_read(|event| {
            reader.read_part(event);
        });
        (edited, reader.finish(ended_by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Endpoint;
    use crate::tokens::{Counting, Encoding, Factor, Tokenizer};
    use proptest::prelude::*;

    const HIDES: Edits = Edits { hides_usage: true, finishes: false };
    const FINISHES: Edits = Edits { hides_usage: false, finishes: true };

    fn reader() -> ResponseReader {
        let tokenizer = Tokenizer::new(Counting { encoding: Encoding::O200kBase, factor: Factor::ONE });
        ResponseReader::new(Endpoint::ChatCompletions, Some("text/event-stream"), 1, tokenizer)
    }

    /// The edited bytes, the outcome, and whether `push` returned it.
    fn edit_and_read<'c>(
        edits: Edits,
        chunks: impl IntoIterator<Item = &'c [u8]>,
    ) -> (Vec<u8>, Outcome, bool) {
        let mut stream = EditedStream::new(edits, reader());
        let (mut out, mut early) = (Vec::new(), None);
        for chunk in chunks {
            let (edited, outcome) = stream.push(chunk);
            out.extend(edited);
            assert!(early.is_none() || outcome.is_none(), "an outcome is returned once");
            early = early.or(outcome);
        }
        let (edited, outcome) = stream.finish(EndedBy::Other);
        out.extend(edited);
        assert_eq!(early.unwrap_or(outcome), outcome);
        (out, outcome, early.is_some())
    }

    /// The same, from a separate editor and reader.
    fn edit_then_read(edits: Edits, stream: &[u8]) -> (Vec<u8>, Outcome, bool) {
        let (mut editor, mut reader) = (StreamEditor::new(edits), reader());
        let mut out = editor.push(stream);
        out.extend(editor.finish());
        let early = reader.push(stream).is_some();
        (out, reader.finish(EndedBy::Other), early)
    }

    /// Streams of chat chunks with any line ends, and JSON bodies that are sent as streams.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let event = prop::sample::select(vec![
            r#"data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}"#,
            r#"data: {"choices":[{"index":0,"finish_reason":"stop"}]}"#,
            r#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":5}}",
            "data: [DONE]",
            "event: x\ndata: [1]",
            ": keep-alive",
            "garbage",
        ]);
        let end = prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\n"]);
        let events = prop::collection::vec((event, end), 0..8);
        let begin =
            prop::sample::select(vec!["", "\u{FEFF}", "\r\n", r#"{"usage":{"prompt_tokens":7}}"#, " {"]);
        (begin, events).prop_map(|(begin, events)| {
            let events = events.iter().map(|(event, end)| format!("{event}{end}"));
            format!("{begin}{}", events.collect::<String>()).into_bytes()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_split_is_edited_and_read_as_the_whole_is(
            stream in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            for edits in [HIDES, FINISHES] {
                let expected = edit_then_read(edits, &stream);
                let split = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]);
                prop_assert_eq!(&edit_and_read(edits, [stream.as_slice()]), &expected);
                prop_assert_eq!(&edit_and_read(edits, split), &expected);
                prop_assert_eq!(&edit_and_read(edits, stream.chunks(1)), &expected);
            }
        }
    }

    #[test]
    fn hidden_usage_is_read() {
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
        let (out, outcome, early) = edit_and_read(HIDES, [format!("{text}{usage}").as_bytes()]);
        assert_eq!(out, text.as_bytes());
        assert!(
            early && matches!(outcome, Outcome::Reported(usage) if usage.output_tokens == 2),
            "{outcome:?}"
        );
    }

    #[test]
    fn the_reader_goes_on_after_the_client_got_an_end() {
        let mut stream = EditedStream::new(FINISHES, reader());
        stream.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: {\"choices\"");
        assert_eq!(stream.so_far(), 1);
        let end = String::from_utf8(stream.cut(1).unwrap()).unwrap();
        assert!(end.ends_with("data: [DONE]\n\n"), "{end}");
        assert_eq!(stream.cut(1), None);
        let rest =
            b":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":9}}\n\n";
        let (out, outcome) = stream.push(rest);
        assert!(out.is_empty());
        assert!(matches!(outcome, Some(Outcome::Reported(usage)) if usage.output_tokens == 9), "{outcome:?}");
        assert_eq!(stream.finish(EndedBy::Other), (vec![], outcome.unwrap()));
    }
}
