//! What a request was charged in the end, and on which basis: for the access log, and for metrics.

use super::RequestFacts;
use super::context::Cx;
use super::reservation::{Estimate, FinalCost};
use crate::models::Family;
use crate::policy::Candidates;
use crate::policy::limit::{Cost, Metric};
use crate::quantity::{Units, millionths_label};
use crate::store::local::SharedData;
use crate::telemetry::Basis;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, Direction, Distribution, TokenKind};
use crate::telemetry::stats::Stats;
use crate::usage::Usage;

/// How a request ended, as far as its charge depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    /// The cost that settles its reservation.
    pub(super) cost: FinalCost,
    /// What that rests on.
    pub(super) basis: Basis,
    /// What was reported or counted of its answer.
    pub(super) usage: Option<Usage>,
}

impl Charged {
    /// Nobody knows what it cost.
    pub(super) const AS_RESERVED: Self =
        Self { cost: FinalCost::AsReserved, basis: Basis::Unknown, usage: None };

    /// The upstream did no work for it.
    pub(super) const fn failed(cost: FinalCost) -> Self {
        Self { cost, basis: Basis::Failed, usage: None }
    }
}

/// The tokens and dollars of a request, and what was expected.
pub(super) struct Ended<'a> {
    pub(super) facts: &'a RequestFacts,
    pub(super) charged: Charged,
    /// What it was charged.
    pub(super) cost: Cost,
    /// What was expected of it.
    pub(super) estimate: Estimate,
    /// Whether nothing was reserved for it, because no limit applies.
    pub(super) is_metered: bool,
}

impl Ended<'_> {
    /// Adds to the access log what was measured, and to metrics.
    pub(super) fn report<S: SharedData>(&self, cx: &mut Cx<'_, S>) {
        cx.log(Field::Outcome, self.charged.basis.name());
        // Of a request that is charged nothing, only what was measured is worth a line.
        if self.is_metered && self.charged.basis == Basis::Unknown {
            return;
        }
        self.log(cx);
        self.count(&mut cx.effects.metrics);
    }

    /// The tokens that it has used, if somebody has measured them.
    pub(super) fn measured_tokens(&self) -> Option<u64> {
        let is_known = self.charged.usage.is_some() && self.knows_input();
        is_known.then(|| self.cost.of(Metric::TotalTokens).get())
    }

    /// Whether it is known how large the prompt was, or does not matter.
    fn knows_input(&self) -> bool {
        let Charged { basis, usage, .. } = self.charged;
        let has_reported = usage.is_some_and(|usage| usage.input_tokens.is_some());
        has_reported || basis == Basis::Failed || !self.estimate.is_of_any_size()
    }

    /// What it was charged, as far as that is a number for people to see.
    fn known_cost(&self) -> Cost {
        if self.knows_input() { self.cost } else { self.cost.of_output() }
    }

    fn log<S: SharedData>(&self, cx: &mut Cx<'_, S>) {
        let (Charged { usage, .. }, cost) = (self.charged, self.known_cost());
        // Where nobody has measured tokens, there are none to log: a zero is one that was measured.
        let has_input = usage.is_some_and(|usage| usage.input_tokens.is_some());
        if has_input || !cost.input_tokens.is_zero() {
            cx.log(Field::InputTokens, cost.input_tokens.get());
        }
        if usage.is_some() || !cost.output_tokens.is_zero() {
            cx.log(Field::OutputTokens, cost.output_tokens.get());
        }
        if usage.is_some() && self.knows_input() && is_priced(&self.facts.models, cx) {
            cx.log(Field::CostUsd, millionths_label(cost.cost_micro_usd.get()));
        }
        let Some(Usage { cached_tokens, cache_creation_tokens, reasoning_tokens, .. }) = usage else {
            return;
        };
        for (field, tokens) in [
            (Field::CachedInputTokens, cached_tokens),
            (Field::CacheWriteTokens, cache_creation_tokens),
            (Field::ReasoningTokens, reasoning_tokens),
        ] {
            if let Some(tokens) = tokens {
                cx.log(field, tokens);
            }
        }
    }

    fn count(&self, stats: &mut Stats) {
        let family = Family::of(self.facts.model().unwrap_or_default()).name();
        let (usage, cost, estimate) = (self.charged.usage, self.known_cost(), self.estimate.shown());
        count_tokens(family, &cost, usage.as_ref(), stats);
        if !self.is_metered {
            stats.add(Count::Settled { outcome: self.charged.basis }, 1);
        }
        count_estimate(family, &estimate, stats);
        if let Some(usage) = usage {
            let kind = TokenKind::Output;
            stats.record(Distribution::RequestTokens { kind }, cost.output_tokens.get());
            if !cost.input_tokens.is_zero() {
                let kind = TokenKind::Input;
                stats.record(Distribution::RequestTokens { kind }, cost.input_tokens.get());
            }
            // Weights apply to both, and none is a prompt that nobody has counted.
            let estimated = estimate.input_tokens;
            if usage.input_tokens.is_some() && !estimated.is_zero() {
                let reported = cost.input_tokens;
                for (direction, tokens) in
                    [(Direction::Over, estimated - reported), (Direction::Under, reported - estimated)]
                {
                    stats.add(Count::EstimateErrorTokens { direction, family }, tokens.get());
                }
            }
        }
    }
}

/// Counts the tokens of a request of a model of `family` that was charged `cost`.
pub(super) fn count_tokens(family: &'static str, cost: &Cost, usage: Option<&Usage>, stats: &mut Stats) {
    let reported = |tokens: fn(&Usage) -> Option<u64>| usage.and_then(tokens).unwrap_or_default();
    for (kind, tokens) in [
        (TokenKind::Input, cost.input_tokens.get()),
        (TokenKind::Output, cost.output_tokens.get()),
        (TokenKind::CachedInput, reported(|usage| usage.cached_tokens)),
        (TokenKind::CacheWrite, reported(|usage| usage.cache_creation_tokens)),
        (TokenKind::Reasoning, reported(|usage| usage.reasoning_tokens)),
    ] {
        stats.add(Count::Tokens { kind, family }, tokens);
    }
}

/// Counts the tokens that a request was expected to use: of the same requests as [`count_tokens`].
pub(super) fn count_estimate(family: &'static str, estimate: &Cost, stats: &mut Stats) {
    let kinds = [(TokenKind::Input, estimate.input_tokens), (TokenKind::Output, estimate.output_tokens)];
    for (kind, tokens) in kinds {
        stats.add(Count::EstimatedTokens { kind, family }, Units::get(tokens));
    }
}

/// Whether the configuration has a price for the model that has answered, or for one of the names that it may have.
fn is_priced<S>(models: &Candidates, cx: &Cx<'_, S>) -> bool {
    let has_price = |name: &String| cx.config.price(Some(name)).is_some();
    !matches!(models, Candidates::Any(_)) && models.names().iter().any(has_price)
}
