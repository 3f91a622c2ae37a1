//! Finds one member of a JSON object that arrives in chunks, without keeping the rest of the object.
//!
//! The search looks only at strings and brackets, so that it costs one step a byte. It does not check that the object
//! is JSON; only the found value is parsed. It misses a name that is written with escapes.

use memchr::memchr2;

/// The largest value that is kept, in bytes. A larger one is skipped; a `usage` has some 500 bytes.
const MAX_VALUE_BYTES: usize = 16 * 1024;

/// Looks for the members with one name at the top level of an object.
#[derive(Debug)]
pub(super) struct Finder {
    /// The name, with its closing quote.
    name: &'static [u8],
    at: At,
    /// Brackets that are open.
    depth: u64,
    /// A string that begins now, at the top level, is a member's name.
    before_name: bool,
    /// While a name is read, how many of its bytes match; the length of the whole name after it has matched.
    matched: Option<usize>,
    /// The value so far, while it is read.
    value: Option<Vec<u8>>,
}

/// The place of the next byte in the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the object.
    Start,
    /// Between strings.
    Outside,
    String,
    /// After a backslash in a string.
    Escape,
    /// After the object, or where there is none.
    End,
}

impl Finder {
    /// Looks for `name`, which ends with a quote: `usage"`.
    pub(super) const fn new(name: &'static [u8]) -> Self {
        Self { name, at: At::Start, depth: 0, before_name: false, matched: None, value: None }
    }

    /// Takes a chunk and calls `each` with every value that ends in it, until `each` returns true.
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8]) -> bool) {
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match self.at {
                At::Start => self.start(byte),
                At::End => return,
                At::Outside => {
                    if let Some(value) = self.outside(byte)
                        && each(&value)
                    {
                        self.at = At::End;
                        return;
                    }
                }
                At::Escape => {
                    self.matched = None;
                    self.at = At::String;
                    self.keep(&[byte]);
                }
                At::String => {
                    self.string(byte);
                    if self.at == At::String && self.matched.is_none() {
                        let run = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                        let (skipped, left) = rest.split_at_checked(run).unwrap_or((rest, &[]));
                        self.keep(skipped);
                        rest = left;
                    }
                }
            }
        }
    }

    /// Takes a byte before the object.
    fn start(&mut self, byte: u8) {
        match byte {
            b'{' => {
                (self.depth, self.before_name, self.at) = (1, true, At::Outside);
            }
            // White space, or a byte of a byte order mark.
            b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF => {}
            _ => self.at = At::End,
        }
    }

    /// Takes a byte between strings. Returns the value that it ends, if it ends one.
    fn outside(&mut self, byte: u8) -> Option<Vec<u8>> {
        let at_top = self.depth == 1;
        match byte {
            b'"' => {
                self.at = At::String;
                self.matched = (at_top && self.before_name).then_some(0);
                self.before_name = false;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if at_top => {
                self.at = At::End;
                return self.value.take();
            }
            // At least two are open.
            b'}' | b']' => self.depth -= 1,
            b',' if at_top => {
                self.before_name = true;
                return self.value.take();
            }
            b':' if at_top => {
                if self.matched.take() == Some(self.name.len()) {
                    self.value = Some(Vec::new());
                }
                return None;
            }
            _ => {}
        }
        self.keep(&[byte]);
        None
    }

    /// Takes a byte of a string.
    fn string(&mut self, byte: u8) {
        self.keep(&[byte]);
        if let Some(matched) = self.matched {
            let next = self.name.get(matched) == Some(&byte);
            self.matched = next.then_some(matched + 1);
        }
        match byte {
            b'"' => self.at = At::Outside,
            b'\\' => self.at = At::Escape,
            _ => {}
        }
    }

    /// Adds `bytes` to the value, if one is being read.
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(value) = &mut self.value {
            value.extend_from_slice(bytes);
            if value.len() > MAX_VALUE_BYTES {
                self.value = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn find(chunks: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut finder = Finder::new(b"usage\"");
        for chunk in chunks {
            finder.push(chunk, |value| {
                found.push(String::from_utf8_lossy(value).into_owned());
                false
            });
        }
        found
    }

    #[test]
    fn only_members_at_the_top_are_found() {
        for (body, expected) in [
            (r#"{"usage":{"a":[1,{"b":"}"}]},"x":1}"#, vec![r#"{"a":[1,{"b":"}"}]}"#]),
            (r#" {"x":{"usage":1},"y":["usage",2],"z":"usage","usage":3}"#, vec!["3"]),
            (r#"{"usage":1,"usage":"a\"b,}"}"#, vec!["1", r#""a\"b,}""#]),
            (r#"{"usages":1,"usag":2,"":3,"us\u0061ge":4,"Usage":5}"#, vec![]),
            (r#"{"a\"usage":1,"usage\"":2}"#, vec![]),
            (r#"{"usage" : null }"#, vec![" null "]),
            (r#"[{"usage":1}]"#, vec![]),
            (r#""usage":1"#, vec![]),
            (r#"{"usage":1}{"usage":2}"#, vec!["1"]),
            (r#"{"usage":{"a":1"#, vec![]),
            ("\u{FEFF}{\"usage\":7}", vec!["7"]),
        ] {
            assert_eq!(find(&[body.as_bytes()]), expected, "{body}");
        }
    }

    #[test]
    fn a_large_value_is_skipped() {
        let large = "x".repeat(MAX_VALUE_BYTES);
        assert_eq!(find(&[format!(r#"{{"usage":"{large}","usage":2}}"#).as_bytes()]), ["2"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn agrees_with_a_whole_parse(
            members in prop::collection::vec(
                (prop::sample::select(vec!["usage", "choices", "a\"", "é\\"]), json()), 0..6
            ),
        ) {
            let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
            let object: serde_json::Map<_, _> = members.collect();
            let body = Value::Object(object.clone()).to_string();
            let bytes: Vec<_> = body.as_bytes().chunks(1).collect();
            let whole = find(&[body.as_bytes()]);
            prop_assert_eq!(&whole, &find(&bytes));
            let found: Vec<Value> = whole.iter().map(|value| serde_json::from_str(value).unwrap()).collect();
            prop_assert_eq!(found, object.get("usage").cloned().into_iter().collect::<Vec<_>>());
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            "[\\PC\"\\\\{}\\[\\],:]{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("usage|[a-c\"{]{0,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
