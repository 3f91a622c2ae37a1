//! Fields of a request for Envoy's access log: filter state under `wasm.llm_rate_limit.*`, which a log format prints
//! with, for example, `%FILTER_STATE(wasm.llm_rate_limit.decision:PLAIN)%` (docs/envoy.md#filter-state).
//!
//! A field's name is its variant's name in snake case. [`crate::session`] sets the values.

use strum::{EnumIter, IntoStaticStr};

/// A field of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(prefix = "llm_rate_limit.", serialize_all = "snake_case")]
pub enum Field {
    /// `admitted`, `over_limit`, `unknown_identity`, `uncounted` (forwarded without the store's answer), `no_store`
    /// (answered 503 without it), `refused` (for what it is) or `not_limited`.
    Decision,
    /// Why the request was refused for what it is, or charged as the most that it could be: `unreadable`,
    /// `unknown_coding`, `too_large`, `too_compressed`, `endpoint` or `websocket`; or why it is not limited:
    /// `unlimited_key`, `no_limit_applies`, `path` or `method`.
    Reason,
    /// The id of the request's sender, as in the keys of its counters.
    Id,
    /// The configuration's name for the key.
    Name,
    /// The sender's plan.
    Plan,
    /// The sender's group.
    Group,
    /// The model that the request names.
    Model,
    /// What has decided: `local`, `redis`, or `fallback` (this Envoy alone, while Redis did not answer).
    Store,
    /// The limit that refused the request: its owner, its name and its window, such as `group team-a/requests/1m`.
    Limit,
    /// What was used of that limit, in its units; dollars for one on cost.
    Used,
    /// The amount of that limit, in the same units; the burst of a bucket.
    LimitAmount,
    /// Milliseconds until the request fits; none if it never does.
    RetryAfterMs,
    /// Milliseconds that the request has waited until it fitted, or did not.
    WaitedMs,
    /// The limits that are nearly used, by `warn_at`: each as in `limit`, with a comma between them.
    Warning,
    /// The limit in a dry run that would have refused the request, or the reason for which it would have been refused.
    DryRun,
    /// Counted prompt tokens.
    EstimatedInputTokens,
    /// Completion tokens that were reserved.
    ReservedOutputTokens,
    /// Prompt tokens that the request was charged in the end.
    InputTokens,
    /// Completion tokens that the request was charged in the end.
    OutputTokens,
}

impl Field {
    /// Its name in filter state, without `wasm.`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Fields of one request's log line, in the order of their addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFields(Vec<(Field, String)>);

impl LogFields {
    /// Adds a field. Of two values of the same field, the log shows the later.
    pub fn add(&mut self, field: Field, value: impl ToString) {
        self.0.push((field, value.to_string()));
    }

    /// Whether there is no field.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for LogFields {
    type Item = (Field, String);
    type IntoIter = std::vec::IntoIter<(Field, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Extend<(Field, String)> for LogFields {
    fn extend<I: IntoIterator<Item = (Field, String)>>(&mut self, fields: I) {
        self.0.extend(fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator;

    #[test]
    fn every_field_has_its_name() {
        let names: Vec<_> = Field::iter().map(Field::name).collect();
        assert_eq!(
            names,
            [
                "llm_rate_limit.decision",
                "llm_rate_limit.reason",
                "llm_rate_limit.id",
                "llm_rate_limit.name",
                "llm_rate_limit.plan",
                "llm_rate_limit.group",
                "llm_rate_limit.model",
                "llm_rate_limit.store",
                "llm_rate_limit.limit",
                "llm_rate_limit.used",
                "llm_rate_limit.limit_amount",
                "llm_rate_limit.retry_after_ms",
                "llm_rate_limit.waited_ms",
                "llm_rate_limit.warning",
                "llm_rate_limit.dry_run",
                "llm_rate_limit.estimated_input_tokens",
                "llm_rate_limit.reserved_output_tokens",
                "llm_rate_limit.input_tokens",
                "llm_rate_limit.output_tokens",
            ]
        );
    }

    #[test]
    fn fields_keep_their_order() {
        let mut fields = LogFields::default();
        assert!(fields.is_empty());
        fields.add(Field::Decision, "admitted");
        fields.add(Field::InputTokens, 7);
        assert!(!fields.is_empty());
        let fields: Vec<_> = fields.into_iter().collect();
        assert_eq!(fields, [(Field::Decision, "admitted".into()), (Field::InputTokens, "7".into())]);
    }
}
