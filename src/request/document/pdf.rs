//! The pages of a PDF, and the characters of its text, without understanding more of it than that takes.
//!
//! Objects with `/Type /Page` are pages, whether they are in the file or in a compressed stream. Strings in streams
//! with text operators are text, one byte or four hexadecimal digits a character. Both are estimates: fonts may map
//! bytes to anything. At most [`MAX_DECODED`] bytes are decoded and [`MAX_INFLATED`] inflated; of a larger file, the
//! part that was read stands for the rest.

use super::Document;
use crate::request::payload::Payload;
use flate2::read::ZlibDecoder;
use memchr::memmem;
use std::io::Read;

/// The most bytes of a file that are decoded.
const MAX_DECODED: usize = 256 * 1024;

/// The most bytes that its streams may have when inflated, together.
const MAX_INFLATED: u64 = 512 * 1024;

/// The assumed size of a page, in bytes, where no page is found.
const PAGE_BYTES: u64 = 64 * 1024;

/// The PDF in `payload`; none if it is no PDF.
pub(super) fn read(payload: Payload<'_>) -> Option<Document> {
    let mut begin = payload.bytes().take(1024);
    let is_pdf = begin.by_ref().take(4).eq(*b"%PDF");
    if !is_pdf {
        return None;
    }
    let file: Vec<u8> = payload.bytes().take(MAX_DECODED).collect();
    let size = payload.bytes_len().max(file.len() as u64);
    let mut found = Found::default();
    found.read_streams(&file);
    // What was read stands for the rest.
    let read = (file.len() as u64).max(1);
    let of_all = |part: u64| {
        let whole = u128::from(part) * u128::from(size) / u128::from(read);
        u64::try_from(whole).unwrap_or(u64::MAX)
    };
    let pages = if found.pages == 0 { size.div_ceil(PAGE_BYTES) } else { of_all(found.pages) };
    let is_readable = found.characters > 0 || found.unread == 0;
    let characters = is_readable.then(|| of_all(found.characters));
    Some(Document::Pdf { pages: pages.max(1), characters, bytes: payload.bytes_len() })
}

#[derive(Debug, Default)]
struct Found {
    pages: u64,
    characters: u64,
    /// Streams that could not be read to their ends.
    unread: u64,
}

impl Found {
    fn read_streams(&mut self, file: &[u8]) {
        let mut left = MAX_INFLATED;
        let (mut from, mut begin) = (0_usize, 0_usize);
        while let Some(at) = find(file, b"stream", from) {
            from = at.saturating_add(6);
            if at >= 3 && file.get(at.saturating_sub(3)..at) == Some(b"end") {
                continue;
            }
            self.pages = self.pages.saturating_add(count_pages(file.get(begin..at).unwrap_or_default()));
            let rest = file.get(from..).unwrap_or_default();
            let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
            let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            let end = find(rest, b"endstream", 0).unwrap_or(rest.len());
            let raw = rest.get(..end).unwrap_or_default();
            self.read_stream(raw, &mut left);
            from = file.len().saturating_sub(rest.len()).saturating_add(end).max(from);
            begin = from;
        }
        self.pages = self.pages.saturating_add(count_pages(file.get(begin..).unwrap_or_default()));
    }

    fn read_stream(&mut self, raw: &[u8], left: &mut u64) {
        // Zlib's first two bytes: the method, which is always 8, and a checksum.
        let is_zlib = match raw {
            [first, second, ..] => {
                first & 0x0F == 8 && (u32::from(*first) * 256 + u32::from(*second)).is_multiple_of(31)
            }
            _ => false,
        };
        if !is_zlib {
            self.characters = self.characters.saturating_add(characters(raw));
            return;
        }
        let mut inflated = Vec::new();
        let whole = ZlibDecoder::new(raw).take(*left).read_to_end(&mut inflated);
        *left = left.saturating_sub(inflated.len() as u64);
        if inflated.is_empty() {
            self.unread = self.unread.saturating_add(u64::from(whole.is_err() || *left == 0));
            return;
        }
        self.pages = self.pages.saturating_add(count_pages(&inflated));
        self.characters = self.characters.saturating_add(characters(&inflated));
    }
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    memmem::find(bytes.get(from..)?, what).map(|at| at.saturating_add(from))
}

/// Objects of the type `Page`.
fn count_pages(bytes: &[u8]) -> u64 {
    let is_page = |at: usize| {
        let rest = bytes.get(at.saturating_add(5)..).unwrap_or_default().trim_ascii_start();
        let after = rest.strip_prefix(b"/Page").map(|after| after.first().copied());
        after.is_some_and(|next| next.is_none_or(|next| !next.is_ascii_alphanumeric()))
    };
    memmem::find_iter(bytes, b"/Type").filter(|at| is_page(*at)).count() as u64
}

/// The characters that a stream shows; none if it has no text.
fn characters(stream: &[u8]) -> u64 {
    let has = |operator: &[u8]| memmem::find(stream, operator).is_some();
    if !has(b"BT") || !(has(b"Tj") || has(b"TJ")) {
        return 0;
    }
    let (mut characters, mut depth, mut hexadecimal) = (0_u64, 0_u32, None::<u64>);
    let mut bytes = stream.iter();
    while let Some(byte) = bytes.next() {
        match (byte, depth, &mut hexadecimal) {
            (b'\\', 1.., _) => {
                bytes.next();
                characters = characters.saturating_add(1);
            }
            (b'(', ..) => depth = depth.saturating_add(1),
            (b')', 1.., _) => depth = depth.saturating_sub(1),
            (_, 1.., _) => characters = characters.saturating_add(1),
            (b'<', 0, _) => hexadecimal = Some(0),
            (b'>', 0, digits) => {
                characters = characters.saturating_add(digits.take().unwrap_or(0) / 4);
            }
            (_, 0, Some(digits)) if byte.is_ascii_hexdigit() => *digits = digits.saturating_add(1),
            (_, 0, digits) => *digits = None,
        }
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn found(file: &[u8]) -> (u64, u64, u64) {
        let mut found = Found::default();
        found.read_streams(file);
        (found.pages, found.characters, found.unread)
    }

    #[test]
    fn streams_are_inflated() {
        let inner = deflated(b"<< /Type /Page >> BT (Hello) Tj ET");
        let file = [b"%PDF-1.7 /Type /Page\nstream\r\n", inner.as_slice(), b"\nendstream more"].concat();
        assert_eq!(found(&file), (2, 5, 0));
        let broken = [b"stream\n", &[0x78, 0x9C, 0xFF, 0xFF][..], b"endstream"].concat();
        assert_eq!(found(&broken), (0, 0, 1));
        assert_eq!(found(b"stream\n(no text operators)endstream"), (0, 0, 0));
    }

    #[test]
    fn a_bomb_is_inflated_to_a_bound() {
        let bomb = deflated(&b"(a)".repeat(4 << 20));
        let stream = [b"stream\n", bomb.as_slice(), b"endstream "].concat();
        let start = std::time::Instant::now();
        found(&stream.repeat(5));
        assert!(start.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[()<>a-f \\\\BTj]{0,60}") {
            found(&[b"%PDF stream\n", bytes.as_slice(), b"endstream stream\nBT Tj ", text.as_bytes()].concat());
        }
    }
}
