//! The pages of a PDF, and the characters of its text, without understanding more of it than that takes.
//!
//! Objects with `/Type /Page` are pages, whether they are in the file or in a compressed stream. Strings in streams
//! with text operators are text, one byte or four hexadecimal digits a character. Both are estimates: fonts may map
//! bytes to anything. At most [`MAX_DECODED`] bytes are decoded, and inflated what [`Inflatable`] allows; of a larger
//! file, the part that was read stands for the rest.

use super::inflatable::{Inflatable, Left};
use super::{Document, MAX_DECODED};
use crate::request::payload::Payload;
use flate2::read::ZlibDecoder;
use memchr::memmem;

/// Codings of streams that are not decoded here.
const CODED: [&[u8]; 4] = [b"/ASCIIHexDecode", b"/LZWDecode", b"/RunLengthDecode", b"/Crypt"];

/// The assumed size of a page, in bytes, where no page is found.
const PAGE_BYTES: u64 = 64 * 1024;

/// The PDF in `payload`; none if it is no PDF.
pub(super) fn read(payload: Payload<'_>, inflatable: &mut Inflatable) -> Option<Document> {
    let mut begin = payload.bytes().take(1024);
    let is_pdf = begin.by_ref().take(4).eq(*b"%PDF");
    if !is_pdf {
        return None;
    }
    let file: Vec<u8> = payload.bytes().take(MAX_DECODED).collect();
    let size = payload.bytes_len().max(file.len() as u64);
    let mut found = Found::default();
    inflatable.with(|left| found.read_streams(&file, left));
    // What was read stands for the rest.
    let read = (file.len() as u64).max(1);
    let of_all = |part: u64| {
        let whole = u128::from(part) * u128::from(size) / u128::from(read);
        u64::try_from(whole).unwrap_or(u64::MAX)
    };
    let pages = if found.pages == 0 { size.div_ceil(PAGE_BYTES) } else { of_all(found.pages) };
    // What lies behind the part that was read may be the text, and so may streams that were not read.
    let is_encrypted = find(&file, b"/Encrypt", 0).is_some();
    let unread_streams = permille(found.unread, found.unread.saturating_add(found.texts));
    let unread_part = permille(size.saturating_sub(read), size);
    let unread = if is_encrypted { 1_000 } else { unread_streams.max(unread_part) };
    let characters = of_all(found.characters);
    Some(Document::Pdf { pages: pages.max(1), characters, unread, bytes: payload.bytes_len() })
}

/// How many thousandths of `whole` are `part`.
fn permille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1_000).checked_div(whole).unwrap_or(0)
}

#[derive(Debug, Default)]
struct Found {
    pages: u64,
    characters: u64,
    /// Streams with text.
    texts: u64,
    /// Streams that could not be read to their ends.
    unread: u64,
}

impl Found {
    fn read_streams(&mut self, file: &[u8], left: &mut Left) {
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
            let dictionary = file.get(begin..at).unwrap_or_default();
            let dictionary = memmem::rfind(dictionary, b"obj")
                .and_then(|from| dictionary.get(from..))
                .unwrap_or(dictionary);
            self.read_stream(raw, dictionary, left);
            from = file.len().saturating_sub(rest.len()).saturating_add(end).max(from);
            begin = from;
        }
        self.pages = self.pages.saturating_add(count_pages(file.get(begin..).unwrap_or_default()));
    }

    fn read_stream(&mut self, raw: &[u8], dictionary: &[u8], left: &mut Left) {
        let has = |filter: &[u8]| find(dictionary, filter, 0).is_some();
        if CODED.iter().any(|filter| has(filter)) {
            self.unread = self.unread.saturating_add(1);
            return;
        }
        let decoded = has(b"/ASCII85Decode").then(|| ascii85(raw));
        let raw = decoded.as_deref().unwrap_or(raw);
        // Zlib's first two bytes: the method, which is always 8, and a checksum.
        let is_zlib = match raw {
            [first, second, ..] => {
                first & 0x0F == 8 && (u32::from(*first) * 256 + u32::from(*second)).is_multiple_of(31)
            }
            _ => false,
        };
        if !is_zlib {
            self.take_text(characters(raw));
            self.unread = self.unread.saturating_add(u64::from(has(b"/FlateDecode")));
            return;
        }
        let inflated = left.inflate(raw, ZlibDecoder::new);
        let bytes = inflated.bytes.as_slice();
        let characters = characters(bytes);
        // What comes behind a bound may be text, whatever comes before it.
        if inflated.is_cut || (characters == 0 && inflated.is_faulty) {
            self.unread = self.unread.saturating_add(1);
        }
        if has(b"/ObjStm") {
            self.pages = self.pages.saturating_add(count_pages(bytes));
        }
        self.take_text(characters);
    }

    fn take_text(&mut self, characters: u64) {
        self.texts = self.texts.saturating_add(u64::from(characters > 0));
        self.characters = self.characters.saturating_add(characters);
    }
}

/// The bytes that `text` codes, five characters for four of them, up to its end or the first fault.
fn ascii85(text: &[u8]) -> Vec<u8> {
    let (mut bytes, mut group, mut len) = (Vec::new(), 0_u64, 0_usize);
    for byte in text.iter().filter(|byte| !byte.is_ascii_whitespace()) {
        match byte {
            b'z' if len == 0 => bytes.extend([0; 4]),
            b'!'..=b'u' => {
                group = group * 85 + u64::from(byte - b'!');
                len += 1;
            }
            _ => break,
        }
        if len == 5 {
            bytes.extend((group as u32).to_be_bytes());
            (group, len) = (0, 0);
        }
    }
    if len > 1 {
        // The last group is filled up with the largest digit, and as many bytes are left out as digits are missing.
        let group = (len..5).fold(group, |group, _| group * 85 + 84);
        bytes.extend((group as u32).to_be_bytes().into_iter().take(len - 1));
    }
    bytes
}

fn find(bytes: &[u8], what: &[u8], from: usize) -> Option<usize> {
    memmem::find(bytes.get(from..)?, what).map(|at| at.saturating_add(from))
}

/// Objects of the type `Page`, but for what is in comments and strings.
fn count_pages(bytes: &[u8]) -> u64 {
    // Where one string does not end, others hardly do, and each search would go to the end.
    let (mut pages, mut rest, mut may_end) = (0_u64, bytes, true);
    while let Some(at) = memchr::memchr3(b'(', b'%', b'/', rest) {
        let (mark, after) = (rest.get(at), rest.get(at.saturating_add(1)..).unwrap_or_default());
        rest = match mark {
            Some(b'(') => {
                let end = may_end.then(|| after_string(after)).flatten();
                may_end = end.is_some();
                end.unwrap_or(after)
            }
            Some(b'%') => {
                let end = memchr::memchr2(b'\n', b'\r', after).unwrap_or(after.len());
                after.get(end..).unwrap_or_default()
            }
            _ => {
                pages = pages.saturating_add(u64::from(is_page(after)));
                after
            }
        };
    }
    pages
}

/// Whether a name, without its slash, is `Type` and comes before the name `Page`.
fn is_page(name: &[u8]) -> bool {
    let value = name.strip_prefix(b"Type").map(<[u8]>::trim_ascii_start);
    let after = value.and_then(|value| value.strip_prefix(b"/Page")).map(<[u8]>::first);
    after.is_some_and(|next| next.is_none_or(|next| !next.is_ascii_alphanumeric()))
}

/// What comes after a string, of which the first parenthesis has been read; none if it does not end.
fn after_string(bytes: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut at) = (1_u32, 0_usize);
    while depth > 0 {
        match bytes.get(at)? {
            b'\\' => at = at.saturating_add(1),
            b'(' => depth = depth.saturating_add(1),
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at = at.saturating_add(1);
    }
    bytes.get(at..)
}

/// The characters that a stream shows; none if it has no text.
fn characters(stream: &[u8]) -> u64 {
    let has = |operator: &[u8]| memmem::find(stream, operator).is_some();
    // The operators that show text: Tj, TJ, and two that begin a new line first.
    if !has(b"BT") || ![b"Tj".as_slice(), b"TJ", b")'", b") '", b")\"", b") \""].into_iter().any(has) {
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
    use std::io::Write as _;

    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn found(file: &[u8]) -> (u64, u64, u64) {
        let mut found = Found::default();
        Inflatable::default().with(|left| found.read_streams(file, left));
        (found.pages, found.characters, found.unread)
    }

    #[test]
    fn streams_are_inflated() {
        let inner = deflated(b"<< /Type /Page >> BT (Hello) Tj ET");
        let file =
            [b"%PDF-1.7\n/Type /Page /Type /ObjStm\nstream\r\n", inner.as_slice(), b"\nendstream more"]
                .concat();
        assert_eq!(found(&file), (2, 5, 0));
        let broken = [b"stream\n", &[0x78, 0x9C, 0xFF, 0xFF][..], b"endstream"].concat();
        assert_eq!(found(&broken), (0, 0, 1));
        assert_eq!(found(b"stream\n(no text operators)endstream"), (0, 0, 0));
    }

    #[test]
    fn pages_are_objects_and_no_text() {
        for (bytes, pages) in [
            (&b"<< /Type /Page >> <</Type/Page/Parent 1 0 R>>"[..], 2),
            (b"<< /Type /Pages >>", 0),
            (b"% /Type /Page\n<< /Type /Page >>", 1),
            (b"<< /Title (a \\) (/Type /Page) /Type /Page) /Type /Page >>", 1),
            // What does not end is no string.
            (b"(/Type /Page", 1),
        ] {
            assert_eq!(count_pages(bytes), pages, "{}", String::from_utf8_lossy(bytes));
        }
        // The text of a page is in a stream, and so may objects be.
        let text = deflated(b"BT (/Type /Page) Tj /Type /Page ET");
        assert_eq!(found(&[b"<<>> stream\n", text.as_slice(), b"\nendstream"].concat()).0, 0);
    }

    #[test]
    fn a_stream_that_is_not_understood_is_unread() {
        let stream = |dictionary: &str, raw: &[u8]| {
            let begin = format!("1 0 obj << {dictionary} >>\nstream\n");
            [begin.as_bytes(), raw, b"\nendstream endobj"].concat()
        };
        let text = b"BT (Hello) Tj ET";
        for filter in ["/ASCIIHexDecode", "[/ASCIIHexDecode /FlateDecode]", "/LZWDecode", "/RunLengthDecode"]
        {
            assert_eq!(found(&stream(&format!("/Filter {filter}"), text)), (0, 0, 1), "{filter}");
        }
        assert_eq!(found(&stream("/Filter /FlateDecode", b"\x01\x02 no zlib")), (0, 0, 1));
        let cut = &deflated(&b"BT (Hello) Tj ET".repeat(99))[..5];
        assert_eq!(found(&stream("/Filter /FlateDecode", cut)), (0, 0, 1));
        assert_eq!(found(&stream("", b"BT (Hello) ' ET")), (0, 5, 0));
        // python3: base64.a85encode(zlib.compress(b"BT (Hello) Tj ET")), and the same of a text alone
        let coded = br#"Garg^;:+f'c,n)Z<!^TDE")gJ-@c5_~>"#;
        assert_eq!(found(&stream("/Filter [/ASCII85Decode /FlateDecode]", coded)), (0, 5, 0));
        assert_eq!(ascii85(b"6<#'U87cURD^cf.C*5rE+[5"), b"BT (Hello) Tj ET!?");
        assert_eq!(ascii85(b"z !!~>junk"), [0, 0, 0, 0, 0]);
        // The coding of one stream is not that of the next.
        let both = [stream("/Filter /LZWDecode", b"x"), stream("", text)].concat();
        assert_eq!(found(&both), (0, 5, 1));
    }

    #[test]
    fn a_bomb_is_inflated_to_a_bound() {
        let bomb = deflated(&b"(a)".repeat(4 << 20));
        let stream = [b"stream\n", bomb.as_slice(), b"endstream "].concat();
        let start = std::time::Instant::now();
        found(&stream.repeat(5));
        assert!(start.elapsed().as_secs() < 5);
    }

    #[test]
    fn strings_that_never_close_are_searched_once() {
        for marks in ["(", "((", "(\\", "(%\n", "(<", "(/Type /Page "] {
            let start = std::time::Instant::now();
            let text = marks.repeat((512 << 10) / marks.len());
            count_pages(text.as_bytes());
            characters(format!("BT Tj {text}").as_bytes());
            assert!(start.elapsed().as_secs() < 5, "{marks}");
        }
        assert_eq!(count_pages(&b"(/Type /Page ".repeat(3)), 3);
        // One that closes hides what is in it, also where others do not.
        assert_eq!(count_pages(b"(/Type /Page) (/Type /Page) (/Type /Page"), 1);
    }

    #[test]
    fn streams_are_read_up_to_a_number() {
        let stream = [b"stream\n", deflated(b"BT (a) Tj ET").as_slice(), b"\nendstream "].concat();
        assert_eq!(found(&stream.repeat(2_000)), (0, 2_000, 0));
        let (_, characters, unread) = found(&stream.repeat(5_000));
        assert!(characters < 2_100 && characters + unread >= 5_000, "{characters} {unread}");
    }

    #[test]
    fn text_behind_a_bound_is_unread() {
        let page = deflated(&[b"BT (a) Tj ET", " ".repeat(1 << 20).as_bytes(), b"BT (b) Tj ET"].concat());
        let file = [b"/FlateDecode stream\n", page.as_slice(), b"\nendstream"].concat();
        assert_eq!(found(&file), (0, 1, 1));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[()<>a-f \\\\BTj]{0,60}") {
            found(&[b"%PDF stream\n", bytes.as_slice(), b"endstream stream\nBT Tj ", text.as_bytes()].concat());
        }
    }
}
