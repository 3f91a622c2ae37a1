//! What an answer costs beside its text, which depends on what the client wants.

/// What a client wants, as far as its answer's tokens depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Functions that the model may call.
    pub functions: u64,
    /// Whether the answer has a schema.
    pub has_schema: bool,
    /// Which of the functions the model must call.
    pub call: WantedCall,
    /// How much the model is to reason.
    pub effort: Effort,
}

impl Wants {
    /// Nothing that changes the cost.
    pub const NOTHING: Self =
        Self { functions: 0, has_schema: false, call: WantedCall::Any, effort: Effort::Unsaid };
}

/// A call that the model must make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WantedCall {
    /// None, as far as is known.
    #[default]
    Any,
    /// Of any function.
    Required,
    /// Of one whose name has so many tokens.
    Named(u64),
}

/// How much a client wants a model to reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// As much as it does.
    #[default]
    Unsaid,
    /// Not at all, or as little as it can.
    Off,
    /// To whatever extent.
    Asked,
}

/// The tokens of an answer beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTokens {
    /// An answer with anything in it, in a chat.
    pub chat: u64,
    /// The same in a response of OpenAI's Responses API.
    pub response: u64,
    /// The same beyond it where the model may call functions. A call has it within its own tokens.
    pub beside_functions: u64,
    /// The same beyond it where the answer has a schema: without functions, and beside them.
    pub schema: [u64; 2],
    /// Reasoning that an answer shows, beside its text.
    pub reasoning: u64,
    /// A call of a function that is alone.
    pub call: u64,
    /// One of several calls.
    pub parallel_call: u64,
    /// An argument of a call, beside its name and its value.
    pub argument: u64,
    /// Whether of a call that must be made only the arguments cost anything.
    pub spares_wanted_call: bool,
}

/// What an answer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Answers with anything in them.
    pub answers: u64,
    /// Calls of functions.
    pub calls: u64,
    /// The arguments of all of them.
    pub arguments: u64,
    /// Whether it shows reasoning, or the place of it.
    pub has_reasoning: bool,
    /// Whether it is a response of OpenAI's Responses API.
    pub is_response: bool,
}

impl AnswerTokens {
    /// Nothing beside the text.
    pub const NONE: Self = Self {
        chat: 0,
        response: 0,
        beside_functions: 0,
        schema: [0, 0],
        reasoning: 0,
        call: 0,
        parallel_call: 0,
        argument: 0,
        spares_wanted_call: false,
    };

    /// The tokens of an answer whose texts have so many, the names of functions included, to a client that `wants` it.
    pub const fn with(&self, text: u64, made: &Made, wants: &Wants) -> u64 {
        let Made { answers, calls, arguments, has_reasoning, is_response } = *made;
        let has_functions = wants.functions > 0;
        let own = if is_response { self.response } else { self.chat };
        let spared = match wants.call {
            _ if !self.spares_wanted_call || calls == 0 => None,
            WantedCall::Named(name) => Some(name),
            // Where there is no choice at all, the name is the answer's one token of its own.
            WantedCall::Required if is_response && wants.functions == 1 => Some(own),
            WantedCall::Required | WantedCall::Any => None,
        };
        if let Some(name) = spared {
            let text = text.saturating_sub(name.saturating_mul(calls));
            return text.saturating_add(own.saturating_mul(answers));
        }
        let mut each = own;
        if has_functions && calls == 0 {
            each = each.saturating_add(self.beside_functions);
        }
        if wants.has_schema && calls == 0 {
            let [alone, beside_functions] = self.schema;
            each = each.saturating_add(if has_functions { beside_functions } else { alone });
        }
        let call = if calls > 1 { self.parallel_call } else { self.call };
        let calls = call.saturating_mul(calls).saturating_add(self.argument.saturating_mul(arguments));
        let reasoning = if has_reasoning { self.reasoning } else { 0 };
        text.saturating_add(each.saturating_mul(answers)).saturating_add(calls).saturating_add(reasoning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ONE: AnswerTokens = AnswerTokens {
        chat: 3,
        response: 4,
        beside_functions: 1,
        schema: [10, 20],
        reasoning: 2,
        call: 7,
        parallel_call: 14,
        argument: 5,
        spares_wanted_call: true,
    };

    fn of(made: Made, wants: Wants) -> u64 {
        OF_ONE.with(100, &made, &wants) - 100
    }

    #[test]
    fn several_calls_cost_more_each() {
        let wants = Wants { functions: 2, ..Wants::default() };
        let chat =
            |answers, calls, arguments| of(Made { answers, calls, arguments, ..Made::default() }, wants);
        assert_eq!([chat(1, 0, 0), chat(2, 2, 3), chat(1, 1, 0)], [4, 49, 10]);
    }

    #[test]
    fn what_the_client_wants_changes_the_cost() {
        let made = Made { answers: 1, is_response: true, ..Made::default() };
        let schema = Wants { has_schema: true, ..Wants::default() };
        assert_eq!(of(made, Wants::default()), 4);
        assert_eq!(of(made, schema), 14);
        assert_eq!(of(made, Wants { functions: 1, ..schema }), 25);
        assert_eq!(of(Made { has_reasoning: true, ..made }, Wants::default()), 6);
        assert_eq!(of(Made { has_reasoning: true, is_response: false, ..made }, Wants::default()), 5);
    }

    #[test]
    fn the_name_of_a_function_that_must_be_called_costs_nothing() {
        let named = Wants { functions: 3, call: WantedCall::Named(9), ..Wants::default() };
        let made = Made { answers: 1, calls: 1, ..Made::default() };
        assert_eq!(OF_ONE.with(100, &made, &named), 100 - 9 + 3);
        assert_eq!(OF_ONE.with(100, &Made { calls: 0, ..made }, &named), 104, "it has not called it");
        let required = Wants { functions: 1, call: WantedCall::Required, ..Wants::default() };
        let response = Made { is_response: true, ..made };
        assert_eq!(OF_ONE.with(100, &response, &required), 100);
        assert_eq!(of(response, Wants { functions: 2, ..required }), 11, "it has a choice");
        assert_eq!(of(made, required), 10);
        let pays = AnswerTokens { spares_wanted_call: false, ..OF_ONE };
        assert_eq!(pays.with(100, &made, &named), 110);
    }
}
