//! The message of a refusal in every language of the configuration.

use super::error::{Path, Problems, quoted};
use super::message::Message;
use super::raw;
use crate::codec::accept_language;
use std::collections::BTreeMap;

/// The name of the message for all languages that have none of their own.
const DEFAULT: &str = "default";

/// The messages of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Messages {
    default: Message,
    /// By language tag, in lower case.
    by_language: BTreeMap<String, Message>,
}

impl Messages {
    /// The message for a client that sends this `accept-language`.
    pub fn of(&self, accept_language: Option<&str>) -> &Message {
        accept_language
            .and_then(|accepted| {
                accept_language::choose(accepted, self.by_language.keys().map(String::as_str))
            })
            .and_then(|language| self.by_language.get(language))
            .unwrap_or(&self.default)
    }

    /// Whether the message depends on the client's language.
    pub fn differ(&self) -> bool {
        !self.by_language.is_empty()
    }

    /// Checks the messages at `path`.
    #[inline(never)]
    pub(super) fn new(raw: Option<&raw::Messages>, path: &Path<'_>, problems: &mut Problems) -> Option<Self> {
        match raw? {
            raw::Messages::One(text) => {
                Some(Self { default: message(text, path, problems)?, by_language: BTreeMap::new() })
            }
            raw::Messages::ByLanguage(texts) => by_language(texts, path, problems),
        }
    }
}

fn by_language(
    texts: &BTreeMap<String, String>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Messages> {
    let mut messages = BTreeMap::new();
    for (language, text) in texts {
        let path = path.member(language);
        if !is_tag(language) {
            problems.expected(&path, "a language such as \"en\" or \"zh-CN\"", quoted(language));
        }
        let Some(message) = message(text, &path, problems) else { continue };
        if messages.insert(language.to_ascii_lowercase(), message).is_some() {
            problems.add(&path, "expected each language once, found again");
        }
    }
    if !texts.contains_key(DEFAULT) {
        problems.expected(&path.member(DEFAULT), "a message for all other languages", "none");
    }
    Some(Messages { default: messages.remove(DEFAULT)?, by_language: messages })
}

/// Whether `text` has the form of a language tag (RFC 5646, section 2.1): subtags of one to eight letters and digits.
fn is_tag(text: &str) -> bool {
    text.split('-')
        .all(|subtag| (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn message(text: &str, path: &Path<'_>, problems: &mut Problems) -> Option<Message> {
    if text.trim().is_empty() {
        problems.expected(path, "a message", quoted(text));
    }
    Message::parse(text).map_err(|problem| problems.add(path, problem)).ok()
}
