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

    /// The larger of each weight.
    pub(super) const fn or_more(self, other: Self) -> Self {
        const fn larger(one: Hundredths, other: Hundredths) -> Hundredths {
            if one > other { one } else { other }
        }
        Self {
            tool_types: larger(self.tool_types, other.tool_types),
            tool_json: larger(self.tool_json, other.tool_json),
            schema_short: larger(self.schema_short, other.schema_short),
            schema_json: larger(self.schema_json, other.schema_json),
            call_names: larger(self.call_names, other.call_names),
            parallel_names: larger(self.parallel_names, other.parallel_names),
            forced_name: larger(self.forced_name, other.forced_name),
            thinking: larger(self.thinking, other.thinking),
        }
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
}

impl AnswerTokens {
    /// The tokens of so many answers with so many calls.
    pub const fn of(&self, answers: u64, calls: u64, is_response: bool) -> u64 {
        let each = if is_response { self.response } else { self.chat };
        let call = if calls > 1 { self.parallel_call } else { self.call };
        each.saturating_mul(answers).saturating_add(call.saturating_mul(calls))
    }
}
