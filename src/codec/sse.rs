//! Reads Server-Sent Events out of a body that arrives in chunks of any size.
//!
//! [`Parser`] follows the HTML standard
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>), with two differences:
//! it also reports an event that the end of the stream cuts off, since some servers leave out the last blank line,
//! and it drops an event larger than [`MAX_EVENT_BYTES`]. It skips `id` and `retry`, which are for clients that
//! reconnect. Bytes stay bytes: nothing here needs UTF-8.

use memchr::memchr2;

/// The largest event and the longest line that the parser reads, in bytes: 1 MiB. It drops anything larger.
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
}

/// The lines of a stream up to a blank one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'e> {
    /// The place in the chunk after the blank line. If the line ends with a carriage return, a line feed that comes
    /// next belongs to it.
    pub end: usize,
    /// The event of these lines; none if they have no data, like a comment, or if it is too large.
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
    /// The line is too long: the rest of it is skipped.
    too_long: bool,
    /// The event is too large: the rest of it is skipped.
    too_large: bool,
    /// The last byte was a carriage return: a line feed that comes next ends no further line.
    after_return: bool,
    /// The first line, which may begin with a byte order mark, has ended.
    begun: bool,
}

impl Parser {
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
            let is_blank = if self.line.is_empty() && !self.too_long {
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

    fn keep(&mut self, part: &[u8]) {
        if self.line.len().saturating_add(part.len()) > MAX_EVENT_BYTES {
            self.too_long = true;
            self.line.clear();
        }
        if !self.too_long {
            self.line.extend_from_slice(part);
        }
    }

    /// Ends the kept line. Returns whether it is blank.
    fn read_kept_line(&mut self) -> bool {
        let mut line = std::mem::take(&mut self.line);
        let mut is_blank = false;
        if std::mem::take(&mut self.too_long) {
            self.drop_event();
        } else if !line.is_empty() {
            is_blank = self.read_line(&line);
        }
        line.clear();
        line.shrink_to(KEPT_BYTES);
        self.line = line;
        is_blank
    }

    /// Reads a whole line. Returns whether it is blank.
    fn read_line(&mut self, line: &[u8]) -> bool {
        if line.len() > MAX_EVENT_BYTES {
            self.drop_event();
            return false;
        }
        let mark: &[u8] = if self.begun { b"" } else { b"\xEF\xBB\xBF" };
        self.begun = true;
        let line = line.strip_prefix(mark).unwrap_or(line);
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" if self.data.len().saturating_add(value.len()) >= MAX_EVENT_BYTES => self.drop_event(),
            b"data" if !self.too_large => {
                self.data.extend_from_slice(value);
                self.data.push(b'\n');
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

    fn drop_event(&mut self) {
        self.begun = true;
        self.too_large = true;
        self.data.clear();
    }

    fn end_block(&mut self, end: usize, each: &mut impl FnMut(Block<'_>)) {
        let dropped = std::mem::take(&mut self.too_large);
        // Without data there is no event: a comment or a keep-alive.
        let data = self.data.strip_suffix(b"\n").filter(|_| !dropped);
        each(Block { end, event: data.map(|data| Event { kind: &self.kind, data }) });
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

    fn read(chunks: &[&[u8]]) -> Events {
        let mut events = Events::new();
        let mut parser = Parser::default();
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
    fn a_large_event_is_dropped_and_not_kept() {
        let fits = "x".repeat(MAX_EVENT_BYTES - 6);
        assert_eq!(data(&format!("data: {fits}\n\n")), [fits]);
        let line = "x".repeat(10_000);
        for large in [format!("data: {}\n", line.repeat(200)), format!("data: {line}\n").repeat(200)] {
            let stream = format!("data: a\n\n{large}data: of the same\n\ndata: b\n\n");
            assert_eq!(data(&stream), ["a", "b"]);
            let mut parser = Parser::default();
            for chunk in stream.as_bytes().chunks(1_000) {
                parser.push(chunk, |_| ());
                assert!(parser.line.len() + parser.data.len() <= 2 * MAX_EVENT_BYTES);
            }
            assert!(parser.line.capacity() + parser.data.capacity() <= 2 * KEPT_BYTES);
        }
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
