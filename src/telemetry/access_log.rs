//! What Envoy's access log can say of a request: filter state under `wasm.llm_rate_limit.*`, written with
//! `%FILTER_STATE(wasm.llm_rate_limit.decision:PLAIN)%` and the like.

use std::collections::HashMap;

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

/// What is to be logged of which stream, until it is handed over.
#[derive(Clone, Debug, Default)]
pub struct LogFields(HashMap<u32, Vec<(Field, String)>>);

impl LogFields {
    /// Notes a field of `stream`.
    pub fn add(&mut self, stream: u32, field: Field, value: impl ToString) {
        self.0.entry(stream).or_default().push((field, value.to_string()));
    }

    /// What was noted of `stream` since this was last asked.
    pub fn take(&mut self, stream: u32) -> Vec<(Field, String)> {
        self.0.remove(&stream).unwrap_or_default()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_handed_over_once() {
        let mut notes = LogFields::default();
        notes.add(1, Field::Decision, "admitted");
        notes.add(1, Field::InputTokens, 7);
        notes.add(2, Field::Decision, "over_limit");
        let taken = notes.take(1);
        assert_eq!(taken, [(Field::Decision, "admitted".into()), (Field::InputTokens, "7".into())]);
        assert_eq!((notes.take(1), notes.take(2).len(), notes.is_empty()), (vec![], 1, true));
    }
}
