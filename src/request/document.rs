//! The tokens of a document in a prompt: a guess from its size, because only decoding it would show its pages.
//!
//! Models see a PDF's text and an image of every page (OpenAI's guide "File inputs", Anthropic's "PDF support").
//! Anthropic's guide gives 7,000 tokens for 3 pages, which published measurements confirm. Text in a file costs about a
//! token for four bytes, like any text.

use super::payload::Payload;
use crate::quantity::Units;

/// Tokens of a page: 7,000 divided by 3.
const PAGE: Units = Units::new(2_334);

/// The assumed size of a page, in bytes: 64 KiB, between a page of text and a scanned one.
const PAGE_BYTES: u64 = 64 * 1024;

/// Tokens of a document that the request only names, by an address or an id: one page.
pub(super) const ASSUMED_TOKENS: Units = PAGE;

/// Tokens of the document in `payload`. `media_type` is empty if it is unknown.
pub(super) fn tokens(media_type: &str, payload: Payload<'_>) -> Units {
    let bytes = payload.bytes_len();
    if media_type.starts_with("text/") || media_type.ends_with("json") || media_type.ends_with("xml") {
        Units::new(bytes.div_ceil(4))
    } else {
        PAGE * bytes.div_ceil(PAGE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_text_are_guessed_from_the_size() {
        let base64 = "A".repeat(100 * 1024 * 4 / 3);
        let payload = Payload::read(&base64).1;
        assert_eq!(tokens("application/pdf", payload), PAGE * 2);
        assert_eq!(tokens("", payload), PAGE * 2);
        assert_eq!(tokens("text/csv", payload), 25 * 1024);
    }
}
