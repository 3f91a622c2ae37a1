//! What a model counts for documents: PDFs by their pages and their text, other files by their size.
//!
//! OpenAI's guide "File inputs" and Anthropic's "PDF support" say that models see a PDF's text and, in most APIs, an
//! image of each page. The numbers are what recorded usage shows, as of autumn 2026; few documents were recorded.

use super::{Claude, Family, ImageRule};

/// How documents count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DocumentRule {
    /// Tokens of a document beside its pages.
    pub(crate) each: u64,
    /// Tokens of a text beside its own.
    pub(crate) text: u64,
    /// Tokens of a page beside its text.
    pub(crate) page: u64,
    /// Tenths of characters that have a token.
    pub(crate) tenths_per_token: u64,
    /// Tokens of a page whose text cannot be read, if it is not known better by its size.
    pub(crate) unread_page: Option<u64>,
    /// Tokens for citing documents.
    pub(crate) citations: u64,
}

impl DocumentRule {
    /// The rule of `model`, in chats or in another API.
    pub(crate) fn of(model: &str, is_chat: bool) -> Self {
        if Claude::of(model).is_some() {
            return Self {
                each: 12,
                text: 36,
                page: 1_590,
                tenths_per_token: 26,
                unread_page: Some(2_680),
                citations: 560,
            };
        }
        let openai =
            Self { each: 8, text: 16, page: 0, tenths_per_token: 38, unread_page: None, citations: 0 };
        match Family::of(model) {
            Family::Gemini | Family::Gemma => {
                Self { page: 258, tenths_per_token: u64::MAX, unread_page: Some(258), each: 0, ..openai }
            }
            _ if !is_chat => openai,
            // In chats, OpenAI's models also see an image of each page.
            _ => Self { page: page_in_chat(ImageRule::of(model)), ..openai },
        }
    }
}

/// Tokens of the image of a page.
fn page_in_chat(rule: ImageRule) -> u64 {
    match rule {
        ImageRule::Patches { hundredths: 100, .. } => 981,
        ImageRule::Patches { hundredths: ..=150, .. } => 205,
        ImageRule::Patches { hundredths, .. } => (400 * hundredths).div_ceil(100),
        _ => 215,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cost_by_model_and_api() {
        for (model, is_chat, page) in [
            ("us.anthropic.claude-sonnet-4-5", false, 1_590),
            ("claude-sonnet-4-5", true, 1_590),
            ("gpt-4o", true, 215),
            ("gpt-4o", false, 0),
            ("gpt-4.1-nano", true, 984),
            ("gpt-5-mini", true, 205),
            ("gpt-5.4", true, 981),
            ("google/gemini-2.5-flash", true, 258),
            ("", false, 0),
        ] {
            assert_eq!(DocumentRule::of(model, is_chat).page, page, "{model}");
        }
    }
}
