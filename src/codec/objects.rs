//! Reads JSON objects out of a body that arrives in chunks of any size: those of an array, or one behind the other.
//!
//! Gemini's streams are arrays where nobody asks for events; Ollama's and others' have a line for each object
//! (<https://github.com/ndjson/ndjson-spec>). Brackets and strings are all that is looked at here: whatever is between
//! two objects is skipped. Objects are reported as [events](super::sse::Event), so that whoever reads them need not
//! know how they came; of one larger than [`MAX_EVENT_BYTES`], the outline.

use super::outline::{Outline, Places};
use super::sse::{Event, MAX_EVENT_BYTES};

/// The bytes that stay allocated between objects.
const KEPT_BYTES: usize = 16 * 1024;

/// Reads objects from chunks.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    /// The members to keep of an object that is too large.
    places: Places,
    /// The brackets that are open in the object; none between objects.
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
    /// The object so far.
    data: Vec<u8>,
    /// The outline of the object, which is too large.
    outline: Option<Box<Outline>>,
}

impl Parser {
    /// A parser that reports these `places` of objects that are too large.
    pub fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// Takes a chunk and calls `each` with every object that ends in it.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.depth == 0 {
                let Some(begins) = memchr::memchr(b'{', rest) else { return };
                rest = rest.get(begins..).unwrap_or_default();
            }
            let Some(end) = rest.iter().position(|byte| self.ends_with(*byte)) else {
                self.keep(rest);
                return;
            };
            let (object, after) = rest.split_at(end.saturating_add(1).min(rest.len()));
            rest = after;
            if self.data.is_empty() && self.outline.is_none() && object.len() <= MAX_EVENT_BYTES {
                each(Event { kind: b"", data: object, is_whole: true });
                continue;
            }
            self.keep(object);
            self.end(&mut each);
        }
    }

    /// Reports the object that the end of the body cut off, if there is one.
    pub fn finish(mut self, mut each: impl FnMut(Event<'_>)) {
        if self.depth > 0 {
            self.end(&mut each);
        }
    }

    /// Whether the object ends with `byte`, the next one.
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' => self.is_escaped = self.is_in_string,
            b'"' => self.is_in_string = !self.is_in_string,
            _ if self.is_in_string => {}
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }

    /// Takes a part of the object.
    fn keep(&mut self, part: &[u8]) {
        if self.outline.is_none() && self.data.len().saturating_add(part.len()) > MAX_EVENT_BYTES {
            let mut outline = Outline::new(self.places);
            outline.push(&std::mem::take(&mut self.data));
            self.outline = Some(Box::new(outline));
        }
        match &mut self.outline {
            Some(outline) => outline.push(part),
            None => self.data.extend_from_slice(part),
        }
    }

    /// Reports the object, and makes place for the next.
    fn end(&mut self, each: &mut impl FnMut(Event<'_>)) {
        match self.outline.take() {
            Some(outline) => each(Event { kind: b"", data: &outline.finish(), is_whole: false }),
            None => each(Event { kind: b"", data: &self.data, is_whole: true }),
        }
        self.data.clear();
        self.data.shrink_to(KEPT_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLACES: Places = Places { vital: &["usage"], others: &["type"] };

    fn read(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let mut parser = Parser::new(PLACES);
        let mut objects = Vec::new();
        let mut keep = |event: Event<'_>| {
            objects.push((String::from_utf8_lossy(event.data).into_owned(), event.is_whole));
        };
        for chunk in chunks {
            parser.push(chunk, &mut keep);
            assert!(parser.data.len() <= MAX_EVENT_BYTES);
        }
        parser.finish(keep);
        objects
    }

    fn objects(text: &str) -> Vec<String> {
        read(&[text.as_bytes()]).into_iter().map(|(data, _)| data).collect()
    }

    #[test]
    fn objects_are_found_in_arrays_and_in_lines() {
        for (text, expected) in [
            ("[{\"a\":1}\n,\r\n{\"b\":{\"c\":[{}]}}\n]", vec![r#"{"a":1}"#, r#"{"b":{"c":[{}]}}"#]),
            ("{\"a\":1}\n{\"b\":2}\n", vec![r#"{"a":1}"#, r#"{"b":2}"#]),
            (r#"{"a":"}\"{"}{"b":2}"#, vec![r#"{"a":"}\"{"}"#, r#"{"b":2}"#]),
            ("\u{feff}[ ]", vec![]),
            (r#"[{"a":1},{"b":"cut"#, vec![r#"{"a":1}"#, r#"{"b":"cut"#]),
            ("", vec![]),
        ] {
            assert_eq!(objects(text), expected, "{text}");
        }
    }

    #[test]
    fn a_large_object_is_outlined_and_not_kept() {
        let large = format!(r#"{{"type":"t","x":"{}","usage":7}}"#, "x".repeat(MAX_EVENT_BYTES));
        let text = format!("[{{}},{large},{{}}]");
        let expected = [("{}", true), (r#"{"type":"t","usage":7}"#, false), ("{}", true)];
        let chunks: Vec<_> = text.as_bytes().chunks(10_000).collect();
        for chunks in [vec![text.as_bytes()], chunks] {
            assert_eq!(read(&chunks), expected.map(|(data, is_whole)| (data.to_owned(), is_whole)));
        }
    }

    proptest! {
        #[test]
        fn any_split_equals_the_whole(
            text in r#"[{}\[\]",:\\ a\n]{0,60}"#,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[bytes]));
        }
    }
}
