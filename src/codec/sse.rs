//! Reads Server-Sent Events out of a body that arrives in chunks of any size.
//!
//! [`Parser`] follows the HTML standard
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>), with two differences:
//! it also reports an event that the end of the stream cuts off, since some servers leave out the last blank line,
//! and of an event larger than [`MAX_EVENT_BYTES`] it reports an outline. It skips `id` and `retry`, which are for
//! clients that reconnect. Bytes stay bytes: nothing here needs UTF-8.

use super::outline::{Outline, Places};
use memchr::memchr2;

/// The largest event that the parser keeps whole, and the longest line, in bytes: 1 MiB.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// The bytes that each buffer keeps allocated between events, so that the memory of one large event is freed before the
/// stream ends.
const KEPT_BYTES: usize = 16 * 1024;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'e> {
    /// The last `event` field; empty if there was none.
    pub kind: &'e [u8],
    /// The `data` fields, with a line feed between one and the next.
    pub data: &'e [u8],
    /// Whether that is all of its data; if not, its data is the outline of a larger event.
    pub is_whole: bool,
}

/// The lines of a stream up to a blank one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'e> {
    /// The place in the chunk after the blank line. If the line ends with a carriage return, a line feed that comes
    /// next belongs to it.
    pub end: usize,
    /// The event of these lines; none if they have no data, like a comment.
    pub event: Option<Event<'e>>,
}

/// Reads events from chunks.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    kind: Vec<u8>,
    /// The `data` fields of the event, each with a line feed after it.
    data: Vec<u8>,
    /// What becomes of the rest of a line that is too long to keep.
    long_line: Option<LongLine>,
    /// The members to keep of an event that is too large.
    places: Places,
    /// The outline of the event, which is too large.
    outline: Option<Box<Outline>>,
    /// The last byte was a carriage return: a line feed that comes next ends no further line.
    after_return: bool,
    /// The first line, which may begin with a byte order mark, has ended.
    begun: bool,
}

/// A line that is too long to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LongLine {
    /// Of data: it is outlined.
    Outlined,
    /// Of another field, or a comment: it is skipped.
    Skipped,
}

impl Parser {
    /// A parser that reports these `places` of events that are too large. By default it reports none.
    pub fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// Takes a chunk and calls `each` with every event that ends in it.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        self.push_blocks(chunk, |block| block.event.into_iter().for_each(&mut each));
    }

    /// Takes a chunk and calls `each` with every block that ends in it: for a reader that also passes the bytes on.
    pub fn push_blocks(&mut self, chunk: &[u8], mut each: impl FnMut(Block<'_>)) {
        let mut rest = chunk;
        while let Some((first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = after;
                continue;
            }
            // Only new bytes are searched; what is kept in `line` has no line end.
            let Some(at) = memchr2(b'\n', b'\r', rest) else {
                self.keep(rest);
                return;
            };
            let (part, end) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            self.after_return = end.first() == Some(&b'\r');
            rest = end.get(1..).unwrap_or_default();
            let is_blank = if self.line.is_empty() && self.long_line.is_none() {
                self.read_line(part)
            } else {
                self.keep(part);
                self.read_kept_line()
            };
            if is_blank {
                self.end_block(chunk.len().saturating_sub(rest.len()), &mut each);
            }
        }
    }

    /// Reports the event that the end of the stream cut off, if there is one.
    pub fn finish(mut self, mut each: impl FnMut(Event<'_>)) {
        self.read_kept_line();
        self.end_block(0, &mut |block| block.event.into_iter().for_each(&mut each));
    }

    /// Takes a part of a line.
    fn keep(&mut self, part: &[u8]) {
        if self.long_line.is_none() {
            if self.line.len().saturating_add(part.len()) <= MAX_EVENT_BYTES {
                self.line.extend_from_slice(part);
                return;
            }
            // The first part may be shorter than the field's name.
            let line = [std::mem::take(&mut self.line).as_slice(), part].concat();
            self.begin_long_line(&line);
        } else {
            self.outline(part);
        }
    }

    /// Takes the beginning of a line that is too long to keep.
    fn begin_long_line(&mut self, line: &[u8]) {
        let (name, value) = self.field(line);
        let is_data = name == b"data";
        self.long_line = Some(if is_data { LongLine::Outlined } else { LongLine::Skipped });
        if is_data {
            self.begin_outline();
            self.outline(value);
        }
    }

    /// Outlines the event from here on: it is too large.
    fn begin_outline(&mut self) {
        if self.outline.is_none() {
            let mut outline = Outline::new(self.places);
            outline.push(&std::mem::take(&mut self.data));
            self.outline = Some(Box::new(outline));
        }
    }

    /// Takes a part of a long line of data, if that is what is being read.
    fn outline(&mut self, part: &[u8]) {
        if let (Some(LongLine::Outlined), Some(outline)) = (self.long_line, &mut self.outline) {
            outline.push(part);
        }
    }

    /// Ends the kept line. Returns whether it is blank.
    fn read_kept_line(&mut self) -> bool {
        if let Some(long) = self.long_line.take() {
            if let (LongLine::Outlined, Some(outline)) = (long, &mut self.outline) {
                outline.push(b"\n");
            }
            return false;
        }
        let mut line = std::mem::take(&mut self.line);
        let is_blank = !line.is_empty() && self.read_line(&line);
        line.clear();
        line.shrink_to(KEPT_BYTES);
        self.line = line;
        is_blank
    }

    /// Reads a whole line. Returns whether it is blank.
    fn read_line(&mut self, line: &[u8]) -> bool {
        if line.len() > MAX_EVENT_BYTES {
            self.begin_long_line(line);
            return self.read_kept_line();
        }
        let (name, value) = self.field(line);
        match name {
            b"data" => {
                if self.data.len().saturating_add(value.len()) >= MAX_EVENT_BYTES {
                    self.begin_outline();
                }
                if let Some(outline) = &mut self.outline {
                    outline.push(value);
                    outline.push(b"\n");
                } else {
                    self.data.extend_from_slice(value);
                    self.data.push(b'\n');
                }
            }
            b"event" => {
                self.kind.clear();
                self.kind.extend_from_slice(value);
            }
            // A comment has an empty name.
            _ => {}
        }
        line.is_empty()
    }

    /// The name and the value of the field in `line`.
    fn field<'l>(&mut self, line: &'l [u8]) -> (&'l [u8], &'l [u8]) {
        let mark: &[u8] = if self.begun { b"" } else { b"\xEF\xBB\xBF" };
        self.begun = true;
        let line = line.strip_prefix(mark).unwrap_or(line);
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.strip_prefix(b":").unwrap_or(value);
        (name, value.strip_prefix(b" ").unwrap_or(value))
    }

    fn end_block(&mut self, end: usize, each: &mut impl FnMut(Block<'_>)) {
        let outline = self.outline.take().map(|outline| outline.finish());
        let event = match &outline {
            Some(outline) => Some(Event { kind: &self.kind, data: outline, is_whole: false }),
            // Without data there is no event: a comment or a keep-alive.
            None => {
                let data = self.data.strip_suffix(b"\n");
                data.map(|data| Event { kind: &self.kind, data, is_whole: true })
            }
        };
        each(Block { end, event });
        self.kind.clear();
        self.kind.shrink_to(KEPT_BYTES);
        self.data.clear();
        self.data.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Events = Vec<(Vec<u8>, Vec<u8>)>;

    const PLACES: Places = Places { vital: &["usage"], others: &["type"] };

    fn read(chunks: &[&[u8]]) -> Events {
        let mut events = Events::new();
        let mut parser = Parser::new(PLACES);
        for chunk in chunks {
            parser.push(chunk, |event| events.push((event.kind.to_vec(), event.data.to_vec())));
        }
        parser.finish(|event| events.push((event.kind.to_vec(), event.data.to_vec())));
        events
    }

    fn data(stream: &str) -> Vec<String> {
        read(&[stream.as_bytes()]).into_iter().map(|(_, data)| String::from_utf8(data).unwrap()).collect()
    }

    #[test]
    fn the_standards_examples_are_read() {
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        assert_eq!(
            data(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third"),
            ["first event", "second event", " third"]
        );
        assert_eq!(data("data\n\ndata\ndata\n\ndata:"), ["", "\n", ""]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
        let events = read(&[b"event: add\ndata: 7\n\ndata: 8\n\n"]);
        assert_eq!(events, [(b"add".to_vec(), b"7".to_vec()), (b"".to_vec(), b"8".to_vec())]);
    }

    #[test]
    fn every_line_end_ends_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = ["\u{FEFF}data: a", "data: b", "", ":", "data: c", "", ""].join(end);
            assert_eq!(data(&stream), ["a\nb", "c"], "{end:?}");
        }
        assert_eq!(data("data: a\r\rdata: b\n\r\n"), ["a", "b"]);
    }

    #[test]
    fn every_block_ends_behind_its_blank_line() {
        let mut blocks = Vec::new();
        let stream = b": hello\r\n\r\ndata: a\n\n\rdata: b\n";
        Parser::default().push_blocks(stream, |block| blocks.push((block.end, block.event.is_some())));
        assert_eq!(blocks, [(10, false), (20, true), (21, false)], "byte 10 is half of a line end");
    }

    #[test]
    fn only_the_first_line_has_a_byte_order_mark() {
        assert_eq!(data("\u{FEFF}\u{FEFF}data: a\n\ndata: b\n\n"), ["b"]);
        assert_eq!(data("data: a\n\n\u{FEFF}data: b\n\n"), ["a"]);
    }

    #[test]
    fn a_large_event_is_outlined_and_not_kept() {
        let fits = "x".repeat(MAX_EVENT_BYTES - 6);
        assert_eq!(data(&format!("data: {fits}\n\n")), [fits]);
        let line = "x".repeat(10_000);
        let one_line = format!("data: {{\"type\":\"t\",\"x\":\"{}\",\"usage\":7}}\n", line.repeat(200));
        let lines = format!("data: \"{line}\",\n").repeat(200);
        let lines = format!("data: {{\"type\":\"t\",\"x\":[\n{lines}data: 1],\"usage\":\ndata: 7}}\n");
        for (large, outline) in [
            (&one_line, r#"{"type":"t","usage":7}"#),
            (&lines, r#"{"type":"t","usage":7}"#),
            (&format!("event: k\n{}", one_line.replace("\"usage\"", "\"used\"")), r#"{"type":"t"}"#),
            (&format!("data: {{\"usage\":\ndata: 1}}\n{one_line}"), r#"{"usage":1}"#),
            (&one_line.replace("data: {", "data: "), ""),
            (&format!(": {}\ndata: 5\nid: {}\n", line.repeat(200), line.repeat(200)), "5"),
        ] {
            let stream = format!("data: a\n\n{large}\ndata: b\n\n");
            assert_eq!(data(&stream), ["a", outline, "b"]);
            let mut parser = Parser::new(PLACES);
            let mut events = Vec::new();
            for chunk in stream.as_bytes().chunks(1_000) {
                parser.push(chunk, |event| events.push((event.data.to_vec(), event.is_whole)));
                assert!(parser.line.len() + parser.data.len() <= 2 * MAX_EVENT_BYTES);
            }
            let whole = !stream.contains("\"x\"");
            let expected = [("a", true), (outline, whole), ("b", true)];
            assert_eq!(events, expected.map(|(data, is_whole)| (data.as_bytes().to_vec(), is_whole)));
            assert!(parser.line.capacity() + parser.data.capacity() <= 2 * KEPT_BYTES);
        }
        let cut_off = one_line.get(..one_line.len() - 5).unwrap();
        assert_eq!(data(cut_off), [r#"{"type":"t"}"#]);
    }

    /// Streams of all bytes that matter to the parser, and of others.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            8 => prop::sample::select(vec![
                "data", "data:", "data: ", "event:", ":", " ", "\n", "\r", "\r\n", "\n\n", "[DONE]", "é", "\u{FEFF}",
                "id: 1", "{}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ];
        prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_split_equals_the_whole(
            stream in stream(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            let bytes: Vec<_> = stream.chunks(1).collect();
            let whole = read(&[&stream]);
            prop_assert_eq!(read(&chunks), whole.clone());
            prop_assert_eq!(read(&bytes), whole);
        }
    }
}
