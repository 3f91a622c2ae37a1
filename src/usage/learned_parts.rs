//! How much of a prompt will not come from a cache, and how much of an answer will be reasoning: what only an answer
//! reports, for limits on just these parts.
//!
//! Both are expected as the lengths of answers are ([`super::learned_output`]): what 19 of 20 requests of a sender to a
//! model stay within, and the whole until that sender has shown less. Nobody's requests lower the expectation for
//! another sender. The parts that the answer reports replace what was expected.

use super::Usage;
use super::learned_output::{Learned, Sender};

/// A whole prompt, in the unit in which shares of prompts are learned.
const WHOLE: u64 = 1_000;

/// The parts of each sender's requests.
#[derive(Clone, Debug, Default)]
pub struct LearnedParts {
    /// The thousandths of a prompt that are not read from a cache.
    uncached: Learned,
    /// The tokens of an answer that are reasoning.
    reasoning: Learned,
}

impl LearnedParts {
    /// The tokens that no cache is expected to have, of a prompt of `input` tokens of `sender` to `model`.
    pub fn uncached(&self, sender: &Sender, model: Option<&str>, input: u64) -> u64 {
        let share = self.uncached.expect(sender, model, WHOLE).min(WHOLE);
        let tokens = (u128::from(input) * u128::from(share)).div_ceil(u128::from(WHOLE));
        u64::try_from(tokens).unwrap_or(input)
    }

    /// The tokens that are expected to be reasoning, of an answer of `model` to `sender` that has `output` tokens at
    /// most.
    pub fn reasoning(&self, sender: &Sender, model: Option<&str>, output: u64) -> u64 {
        self.reasoning.expect(sender, model, output).min(output)
    }

    /// Takes the `usage` that an answer of `model` to `sender` has reported.
    pub fn observe(&mut self, sender: &Sender, model: Option<&str>, usage: &Usage) {
        if let Some(input) = usage.input_tokens.filter(|input| *input > 0) {
            let uncached = input.saturating_sub(usage.cached_tokens.unwrap_or(0));
            let share = (u128::from(uncached) * u128::from(WHOLE)).div_ceil(u128::from(input));
            self.uncached.observe(sender, model, u64::try_from(share).unwrap_or(WHOLE));
        }
        if let Some(reasoning) = usage.reasoning_tokens {
            self.reasoning.observe(sender, model, reasoning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(id: &str) -> Sender {
        Sender { id: id.into(), plan: None }
    }

    #[test]
    fn a_part_is_the_whole_until_a_sender_has_shown_less() {
        let (me, you, model) = (sender("me"), sender("you"), Some("claude-sonnet-4-5"));
        let mut parts = LearnedParts::default();
        let expected = |parts: &LearnedParts, who| {
            (parts.uncached(who, model, 80_000), parts.reasoning(who, model, 5_000))
        };
        assert_eq!(expected(&parts, &me), (80_000, 5_000));
        let usage = Usage {
            input_tokens: Some(100_000),
            cached_tokens: Some(95_000),
            reasoning_tokens: Some(200),
            ..Usage::default()
        };
        for _ in 0..1_000 {
            parts.observe(&me, model, &usage);
        }
        let (uncached, reasoning) = expected(&parts, &me);
        assert!((4_000..5_000).contains(&uncached), "{uncached}");
        assert!((200..230).contains(&reasoning), "{reasoning}");
        assert_eq!(expected(&parts, &you), (80_000, 5_000), "another sender pays for no one's guesses");
    }

    #[test]
    fn what_is_not_reported_teaches_nothing_and_no_number_overflows() {
        let (me, model) = (sender("me"), None);
        let mut parts = LearnedParts::default();
        for _ in 0..1_000 {
            parts.observe(&me, model, &Usage::default());
        }
        assert_eq!(parts.uncached(&me, model, u64::MAX), u64::MAX);
        let more = Usage { input_tokens: Some(1), cached_tokens: Some(u64::MAX), ..Usage::default() };
        parts.observe(&me, model, &more);
        assert_eq!(parts.reasoning(&me, model, 0), 0);
    }
}
