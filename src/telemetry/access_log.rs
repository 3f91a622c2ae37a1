//! What Envoy's access log can say of a request: filter state under `wasm.llm_rate_limit.*`, written with
//! `%FILTER_STATE(wasm.llm_rate_limit.decision:PLAIN)%` and the like.

/// A field of the log, by its name in filter state without `wasm.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `admitted`, `over_limit`, `unknown_identity`, `uncounted` (forwarded without the store's answer) or
    /// `no_store` (answered 503 without it).
    Decision,
    /// What the configuration calls whoever sent it.
    Name,
    /// The model that it named.
    Model,
    /// The limit that refused it.
    Limit,
    /// The limit in a dry run that would have refused it.
    DryRun,
    /// Prompt tokens, as counted.
    EstimatedInputTokens,
    /// Completion tokens that were reserved.
    ReservedOutputTokens,
    /// Prompt tokens that it was charged in the end.
    InputTokens,
    /// Completion tokens that it was charged in the end.
    OutputTokens,
}

impl Field {
    /// Its name in filter state, without `wasm.`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "llm_rate_limit.decision",
            Self::Name => "llm_rate_limit.name",
            Self::Model => "llm_rate_limit.model",
            Self::Limit => "llm_rate_limit.limit",
            Self::DryRun => "llm_rate_limit.dry_run",
            Self::EstimatedInputTokens => "llm_rate_limit.estimated_input_tokens",
            Self::ReservedOutputTokens => "llm_rate_limit.reserved_output_tokens",
            Self::InputTokens => "llm_rate_limit.input_tokens",
            Self::OutputTokens => "llm_rate_limit.output_tokens",
        }
    }
}

/// Fields of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFields(Vec<(Field, String)>);

impl LogFields {
    /// Adds a field.
    pub fn add(&mut self, field: Field, value: impl ToString) {
        self.0.push((field, value.to_string()));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for LogFields {
    type Item = (Field, String);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
