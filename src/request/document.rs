//! What a document in a prompt costs: a guess from its size, because its pages cannot be counted without decoding it.
//!
//! Models are shown a PDF's text and an image of every page (OpenAI's guide "File inputs", Anthropic's "PDF support").
//! Anthropic's guide gives 7,000 tokens for 3 pages, which measurements of others confirm. Text that is sent as a file
//! costs about a token for four bytes, as any text does.

use super::payload::Payload;

/// Tokens of a page: 7,000 by 3.
const PAGE: u64 = 2_334;

/// What a page is taken for, in bytes: 64 KiB, between a page of text and a scanned one.
const PAGE_BYTES: u64 = 64 * 1024;

/// What a document that is only named, by an address or an id, counts as: one page.
pub(super) const UNSEEN: u64 = PAGE;

/// Tokens of the document of `media_type` (empty if it is not known) in `payload`.
pub(super) fn tokens(media_type: &str, payload: Payload<'_>) -> u64 {
    let bytes = payload.bytes_len();
    if media_type.starts_with("text/") || media_type.ends_with("json") || media_type.ends_with("xml") {
        bytes.div_ceil(4)
    } else {
        bytes.div_ceil(PAGE_BYTES).saturating_mul(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_text_are_guessed_from_the_size() {
        let base64 = "A".repeat(100 * 1024 * 4 / 3);
        let payload = Payload::read(&base64).1;
        assert_eq!(tokens("application/pdf", payload), 2 * PAGE);
        assert_eq!(tokens("", payload), 2 * PAGE);
        assert_eq!(tokens("text/csv", payload), 25 * 1024);
    }
}
