//! The tokens of a prompt's structure beside its text: messages, names, the start of the reply, tools.
//!
//! OpenAI's numbers are from its cookbook, "How to count tokens with tiktoken"
//! (<https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb>).

use super::{Family, encoding, without_provider};
use crate::quantity::Units;
use crate::tokens::Encoding;

/// The tokens of messages beside their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageTokens {
    /// Tokens of a message.
    pub(crate) message: Units,
    /// Tokens of a message's name.
    pub(crate) name: Units,
    /// Tokens that a message's name saves, where it replaces the role.
    pub(crate) saved_by_name: Units,
    /// Tokens of the start of the reply.
    pub(crate) reply: Units,
}

impl MessageTokens {
    /// The numbers of all models but one; also an estimate for APIs that publish no numbers.
    pub(crate) const USUAL: Self = Self {
        message: Units::new(3),
        name: Units::new(1),
        saved_by_name: Units::ZERO,
        reply: Units::new(3),
    };

    /// The numbers of `model`.
    pub(crate) fn of(model: &str) -> Self {
        const VERSION: &str = "-turbo-0301";
        let name = without_provider(model);
        // The end is compared first because it rules out nearly every model at once.
        if name.ends_with(VERSION) && Family::split(name) == (Family::Gpt3_5, VERSION) {
            // From the cookbook's early revisions.
            let (message, saved_by_name) = (Units::new(4), Units::new(1));
            return Self { message, name: Units::ZERO, saved_by_name, ..Self::USUAL };
        }
        Self::USUAL
    }
}

/// The tokens of tool definitions beside their texts: the cookbook's `num_tokens_for_tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToolTokens {
    /// Tokens of a function.
    pub(crate) function: Units,
    /// Tokens of a list of properties.
    pub(crate) property_list: Units,
    /// Tokens of a property.
    pub(crate) property: Units,
    /// Tokens of a value of an enumeration.
    pub(crate) value: Units,
    /// Tokens that an enumeration saves.
    pub(crate) saved_by_enumeration: Units,
    /// Tokens of the end of all tools.
    pub(crate) end: Units,
}

impl ToolTokens {
    /// The numbers of `model`. They have changed once, with GPT-4o and its encoding.
    pub(crate) fn of(model: &str) -> Self {
        let is_since_4o = encoding::encoding(model) == Encoding::O200kBase;
        Self {
            function: Units::new(if is_since_4o { 7 } else { 10 }),
            property_list: Units::new(3),
            property: Units::new(3),
            value: Units::new(3),
            saved_by_enumeration: Units::new(3),
            end: Units::new(12),
        }
    }
}

/// Tokens of the system prompt that Anthropic's API adds if there are tools: its documentation "Tool use", section
/// "Pricing", has 290 to 804 by model and `tool_choice`, most of them about 500.
pub(crate) const CLAUDE_TOOLS_PROMPT: Units = Units::new(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_model_counts_messages_in_another_way() {
        for (model, is_usual) in [
            ("gpt-3.5-turbo-0301", false),
            ("openai/gpt-3.5-turbo-0301", false),
            ("gpt-3.5-turbo-0613", true),
            ("my-turbo-0301", true),
            ("claude-opus-4-7", true),
            ("", true),
        ] {
            assert_eq!(MessageTokens::of(model) == MessageTokens::USUAL, is_usual, "{model}");
        }
    }

    #[test]
    fn functions_cost_less_since_gpt_4o() {
        let functions = ["gpt-4", "gpt-4o", "some/llama-9"].map(|model| ToolTokens::of(model).function.get());
        assert_eq!(functions, [10, 7, 7]);
    }
}
