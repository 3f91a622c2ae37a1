//! What a chat and Anthropic's messages have alike: messages with their tools. `chat.rs` and `messages.rs` read them.

use super::content::Content;
use super::prompt::Counted;
use super::shape::Shape;
use std::borrow::Cow;

/// Messages and tools. Borrows their text where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation<'b> {
    pub(super) shape: Shape,
    pub(super) content: Content<'b>,
}

impl<'b> Conversation<'b> {
    /// The same without its texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Conversation<'static> {
        let Self { shape, content } = self;
        Conversation { shape, content: content.without_texts(take) }
    }

    /// Shows each of its texts to `see`.
    pub(super) fn see_texts(&self, see: &mut impl FnMut(Counted, &str)) {
        self.content.see_texts(see);
    }

    /// Whether there are no messages.
    pub(super) const fn is_empty(&self) -> bool {
        self.shape.messages == 0
    }

    /// What it has beside its text.
    pub(super) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What its parts hold.
    pub(super) const fn content(&self) -> &Content<'b> {
        &self.content
    }
}
