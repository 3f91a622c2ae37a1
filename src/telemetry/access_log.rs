//! Fields of a request for Envoy's access log: filter state under `wasm.llm_rate_limit.*`, which a log format prints
//! with, for example, `%FILTER_STATE(wasm.llm_rate_limit.decision:PLAIN)%` (docs/envoy.md#filter-state).
//!
//! A field's name is its variant's name in snake case. [`crate::session`] sets the values, and the worker writes all
//! fields of a request together, when nothing more comes.

use strum::{EnumIter, IntoStaticStr};

/// The most fields of a line. Of a request that has more, the last in the order of [`Field`] are left out: each costs
/// half a microsecond (docs/envoy.md#host-call-costs).
pub const MAX_FIELDS: usize = 14;

/// A field of the log, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, IntoStaticStr)]
#[strum(prefix = "llm_rate_limit.", serialize_all = "snake_case")]
pub enum Field {
    /// `admitted`, `over_limit`, `unknown_identity`, `uncounted` (forwarded without the store's answer), `no_store`
    /// (answered 503 without it), `refused` (for what it is) or `not_limited`.
    Decision,
    /// Why the request was refused for what it is, or charged as the most that it could be: `unreadable`, `encoding`,
    /// `endpoint` or `upgrade`; whether it fits later, `used_up`, or never, `never_fits`; `client_left` if its client
    /// did before it could be decided; why it is not limited: an [`Unlimited`](super::series::Unlimited); or, of one
    /// that is admitted, that it has the limits of a default because it did not say its own: `unknown_plan`; or that it
    /// goes on over a limit that lets it: `over_limit`.
    Reason,
    /// The id of the request's sender, as in the keys of its counters.
    Id,
    /// The configuration's name for the key, or a bounded and escaped one that the request has said.
    Name,
    /// The sender's plan.
    Plan,
    /// The sender's group.
    Group,
    /// The model that the request names.
    Model,
    /// What has decided: `local`, `redis`, or `fallback` (this Envoy alone, while Redis did not answer).
    Store,
    /// The limit that refused the request, or over which it goes on: its owner, its name and its window, such as `group
    /// team-a/requests/1m`.
    Limit,
    /// What was used of that limit, in its units; dollars for one on cost.
    Used,
    /// The amount of that limit, in the same units; the burst of a bucket.
    LimitAmount,
    /// Milliseconds until the request fits; none if it never does.
    RetryAfterMs,
    /// The limits that are nearly used, by `warn_at`: each as in `limit`, with a comma between them.
    Warning,
    /// The limit in a dry run that would have refused the request, or the reason for which it would have been refused.
    DryRun,
    /// Milliseconds that the request has waited until it fitted, or did not.
    WaitedMs,
    /// How its final charge was found: a [`Basis`](super::Basis).
    Outcome,
    /// Prompt tokens that the request was charged in the end.
    InputTokens,
    /// Completion tokens that the request was charged in the end.
    OutputTokens,
    /// Its cost in dollars, if the model has a price and the tokens were measured.
    CostUsd,
    /// Tokens of the prompt that were read from a cache, as the upstream reported.
    CachedInputTokens,
    /// Tokens of the prompt that were written to a cache, as the upstream reported.
    CacheWriteTokens,
    /// Tokens of the answer that are reasoning, as the upstream reported.
    ReasoningTokens,
    /// Counted prompt tokens.
    EstimatedInputTokens,
    /// Completion tokens that were reserved.
    ReservedOutputTokens,
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

    /// A line of these fields: each once, with its latest value, and at most [`MAX_FIELDS`].
    #[must_use]
    pub fn into_line(self) -> Self {
        let mut line: Vec<(Field, String)> = Vec::with_capacity(self.0.len().min(MAX_FIELDS));
        for (field, value) in self.0 {
            match line.iter_mut().find(|(known, _)| *known == field) {
                Some((_, earlier)) => *earlier = value,
                None => line.push((field, value)),
            }
        }
        while line.len() > MAX_FIELDS {
            let last = line.iter().enumerate().max_by_key(|(_, (field, _))| *field).map(|(at, _)| at);
            line.remove(last.unwrap_or_default());
        }
        Self(line)
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
        let names: Vec<_> = Field::iter().map(|field| field.name().replace("llm_rate_limit.", "")).collect();
        let expected = "decision reason id name plan group model store limit used limit_amount retry_after_ms \
            warning dry_run waited_ms outcome input_tokens output_tokens cost_usd cached_input_tokens \
            cache_write_tokens reasoning_tokens estimated_input_tokens reserved_output_tokens";
        assert_eq!(names.join(" "), expected);
        assert!(Field::iter().all(|field| field.name().starts_with("llm_rate_limit.")));
    }

    #[test]
    fn fields_keep_their_order() {
        let mut fields = LogFields::default();
        assert!(fields.is_empty());
        fields.add(Field::InputTokens, 7);
        fields.add(Field::Decision, "admitted");
        assert!(!fields.is_empty());
        let fields: Vec<_> = fields.into_line().into_iter().collect();
        assert_eq!(fields, [(Field::InputTokens, "7".into()), (Field::Decision, "admitted".into())]);
    }

    #[test]
    fn a_line_has_each_field_once_and_no_more_than_fit() {
        let mut fields = LogFields::default();
        for (at, field) in Field::iter().collect::<Vec<_>>().into_iter().rev().enumerate() {
            fields.add(field, at);
        }
        fields.add(Field::Decision, "latest");
        let line: Vec<_> = fields.into_line().into_iter().collect();
        assert_eq!(line.len(), MAX_FIELDS);
        assert_eq!(line.last(), Some(&(Field::Decision, "latest".into())));
        let kept: Vec<_> = line.into_iter().map(|(field, _)| field).rev().collect();
        assert_eq!(
            kept,
            Field::iter().take(MAX_FIELDS).collect::<Vec<_>>(),
            "the least important are left out"
        );
    }
}
