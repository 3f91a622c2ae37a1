//! Documents in a prompt: how large they are, and what they cost.
//!
//! Models see a PDF's text and, in most APIs, an image of every page. So the pages of a PDF are counted, and the
//! characters of its text, as far as a bounded part of it shows them (`pdf.rs`). Of the files of office suites, models
//! get the text (`office.rs`). Other files count by their size. What
//! the request only names, by an address or an id, counts as [`UNKNOWN_PAGES`] pages until the response reports its
//! usage: it is the one thing that is charged less than it may cost, because nobody could send a document otherwise.

mod inflatable;
mod office;
mod pdf;

pub(super) use inflatable::Inflatable;

use super::payload::Payload;
use crate::models::DocumentRule;
use crate::quantity::Units;
use std::borrow::Cow;

/// The pages to assume of a document that the request only names.
const UNKNOWN_PAGES: u64 = 10;

/// Characters of such a page: a page of text.
const UNKNOWN_PAGE_CHARACTERS: u64 = 2_850;

/// Bytes of a file that count as a token, where nothing else is known.
const BYTES_PER_TOKEN: u64 = 28;

/// The most bytes of a file with structure that are decoded.
const MAX_DECODED: usize = 256 * 1024;

/// The largest text that is decoded and counted, in bytes. Larger ones count a token for four bytes.
const MAX_TEXT: u64 = 256 * 1024;

/// A document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// A PDF.
    Pdf {
        /// Its pages, at least one.
        pages: u64,
        /// The characters of its text, as far as that can be read.
        characters: u64,
        /// How many thousandths of it may hold text that cannot be read.
        unread: u64,
        /// Its size, in bytes.
        bytes: u64,
    },
    /// A document, spreadsheet or presentation of an office suite.
    Office {
        /// The characters of its text.
        characters: u64,
        /// Bytes that may hold more of it and were not read.
        unread: u64,
    },
    /// Another file, of so many bytes.
    File(u64),
    /// Named by an address or an id.
    Unknown,
    /// A text that is counted as one.
    Text,
}

impl Document {
    /// The document in `payload`, and its text, if it is one. `media_type` is empty if it is unknown. What is inflated
    /// of it is taken from `inflatable`.
    pub(super) fn read<'t>(
        media_type: &str,
        payload: Payload<'_>,
        inflatable: &mut Inflatable,
    ) -> (Self, Option<Cow<'t, str>>) {
        let bytes = payload.bytes_len();
        let is_text =
            media_type.starts_with("text/") || media_type.ends_with("json") || media_type.ends_with("xml");
        if is_text && bytes <= MAX_TEXT {
            let decoded: Vec<u8> = payload.bytes().collect();
            return (Self::Text, Some(Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())));
        }
        if is_text {
            // A token for four bytes.
            return (Self::File((bytes / 4).saturating_mul(BYTES_PER_TOKEN)), None);
        }
        let document = pdf::read(payload, inflatable).or_else(|| office::read(payload, inflatable));
        (document.unwrap_or(Self::File(bytes)), None)
    }

    /// Its tokens by `rule`, without those of a text that is counted. `unknown` is what one costs that the request only
    /// names, if that is configured.
    pub(super) fn tokens(self, rule: &DocumentRule, unknown: Option<u64>) -> Units {
        let by_characters =
            |characters: u64| characters.saturating_mul(10).div_ceil(rule.tenths_per_token.max(1));
        let tokens = match self {
            Self::Text => rule.text,
            Self::File(bytes) => bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(rule.each),
            Self::Unknown => unknown.unwrap_or_else(|| {
                let page = rule.page + by_characters(UNKNOWN_PAGE_CHARACTERS);
                UNKNOWN_PAGES * rule.unread_page.unwrap_or(page)
            }),
            Self::Office { characters, unread } => by_characters(characters)
                .saturating_add(unread.div_ceil(BYTES_PER_TOKEN))
                .saturating_add(rule.each),
            Self::Pdf { pages, characters, unread, bytes } => {
                let all_unread = match rule.unread_page {
                    Some(page) => pages.saturating_mul(page.saturating_sub(rule.page)),
                    None => bytes.div_ceil(BYTES_PER_TOKEN),
                };
                let text = by_characters(characters).max(all_unread.saturating_mul(unread).div_ceil(1_000));
                pages.saturating_mul(rule.page).saturating_add(text).saturating_add(rule.each)
            }
        };
        Units::new(tokens)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::request) fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits = |chunk: &[u8]| {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            (0..=chunk.len())
                .map(|at| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]))
                .collect::<String>()
        };
        bytes.chunks(3).map(digits).collect()
    }

    fn read(media_type: &str, bytes: &[u8]) -> (Document, Option<String>) {
        let data = base64(bytes);
        let (document, text) = Document::read(media_type, Payload::read(&data).1, &mut Inflatable::default());
        (document, text.map(Cow::into_owned))
    }

    #[test]
    fn texts_are_decoded_and_other_files_count_by_their_size() {
        assert_eq!(read("text/csv", b"a,b\n1,2"), (Document::Text, Some("a,b\n1,2".to_owned())));
        assert_eq!(read("", b"PK\x03\x04 and more"), (Document::File(14), None));
        let long = "x".repeat(400_000);
        assert_eq!(read("text/plain", long.as_bytes()), (Document::File(100_000 * 28), None));
    }

    #[test]
    fn a_pdf_has_pages_and_text() {
        let pdf = "%PDF-1.4\n1 0 obj << /Type /Pages /Count 2 >> 2 0 obj <</Type/Page>> 3 0 obj << /Type /Page >>\n\
                   4 0 obj << /Length 30 >>\nstream\nBT (Hello \\(you\\)) Tj [(a) -2 <00410042>] TJ ET\nendstream";
        let (document, text) = read("application/pdf", pdf.as_bytes());
        assert_eq!(
            document,
            Document::Pdf { pages: 2, characters: 11 + 1 + 2, unread: 0, bytes: pdf.len() as u64 }
        );
        assert_eq!(text, None);
        let claude = DocumentRule::of("claude-sonnet-4-5", false);
        assert_eq!(document.tokens(&claude, None).get(), 2 * 1_590 + 6 + 12);
        assert_eq!(Document::Unknown.tokens(&claude, None).get(), 26_800);
        assert_eq!(Document::Unknown.tokens(&claude, Some(7)).get(), 7);
        let unread = Document::Pdf { pages: 3, characters: 1, unread: 1_000, bytes: 2_800 };
        assert_eq!(unread.tokens(&claude, None).get(), 3 * 2_680 + 12);
        assert_eq!(unread.tokens(&DocumentRule::of("gpt-4o", false), None).get(), 100 + 8);
    }

    #[test]
    fn text_of_a_pdf_that_is_encrypted_coded_or_too_far_behind_is_unread() {
        let unread = |bytes: &[u8]| match read("application/pdf", bytes).0 {
            Document::Pdf { unread, .. } => unread,
            other => panic!("{other:?}"),
        };
        let page = b"%PDF-1.7\n<< /Type /Page >> ";
        let text = b"stream\nBT (a) Tj ET\nendstream ";
        let coded = b"obj << /Filter /LZWDecode >> stream\nx\nendstream ";
        assert_eq!(unread(page), 0);
        assert_eq!(unread(&[&page[..], text].concat()), 0);
        assert_eq!(unread(&[&page[..], b"trailer << /Encrypt 9 0 R >>", text].concat()), 1_000);
        // One character that can be read does not make the rest readable.
        assert_eq!(unread(&[&page[..], text, coded, coded, coded].concat()), 750);
        let large = unread(&[&page[..], text, &[b' '; 900 * 1024]].concat());
        assert!((700..730).contains(&large), "{large}");
        let pages = |unread| Document::Pdf { pages: 10, characters: 26, unread, bytes: 28_000 };
        let claude = DocumentRule::of("claude-sonnet-4-5", false);
        assert_eq!(pages(0).tokens(&claude, None).get(), 15_900 + 10 + 12);
        assert_eq!(pages(750).tokens(&claude, None).get(), 15_900 + 10_900 * 3 / 4 + 12);
        assert_eq!(pages(750).tokens(&DocumentRule::of("gpt-4o", false), None).get(), 750 + 8);
    }
}
