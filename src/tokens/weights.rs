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
}
