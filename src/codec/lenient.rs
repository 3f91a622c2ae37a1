//! Reads JSON that is meant for another reader: takes every value that it understands, and skips the rest.
//!
//! The filter does not validate the bodies that pass it. A member of the wrong type must not keep the others from being
//! counted, a repeated member must not hide anything, and nothing is copied without need. So each value is offered to
//! an [`Accept`], which takes the forms that it knows. serde_json skips all other values without recursion, however
//! deep they are, and limits the values that an `Accept` enters to 128 levels.

use crate::quantity::MAX_EXACT;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A place that takes JSON values. Each method takes one form of value; by default it skips the value.
///
/// A repeated member offers several values to one place. The upstream may read any of them, so counts add up.
pub trait Accept<'de>: Sized {
    /// Takes a string.
    fn string(&mut self, _text: Cow<'de, str>) {}

    /// Takes a number, without its value.
    fn number(&mut self) {}

    /// Takes the next element of an array, if there is one.
    ///
    /// # Errors
    /// The array is not JSON from here on.
    fn element<A: SeqAccess<'de>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        array.next_element::<IgnoredAny>().map(|element| element.map(drop))
    }

    /// Takes a member of an object. `object` is before the member's value, which this must read or [`skip`].
    ///
    /// # Errors
    /// The value is not JSON.
    fn member<A: MapAccess<'de>>(&mut self, _name: &str, object: &mut A) -> Result<(), A::Error> {
        skip(object)
    }

    /// Ends an object.
    fn end(&mut self) {}
}

/// Skips the next value of `object`.
///
/// # Errors
/// The value is not JSON.
pub fn skip<'de, A: MapAccess<'de>>(object: &mut A) -> Result<(), A::Error> {
    object.next_value::<IgnoredAny>().map(drop)
}

/// Offers the next value of `object` to `place`.
///
/// # Errors
/// The value is not JSON.
pub fn offer<'de, A: MapAccess<'de>>(object: &mut A, place: &mut impl Accept<'de>) -> Result<(), A::Error> {
    object.next_value_seed(Offer(place))
}

/// Offers the next element of `array` to `place`, if there is one.
///
/// # Errors
/// The element is not JSON.
pub fn offer_element<'de, A: SeqAccess<'de>>(
    array: &mut A,
    place: &mut impl Accept<'de>,
) -> Result<Option<()>, A::Error> {
    array.next_element_seed(Offer(place))
}

/// Offers the JSON in `text` to `place`.
///
/// # Errors
/// `text` is not JSON. All values before the fault have been taken.
pub fn read<'de>(text: &'de str, place: &mut impl Accept<'de>) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Offer(place).deserialize(&mut json)?;
    json.end()
}

/// A string, if the value is one; the last, if there are several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'de>(pub Option<Cow<'de, str>>);

impl<'de> Accept<'de> for Text<'de> {
    fn string(&mut self, text: Cow<'de, str>) {
        self.0 = Some(text);
    }
}

/// The text of the next value of `object`: a number must not become a float, which could overflow.
///
/// # Errors
/// The value is not JSON.
pub fn raw<'de, A: MapAccess<'de>>(object: &mut A) -> Result<&'de str, A::Error> {
    object.next_value::<&RawValue>().map(RawValue::get)
}

/// The next value of `object` as a number: not negative, rounded up, at most [`MAX_EXACT`]. A string of digits is a
/// number too, as for servers that coerce types. None for any other value.
///
/// # Errors
/// The value is not JSON.
pub fn number<'de, A: MapAccess<'de>>(object: &mut A) -> Result<Option<u64>, A::Error> {
    raw(object).map(number_in)
}

fn number_in(raw: &str) -> Option<u64> {
    let digits = raw.trim_matches('"').trim();
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    // Casting a float saturates.
    let number = digits.parse().or_else(|_| digits.parse().map(|float: f64| float.ceil() as u64));
    number.ok().map(|number| number.min(MAX_EXACT))
}

/// Whether the next value of `object` is true, or becomes true in servers that coerce types.
///
/// # Errors
/// The value is not JSON.
pub fn flag<'de, A: MapAccess<'de>>(object: &mut A) -> Result<bool, A::Error> {
    raw(object).map(|raw| matches!(raw.trim_matches('"'), "true" | "True" | "1"))
}

struct Offer<'p, P>(&'p mut P);

impl<'de, P: Accept<'de>> DeserializeSeed<'de> for Offer<'_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, P: Accept<'de>> Visitor<'de> for Offer<'_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.0.number();
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.0.string(Cow::Borrowed(text));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.string(Cow::Owned(text.to_owned()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while self.0.element(&mut array)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut name = Text::default();
        while object.next_key_seed(Offer(&mut name))?.is_some() {
            self.0.member(name.0.as_deref().unwrap_or_default(), &mut object)?;
        }
        self.0.end();
        Ok(())
    }
}

/// Mends JSON that only lax readers accept, so that serde_json reads it: removes a byte order mark, and replaces bytes
/// that are not UTF-8 and halves of surrogate pairs (`\ud83d`) by U+FFFD. Copies only if there is anything to mend.
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

/// The UTF-16 unit of the escape at `at`; none if the escape is of another kind.
fn unit(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at.saturating_add(6))?.strip_prefix("\\u")?;
    let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { u16::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_lax_servers_read_them() {
        for (raw, number) in [
            ("3", Some(3)),
            ("\"3\"", Some(3)),
            ("2.5", Some(3)),
            ("1e308", Some(MAX_EXACT)),
            ("1e999", Some(MAX_EXACT)),
            ("99999999999999999999999999", Some(MAX_EXACT)),
            ("0", Some(0)),
            ("-1", None),
            ("-1e999", None),
            ("true", None),
            ("null", None),
            ("\"inf\"", None),
            ("\"\"", None),
            ("[3]", None),
        ] {
            assert_eq!(number_in(raw), number, "{raw}");
        }
    }

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
