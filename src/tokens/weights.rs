//! How much the tokens of each kind of text in a prompt count for one model, or for the dearest of several.

/// A share of tokens, in hundredths.
pub type Hundredths = u32;

/// All of the tokens.
pub const WHOLE: Hundredths = 100;

/// The weight of each kind of text of which models are not all shown the same. A kind of weight zero is not shown, and
/// need not be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Definitions of tools as types of TypeScript.
    pub tool_types: Hundredths,
    /// Definitions of tools as JSON.
    pub tool_json: Hundredths,
    /// The schema of the answer without what OpenAI leaves out of it.
    pub schema_short: Hundredths,
    /// The schema of the answer as JSON.
    pub schema_json: Hundredths,
    /// Names of functions in calls of the history.
    pub call_names: Hundredths,
    /// The same where a message has several calls.
    pub parallel_names: Hundredths,
    /// The name of the function that must be called.
    pub forced_name: Hundredths,
    /// Reasoning of earlier turns.
    pub thinking: Hundredths,
}

impl Weights {
    /// As OpenAI's models are shown a prompt.
    pub const OPENAI: Self = Self {
        tool_types: WHOLE,
        tool_json: 0,
        schema_short: WHOLE,
        schema_json: 0,
        call_names: 2 * WHOLE,
        parallel_names: WHOLE,
        forced_name: WHOLE,
        thinking: WHOLE,
    };

    /// As models are shown a prompt that get tools as JSON.
    pub const JSON: Self = Self {
        tool_types: 0,
        tool_json: WHOLE,
        schema_short: 0,
        schema_json: WHOLE,
        call_names: WHOLE,
        parallel_names: WHOLE,
        forced_name: 0,
        thinking: WHOLE,
    };

    /// The larger of each weight, and the smaller of each.
    pub(super) fn with(self, other: Self) -> [Self; 2] {
        [Hundredths::max as fn(Hundredths, Hundredths) -> Hundredths, Hundredths::min].map(|of| Self {
            tool_types: of(self.tool_types, other.tool_types),
            tool_json: of(self.tool_json, other.tool_json),
            schema_short: of(self.schema_short, other.schema_short),
            schema_json: of(self.schema_json, other.schema_json),
            call_names: of(self.call_names, other.call_names),
            parallel_names: of(self.parallel_names, other.parallel_names),
            forced_name: of(self.forced_name, other.forced_name),
            thinking: of(self.thinking, other.thinking),
        })
    }
}

/// The tokens of an answer beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTokens {
    /// An answer with anything in it, in a chat.
    pub chat: u64,
    /// The same in a response of OpenAI's Responses API.
    pub response: u64,
    /// A call of a function that is alone.
    pub call: u64,
    /// One of several calls.
    pub parallel_call: u64,
    /// An argument of a call, beside its name and its value.
    pub argument: u64,
}

impl AnswerTokens {
    /// The tokens of so many answers with so many calls, which have so many arguments together.
    pub const fn of(&self, answers: u64, calls: u64, arguments: u64, is_response: bool) -> u64 {
        let each = if is_response { self.response } else { self.chat };
        let call = if calls > 1 { self.parallel_call } else { self.call };
        let calls = call.saturating_mul(calls).saturating_add(self.argument.saturating_mul(arguments));
        each.saturating_mul(answers).saturating_add(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{Counting, Encoding, Factor, Tokenizer};

    #[test]
    fn for_several_models_all_is_counted_and_enough_is_enough_for_each() {
        let counting =
            |factor| Counting { encoding: Encoding::O200kBase, factor: Factor::new(factor).unwrap() };
        let openai = Tokenizer::new(counting(1.0));
        let other = Tokenizer::new(counting(1.5)).with_weights(Weights::JSON).sparing(25);
        for both in [openai.for_either(other), other.for_either(openai)] {
            assert_eq!((both.weights().tool_types, both.weights().tool_json), (WHOLE, WHOLE));
            assert_eq!((both.least().tool_types, both.least().tool_json), (0, 0));
            assert_eq!((both.least().thinking, both.weigh(100)), (WHOLE, 100));
        }
        assert_eq!(other.weigh(100), 25 + 113);
    }

    #[test]
    fn several_calls_cost_more_each() {
        let answer = AnswerTokens { chat: 3, response: 4, call: 7, parallel_call: 14, argument: 5 };
        let of = |answers, calls, arguments, is_response| answer.of(answers, calls, arguments, is_response);
        assert_eq!([of(1, 0, 0, false), of(1, 1, 0, true), of(2, 2, 3, false)], [3, 11, 49]);
    }
}
