//! Claims: what a request says of its sender beside who it is, such as a plan or an amount, in metadata that an earlier
//! filter has set or in a header that a trusted proxy has.
//!
//! A claim is read where the [sources](super::Source) of an identity are, and each place once ([`ReadOnce`]). It only
//! ever chooses among what the configuration has; a name is bounded and escaped ([`plain_name`]).

use super::RequestView;
use super::source::metadata_bytes;
use std::cell::RefCell;
use std::fmt;

/// The most characters of a name that a request brings.
const MAX_NAME_CHARS: usize = 64;

/// A place in a request that says something of its sender.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The request header of this name, in lower case. Whoever may send it is trusted.
    Header(String),
    /// Dynamic metadata: the namespace of the filter that set it, then the path in it.
    Metadata(Vec<String>),
}

impl Claim {
    /// What `request` says here; none if it says nothing.
    pub fn read(&self, request: &dyn RequestView) -> Option<Claimed> {
        match self {
            Self::Header(name) => request.header(name).map(Claimed::Text),
            Self::Metadata(path) => metadata_bytes(path, request).map(Claimed::Value),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Metadata(path) => write!(f, "metadata {}", path.join(".")),
        }
    }
}

/// What a request says in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The value of a header.
    Text(String),
    /// A value of metadata, in the bytes of proxy-wasm: those of a string as they are, and of a number the eight of a
    /// double, the lowest first (docs/envoy.md#values-of-metadata). Nothing else tells the two apart.
    Value(Vec<u8>),
}

impl Claimed {
    /// It as a word: text without white space around it, or a number as JSON has it. None if it is empty, or neither.
    pub fn word(&self) -> Option<String> {
        let word = match self.plain() {
            Some(text) => text.to_owned(),
            None => self.double()?.to_string(),
        };
        let word = word.trim();
        (!word.is_empty()).then(|| word.to_owned())
    }

    /// It as an amount in units of which one is `scale`, cut to `most`: a number, or text that is one in JSON. Parts of
    /// a unit do not count. None if it is no number, or one below zero.
    pub fn amount(&self, scale: u64, most: u64) -> Option<u64> {
        let number = match self.plain() {
            Some(text) => decimal(text.trim()),
            None => self.double(),
        }?;
        (number >= 0.0).then(|| units(number, scale).min(most))
    }

    /// Its text, unless it has control characters that text hardly has, and the bytes of other values do: "disabled" is
    /// no double. Whole numbers below 2^40 have them, because their lowest byte is 0.
    fn plain(&self) -> Option<&str> {
        let text = match self {
            Self::Text(text) => Some(text.as_str()),
            Self::Value(bytes) => std::str::from_utf8(bytes).ok(),
        };
        let is_binary = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        text.filter(|text| !text.contains(is_binary))
    }

    /// The double that these are the bytes of, if there are as many and it is a number. A list or an object in protobuf
    /// begins with its first member, field 1, and that one's length: such bytes are none.
    fn double(&self) -> Option<f64> {
        let Self::Value(bytes) = self else { return None };
        if let [0x0a, 0..=6, ..] = bytes.as_slice() {
            return None;
        }
        let number = f64::from_le_bytes(bytes.as_slice().try_into().ok()?);
        number.is_finite().then_some(number)
    }
}

/// The number that JSON reads in `text`; infinity if it is larger than any double.
fn decimal(text: &str) -> Option<f64> {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let begins_so = text.trim_start_matches('-').starts_with(|first: char| first.is_ascii_digit());
    if is_decimal && begins_so { text.parse().ok() } else { None }
}

/// `number`, which is not below zero, in units of which one is `scale`.
fn units(number: f64, scale: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "a scale is one or a million")]
    let scaled = number * scale as f64;
    // A sum in a fraction of a dollar is hardly ever a double, and neither is its product.
    let whole = if scale == 1 { scaled.floor() } else { scaled.round() };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and too large is the most"
    )]
    let units = whole as u64;
    units
}

/// `text` as a name in logs and messages: a line of at most `MAX_NAME_CHARS` characters and an ellipsis, with what is
/// invisible or would end a string escaped as Rust does.
pub fn plain_name(text: &str) -> String {
    let cut = text.char_indices().nth(MAX_NAME_CHARS).and_then(|(at, _)| text.get(..at));
    let mut name = String::new();
    for (at, part) in cut.unwrap_or(text).split('\'').enumerate() {
        if at > 0 {
            name.push('\'');
        }
        name.extend(part.escape_debug());
    }
    if cut.is_some() {
        name.push('…');
    }
    name
}

/// A property: where it is, and its value if the request has one.
type Property = (Vec<String>, Option<Vec<u8>>);

/// A request of which no place is read twice: whatever gives bytes back costs a call into the VM
/// (docs/envoy.md#host-call-costs).
pub struct ReadOnce<'a> {
    request: &'a dyn RequestView,
    properties: RefCell<Vec<Property>>,
}

impl<'a> ReadOnce<'a> {
    /// The same request.
    pub const fn new(request: &'a dyn RequestView) -> Self {
        Self { request, properties: RefCell::new(Vec::new()) }
    }
}

impl RequestView for ReadOnce<'_> {
    /// The headers are in the VM once one has been read.
    fn header(&self, name: &str) -> Option<String> {
        self.request.header(name)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let mut known = self.properties.borrow_mut();
        if let Some((_, value)) = known.iter().find(|(found, _)| found == path) {
            return value.clone();
        }
        let value = self.request.property(path);
        known.push((path.iter().map(|name| (*name).to_owned()).collect(), value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{MAX_EXACT, MILLION};
    use proptest::prelude::*;
    use std::cell::Cell;

    fn number(value: f64) -> Claimed {
        Claimed::Value(value.to_le_bytes().to_vec())
    }

    fn text(value: &str) -> Claimed {
        Claimed::Value(value.as_bytes().to_vec())
    }

    #[test]
    fn numbers_are_amounts_as_numbers_or_text() {
        for (written, expected) in [
            ("0", Some(0)),
            ("1000", Some(1_000)),
            (" 7 ", Some(7)),
            ("1e3", Some(1_000)),
            ("12.9", Some(12)),
            ("99999999999999999999999", Some(5_000)),
            ("1e999", Some(5_000)),
            ("-1", None),
            ("-0", Some(0)),
            ("", None),
            ("many", None),
            ("1 000", None),
            ("1,000", None),
            ("+5", None),
            (".5", None),
            ("0x10", None),
            ("1_000", None),
            ("inf", None),
            ("NaN", None),
            ("disabled", None),
            ("12345-67", None),
            ("12345678", Some(5_000)),
        ] {
            assert_eq!(text(written).amount(1, 5_000), expected, "{written}");
            assert_eq!(Claimed::Text(written.to_owned()).amount(1, 5_000), expected, "{written}");
        }
        for (value, expected) in [
            (0.0, Some(0)),
            (-0.0, Some(0)),
            (1_000.0, Some(1_000)),
            (12.9, Some(12)),
            (1e300, Some(5_000)),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (f64::NEG_INFINITY, None),
        ] {
            assert_eq!(number(value).amount(1, 5_000), expected, "{value}");
        }
        assert_eq!(text("0.29").amount(MILLION, MILLION), Some(290_000));
        assert_eq!(number(0.1).amount(MILLION, MILLION), Some(100_000));
        // Neither a list, nor true, nor a null.
        for bytes in [
            &b"\x0a\x04\x11\x00\x00\x00\x00"[..],
            b"\x0a\x06\x1a\x04gold",
            b"\x0a\x02\x20\x01\x0a\x02\x20\x00",
            b"\x01",
            b"",
        ] {
            let value = Claimed::Value(bytes.to_vec());
            assert_eq!((value.amount(1, 5_000), value.word()), (None, None), "{bytes:?}");
        }
        assert_eq!(Claimed::Text("\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{f0}?".to_owned()).amount(1, 5), None);
    }

    #[test]
    fn words_are_text_or_numbers() {
        assert_eq!(text(" pro ").word().as_deref(), Some("pro"));
        assert_eq!(text("standard").word().as_deref(), Some("standard"), "eight bytes");
        assert_eq!(number(2.0).word().as_deref(), Some("2"));
        assert_eq!(number(2.5).word().as_deref(), Some("2.5"));
        assert_eq!(Claimed::Text("pro,free".to_owned()).word().as_deref(), Some("pro,free"));
        assert_eq!(text("a\nb").word().as_deref(), Some("a\nb"));
        assert_eq!(text(" ").word(), None);
        assert_eq!(Claimed::Value(vec![0xff]).word(), None);
    }

    #[test]
    fn names_are_bounded_lines() {
        assert_eq!(plain_name("Anna O'Brien, 安娜"), "Anna O'Brien, 安娜");
        assert_eq!(plain_name("a\n\"b\"\u{202e}\u{1b}[0m"), "a\\n\\\"b\\\"\\u{202e}\\u{1b}[0m");
        assert_eq!(plain_name(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(plain_name(&"é".repeat(65)), format!("{}…", "é".repeat(64)));
    }

    #[test]
    fn a_place_is_read_once() {
        struct Counting(Cell<u32>);

        impl RequestView for Counting {
            fn header(&self, _name: &str) -> Option<String> {
                None
            }

            fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
                self.0.set(self.0.get() + 1);
                (path.last() == Some(&"tier")).then(|| b"pro".to_vec())
            }
        }

        let counting = Counting(Cell::new(0));
        let once = ReadOnce::new(&counting);
        let claim = |name: &str| Claim::Metadata(vec!["jwt".to_owned(), name.to_owned()]);
        for _ in 0..3 {
            assert_eq!(claim("tier").read(&once), Some(text("pro")));
            assert_eq!(claim("name").read(&once), None);
        }
        assert_eq!(counting.0.get(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_amount_within_the_most_or_none(
            bytes in prop::collection::vec(any::<u8>(), 0..12),
            most in 0..=MAX_EXACT,
        ) {
            let claimed = Claimed::Value(bytes);
            prop_assert!(claimed.amount(1, most).is_none_or(|amount| amount <= most));
            prop_assert!(claimed.amount(MILLION, most).is_none_or(|amount| amount <= most));
            claimed.word();
        }

        #[test]
        fn whole_numbers_are_exact_in_both_forms(amount in 0..=MAX_EXACT, small in 0..1_u64 << 40) {
            #[expect(clippy::cast_precision_loss, reason = "it is exact")]
            let double = number(small as f64);
            prop_assert_eq!(double.amount(1, MAX_EXACT), Some(small));
            prop_assert_eq!(text(&amount.to_string()).amount(1, MAX_EXACT), Some(amount));
        }

        #[test]
        fn a_name_is_a_line_of_bounded_length(text in any::<String>()) {
            let name = plain_name(&text);
            prop_assert!(!name.contains(char::is_control));
            prop_assert!(name.chars().count() <= 10 * MAX_NAME_CHARS + 1);
        }
    }
}
