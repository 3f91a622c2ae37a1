//! Counts tokens in text: the one interface to the tokenizers, which are a crate of their own, `token-count`.
//!
//! A [`Tokenizer`] counts one model's text, a [`Meter`] counts a prompt until it has counted enough, and a [`Running`]
//! count follows a text that arrives piece by piece. Special tokens (`<|endoftext|>`) in a text are ordinary text: no
//! client can write one. [`crate::models`] has the tokenizer of each model, and [`crate::request`] counts what a prompt
//! costs beside its text.

mod answer;
mod encoding;
mod meter;
mod prompt_kind;
mod running;
mod slices;
mod weights;

pub use answer::{AnswerTokens, Effort, Made, WantedCall, Wants};
pub use encoding::{Counting, Encoding, Factor};
pub use meter::{Count, MAX_COUNTED, Meter};
pub use prompt_kind::PromptKind;
pub use running::Running;
pub use slices::SLICE_BYTES;
pub use weights::{Hundredths, WHOLE, Weights};

/// Counts one model's text. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer {
    vocabulary: &'static token_count::Encoding,
    factor: Factor,
    /// Tokens that no factor corrects: short texts have as many in one vocabulary as in another.
    spared: u64,
    /// What its models are shown.
    weights: Weights,
    /// What each of its models is shown.
    least: Weights,
    answer: AnswerTokens,
    /// What the client wants of the answer.
    wants: Wants,
    unknown_document: Option<u64>,
}

impl Tokenizer {
    /// A tokenizer that counts text as `counting` describes, for models that are shown prompts as OpenAI's are.
    pub const fn new(counting: Counting) -> Self {
        Self {
            vocabulary: counting.encoding.vocabulary(),
            factor: counting.factor,
            spared: 0,
            weights: Weights::OPENAI,
            least: Weights::OPENAI,
            answer: AnswerTokens::NONE,
            wants: Wants::NOTHING,
            unknown_document: None,
        }
    }

    /// The same for models that are shown prompts with these `weights`.
    #[must_use]
    pub const fn with_weights(self, weights: Weights) -> Self {
        Self { weights, least: weights, ..self }
    }

    /// The same for models whose texts have as many tokens up to so many.
    #[must_use]
    pub const fn sparing(self, spared: u64) -> Self {
        Self { spared, ..self }
    }

    /// The same for models whose answers have these tokens beside their text.
    #[must_use]
    pub const fn with_answers(self, answer: AnswerTokens) -> Self {
        Self { answer, ..self }
    }

    /// The same where a document that a request only names has so many tokens.
    #[must_use]
    pub const fn with_unknown_documents(self, tokens: Option<u64>) -> Self {
        Self { unknown_document: tokens, ..self }
    }

    /// The tokens of a document that a request only names, if they are configured.
    pub const fn unknown_document(&self) -> Option<u64> {
        self.unknown_document
    }

    /// The same for an answer to a client that `wants` it.
    #[must_use]
    pub const fn wanting(self, wants: Wants) -> Self {
        Self { wants, ..self }
    }

    /// The tokens of an answer with so many of text, before the model's factor is applied.
    pub fn of_answer(&self, text: u64, made: &Made) -> u64 {
        self.answer.with(self.weigh(text), made, &self.wants)
    }

    /// How much each kind of text counts.
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// How much each kind of text counts for whichever model it counts for least.
    pub const fn least(&self) -> &Weights {
        &self.least
    }

    /// The same, for its models and those of `other`, which has the same vocabulary. It counts whatever any of them is
    /// shown, and has counted enough when that is enough for each of them.
    #[must_use]
    pub fn for_either(self, other: Self) -> Self {
        let is_less = other.factor.of(u32::MAX.into()) < self.factor.of(u32::MAX.into());
        let factor = if is_less { other.factor } else { self.factor };
        let [weights, _] = self.weights.with(other.weights);
        let [_, least] = self.least.with(other.least);
        Self { factor, spared: self.spared.max(other.spared), weights, least, ..self }
    }

    /// Tokens of `text`, before the model's factor is applied. The time is proportional to the length of the text, and
    /// the memory to [`SLICE_BYTES`], for any text.
    pub fn count(&self, text: &str) -> u64 {
        slices::slices(text).map(|slice| self.vocabulary.count(slice)).sum()
    }

    /// Whether both count the same tokens before their factors are applied.
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.vocabulary, other.vocabulary)
    }

    /// `tokens` corrected by the model's factor: applied once, to a whole prompt or answer.
    pub fn weigh(&self, tokens: u64) -> u64 {
        let spared = tokens.min(self.spared);
        self.factor.of(tokens.saturating_sub(spared)).saturating_add(spared)
    }
}

#[cfg(test)]
mod tests;
