//! From the bytes of a JSON text to characters: UTF-8, UTF-16 and UTF-32, with a byte order mark or without.
//!
//! Python's, Java's and other readers detect the encoding by the first four bytes, because JSON begins with two
//! characters of ASCII (RFC 4627, section 3). What is malformed becomes U+FFFD, as Go, Java and browsers read it. The
//! bytes may come in chunks that end anywhere.

mod utf8;

/// How many bytes are turned into characters at a time.
const PIECE: usize = 4 * 1024;

/// Turns chunks of bytes into pieces of text.
#[derive(Debug, Default)]
pub struct Transcoder {
    /// The encoding, once it is known.
    encoding: Option<Encoding>,
    /// Bytes that are not read yet: before the encoding is known, or the beginning of a character.
    carry: Vec<u8>,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16(Order),
    Utf32(Order),
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

impl Transcoder {
    /// Takes a chunk and calls `each` with its text, in pieces.
    pub fn push(&mut self, chunk: &[u8], each: &mut impl FnMut(&str)) {
        if self.encoding.is_none() {
            self.carry.extend_from_slice(chunk);
            if self.carry.len() >= 4 {
                self.begin(each);
            }
            return;
        }
        self.read(chunk, each);
    }

    /// The bytes are over: calls `each` with the text that is left.
    pub fn finish(mut self, each: &mut impl FnMut(&str)) {
        if self.encoding.is_none() {
            self.begin(each);
        }
        if self.high.is_some() || !self.carry.is_empty() {
            each("\u{FFFD}");
        }
    }

    fn begin(&mut self, each: &mut impl FnMut(&str)) {
        let begun = std::mem::take(&mut self.carry);
        let (encoding, mark) = detect(&begun);
        self.encoding = Some(encoding);
        self.read(begun.get(mark..).unwrap_or_default(), each);
    }

    fn read(&mut self, chunk: &[u8], each: &mut impl FnMut(&str)) {
        match self.encoding {
            None => {}
            Some(Encoding::Utf8) => self.carry = utf8::read(&self.carry, chunk, each),
            Some(Encoding::Utf16(order)) => self.read_units::<2>(chunk, each, |transcoder, unit, text| {
                transcoder.push_unit(order.number(&unit) as u16, text);
            }),
            Some(Encoding::Utf32(order)) => self.read_units::<4>(chunk, each, |_, unit, text| {
                text.push(char::from_u32(order.number(&unit)).unwrap_or(char::REPLACEMENT_CHARACTER));
            }),
        }
    }

    /// Reads the whole units of `N` bytes, and keeps the rest.
    fn read_units<const N: usize>(
        &mut self,
        chunk: &[u8],
        each: &mut impl FnMut(&str),
        add: impl Fn(&mut Self, [u8; N], &mut String),
    ) {
        let mut text = String::new();
        for piece in chunk.chunks(PIECE) {
            let carry = std::mem::take(&mut self.carry);
            let mut bytes = carry.into_iter().chain(piece.iter().copied()).peekable();
            while bytes.peek().is_some() {
                let mut unit = [0; N];
                let mut filled = 0;
                for (place, byte) in unit.iter_mut().zip(bytes.by_ref()) {
                    *place = byte;
                    filled += 1;
                }
                if filled == N {
                    add(self, unit, &mut text);
                } else {
                    self.carry.extend(unit.iter().take(filled));
                }
            }
            each(&text);
            text.clear();
        }
    }

    fn push_unit(&mut self, unit: u16, text: &mut String) {
        let high = self.high.take();
        if (0xD800..0xDC00).contains(&unit) {
            text.extend(high.map(|_| char::REPLACEMENT_CHARACTER));
            self.high = Some(unit);
            return;
        }
        let units = high.into_iter().chain([unit]);
        text.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
}

impl Order {
    fn number(self, bytes: &[u8]) -> u32 {
        let add = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        match self {
            Self::Big => bytes.iter().fold(0, add),
            Self::Little => bytes.iter().rev().fold(0, add),
        }
    }
}

/// The encoding of a text that begins with `bytes`, and the length of its byte order mark.
fn detect(bytes: &[u8]) -> (Encoding, usize) {
    use Encoding::{Utf8, Utf16, Utf32};
    use Order::{Big, Little};
    match bytes {
        [0xEF, 0xBB, 0xBF, ..] => (Utf8, 3),
        [0, 0, 0xFE, 0xFF, ..] => (Utf32(Big), 4),
        [0xFF, 0xFE, 0, 0, ..] => (Utf32(Little), 4),
        [0xFE, 0xFF, ..] => (Utf16(Big), 2),
        [0xFF, 0xFE, ..] => (Utf16(Little), 2),
        [0, 0, 0, other, ..] if *other != 0 => (Utf32(Big), 0),
        [0, other, ..] if *other != 0 => (Utf16(Big), 0),
        [other, 0, 0, 0, ..] if *other != 0 => (Utf32(Little), 0),
        [other, 0, ..] if *other != 0 => (Utf16(Little), 0),
        _ => (Utf8, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> String {
        let (mut transcoder, mut text) = (Transcoder::default(), String::new());
        for chunk in chunks {
            transcoder.push(chunk, &mut |piece| text.push_str(piece));
        }
        transcoder.finish(&mut |piece| text.push_str(piece));
        text
    }

    /// `text` in an encoding, named as Python names it.
    fn encoded(text: &str, encoding: &str) -> Vec<u8> {
        let utf16 = || text.encode_utf16();
        let utf32 = || text.chars().map(u32::from);
        match encoding {
            "utf-8" => text.as_bytes().to_vec(),
            "utf-8-sig" => [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            "utf-16-le" => utf16().flat_map(u16::to_le_bytes).collect(),
            "utf-16-be" => utf16().flat_map(u16::to_be_bytes).collect(),
            "utf-32-le" => utf32().flat_map(u32::to_le_bytes).collect(),
            "utf-32-be" => utf32().flat_map(u32::to_be_bytes).collect(),
            "utf-16" => [b"\xFF\xFE".to_vec(), encoded(text, "utf-16-le")].concat(),
            "utf-16-be-sig" => [b"\xFE\xFF".to_vec(), encoded(text, "utf-16-be")].concat(),
            "utf-32" => [b"\xFF\xFE\0\0".to_vec(), encoded(text, "utf-32-le")].concat(),
            _ => [b"\0\0\xFE\xFF".to_vec(), encoded(text, "utf-32-be")].concat(),
        }
    }

    const ENCODINGS: [&str; 10] = [
        "utf-8",
        "utf-8-sig",
        "utf-16-le",
        "utf-16-be",
        "utf-32-le",
        "utf-32-be",
        "utf-16",
        "utf-16-be-sig",
        "utf-32",
        "utf-32-be-sig",
    ];

    #[test]
    fn malformed_text_is_replaced_where_it_is() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"7", "7"),
            (b"7\0", "7"),
            (b"\0", "\0"),
            (b"{\xFF}", "{\u{FFFD}}"),
            (b"{\"\xE4\xB8", "{\"\u{FFFD}"),
            (b"{\0\"\0\x3D\xD8}\0", "{\"\u{FFFD}}"),
            (b"{\0\"\0\x3D\xD8\x3D\xD8\x00\xDE", "{\"\u{FFFD}\u{1F600}"),
            (b"{\0\"\0\x00\xDE}", "{\"\u{FFFD}\u{FFFD}"),
            (b"{\0\"\0\x3D\xD8", "{\"\u{FFFD}"),
            (b"{\0\0\0\0\0\x11\0", "{\u{FFFD}"),
            (b"\0\0\0{\0\0\xD8\0\0", "{\u{FFFD}\u{FFFD}"),
        ] {
            assert_eq!(read([bytes]), expected, "{bytes:?}");
            assert_eq!(read(bytes.chunks(1)), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn every_encoding_is_read_in_any_split(
            rest in "[a-z\"{}é\u{4E2D}\u{1F600}]{0,40}",
            encoding in prop::sample::select(ENCODINGS.to_vec()),
            size in 1_usize..9,
        ) {
            let text = format!("{{{rest}");
            let bytes = encoded(&text, encoding);
            prop_assert_eq!(&read([&*bytes]), &text);
            prop_assert_eq!(read(bytes.chunks(size)), text);
        }

        #[test]
        fn any_bytes_are_read_in_any_split(bytes in prop::collection::vec(any::<u8>(), 0..60), size in 1_usize..7) {
            prop_assert_eq!(read(bytes.chunks(size)), read([&*bytes]));
        }
    }
}
