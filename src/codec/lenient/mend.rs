//! Mends the little that serde_json refuses and that upstreams send: byte order marks, bytes that are not UTF-8, and
//! halves of surrogate pairs. [`loose_json`](crate::codec::loose_json) reads whatever else clients write.

use std::borrow::Cow;

/// Mends JSON that only lax readers accept, so that serde_json reads it: removes a byte order mark, and puts U+FFFD in
/// the place of bytes that are not UTF-8 and of halves of surrogate pairs (`\ud83d`). Copies only if there is anything
/// to mend.
pub fn mend(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // Strict validation checks ASCII a word at a time; the lossy conversion does not.
    let text = std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let halves = lone_surrogates(&text);
    if halves.is_empty() {
        return text;
    }
    let mut mended = text.into_owned();
    for at in halves {
        // Both texts have six ASCII characters.
        mended.replace_range(at..at.saturating_add(6), "\\ufffd");
    }
    Cow::Owned(mended)
}

/// The places in `text` where escapes of lone surrogates begin.
fn lone_surrogates(text: &str) -> Vec<usize> {
    let mut lone = Vec::new();
    let mut high: Option<usize> = None;
    let mut from = 0;
    for at in memchr::memchr_iter(b'\\', text.as_bytes()) {
        if at < from {
            // The second of two backslashes begins no escape.
            continue;
        }
        from = at.saturating_add(2);
        let unit = unit(text, at);
        // A first half forms a pair only directly before this escape.
        let joined = high.take_if(|high| high.saturating_add(6) == at);
        lone.extend(high.take());
        match unit {
            Some(0xD800..=0xDBFF) => {
                lone.extend(joined);
                high = Some(at);
            }
            Some(0xDC00..=0xDFFF) if joined.is_none() => lone.push(at),
            Some(0xDC00..=0xDFFF) => {}
            _ => lone.extend(joined),
        }
    }
    lone.extend(high);
    lone
}

/// The UTF-16 unit of the escape at `at`; none if that is another escape.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at.saturating_add(6))?.strip_prefix("\\u")?;
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { u16::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::lenient::{Text, read};
    use proptest::prelude::*;

    #[test]
    fn lax_json_is_mended() {
        for (bytes, mended) in [
            (&b"\xEF\xBB\xBF{}"[..], "{}"),
            (br#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (br#""\ud83d""#, r#""\ufffd""#),
            (br#""\uDE00x""#, r#""\ufffdx""#),
            (br#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (br#""\ud83d \ude00""#, r#""\ufffd \ufffd""#),
            (br#""\ud83d\n\ude00""#, r#""\ufffd\n\ufffd""#),
            (br#""\\ud83d""#, r#""\\ud83d""#),
            (br#""\ud8""#, r#""\ud8""#),
            (b"\"\xFF\"", "\"\u{FFFD}\""),
        ] {
            assert_eq!(mend(bytes), mended);
        }
    }

    proptest! {
        #[test]
        fn strings_of_any_units_are_read_after_mending(parts in prop::collection::vec(
            prop::sample::select(vec![r"\ud83d", r"\ude00", r"\\", r"\n", "a", r"\u0041", r"\uDBFF", "é"]), 0..12,
        )) {
            let json = format!("\"{}\"", parts.concat());
            let expected = serde_json::from_slice::<serde_bytes_lossy::Lossy>(json.as_bytes()).unwrap().0;
            let mended = mend(json.as_bytes());
            let mut text = Text::default();
            prop_assert!(read(&mended, &mut text).is_ok());
            prop_assert_eq!(text.0.unwrap(), expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&mend(&bytes), &mut Text::default());
        }
    }

    /// serde_json leaves lone surrogates, three bytes each, in a string that it reads as bytes. Here they become
    /// U+FFFD.
    mod serde_bytes_lossy {
        use serde::de::{Deserialize, Deserializer, Visitor};
        use std::fmt;

        pub struct Lossy(pub String);

        impl<'de> Deserialize<'de> for Lossy {
            fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
                json.deserialize_bytes(Bytes)
            }
        }

        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Lossy;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
                // Each surrogate is ED A0..BF xx, which the lossy conversion turns into three U+FFFD.
                let lossy = String::from_utf8_lossy(bytes).replace("\u{FFFD}\u{FFFD}\u{FFFD}", "\u{FFFD}");
                Ok(Lossy(lossy))
            }
        }
    }
}
