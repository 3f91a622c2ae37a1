//! Metrics, the cost of a request in each of them, and limits over windows.
//!
//! [`super`] decides which limits apply to which request, and [`crate::window`] how a window counts.

use super::on_limit::{Continuation, OnLimit};
use crate::identity::{Claim, RequestView};
use crate::quantity::{MILLION, Millis, Units};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use strum::{EnumIter, IntoEnumIterator as _};

/// A quantity that can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EnumIter, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests; each costs one.
    Requests,
    /// Prompt tokens.
    InputTokens,
    /// Prompt tokens that are not read from a cache: what Anthropic limits as input tokens per minute
    /// (<https://docs.claude.com/en/api/rate-limits#cache-aware-itpm>).
    UncachedInputTokens,
    /// Completion tokens, reasoning included.
    OutputTokens,
    /// Completion tokens that are reasoning.
    ReasoningTokens,
    /// Prompt and completion tokens together.
    TotalTokens,
    /// Requests in flight. Configured by `max_concurrency`, never as the metric of a window.
    Concurrency,
    /// Cost in millionths of a US dollar.
    CostUsd,
}

impl Metric {
    /// The name used in configuration, store keys, messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::UncachedInputTokens => "uncached_input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::ReasoningTokens => "reasoning_tokens",
            Self::TotalTokens => "total_tokens",
            Self::Concurrency => "concurrency",
            Self::CostUsd => "cost_usd",
        }
    }

    /// The metric of the limit that stores call `name`: that after the pattern of models, if the limit has one.
    pub fn of_limit(name: &str) -> Option<Self> {
        let last = name.rsplit('/').next()?;
        Self::iter().find(|metric| metric.name() == last)
    }

    /// Whether the cost of a request in this metric depends on its tokens.
    pub const fn needs_tokens(self) -> bool {
        match self {
            Self::Requests | Self::Concurrency => false,
            Self::InputTokens
            | Self::UncachedInputTokens
            | Self::OutputTokens
            | Self::ReasoningTokens
            | Self::TotalTokens
            | Self::CostUsd => true,
        }
    }

    /// Whether the cost of a request in this metric depends on its prompt.
    pub const fn is_of_prompt(self) -> bool {
        match self {
            Self::Requests | Self::Concurrency | Self::OutputTokens | Self::ReasoningTokens => false,
            Self::InputTokens | Self::UncachedInputTokens | Self::TotalTokens | Self::CostUsd => true,
        }
    }
}

/// The cost of one request, estimated before it is forwarded or measured after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests: one, or zero if the request was refunded.
    pub requests: Units,
    /// Prompt tokens.
    pub input_tokens: Units,
    /// Prompt tokens that are not read from a cache.
    pub uncached_input_tokens: Units,
    /// Completion tokens.
    pub output_tokens: Units,
    /// Completion tokens that are reasoning.
    pub reasoning_tokens: Units,
    /// Millionths of a US dollar.
    pub cost_micro_usd: Units,
}

impl Cost {
    /// No cost.
    pub const NOTHING: Self = Self {
        requests: Units::ZERO,
        input_tokens: Units::ZERO,
        uncached_input_tokens: Units::ZERO,
        output_tokens: Units::ZERO,
        reasoning_tokens: Units::ZERO,
        cost_micro_usd: Units::ZERO,
    };

    /// The part of this cost that counts towards `metric`.
    pub fn of(&self, metric: Metric) -> Units {
        match metric {
            Metric::Requests | Metric::Concurrency => self.requests,
            Metric::InputTokens => self.input_tokens,
            Metric::UncachedInputTokens => self.uncached_input_tokens,
            Metric::OutputTokens => self.output_tokens,
            Metric::ReasoningTokens => self.reasoning_tokens,
            Metric::TotalTokens => self.input_tokens + self.output_tokens,
            Metric::CostUsd => self.cost_micro_usd,
        }
    }

    /// The part of this cost that is tokens of the output.
    #[must_use]
    pub fn of_output(&self) -> Self {
        Self { output_tokens: self.output_tokens, ..Self::default() }
    }

    /// The larger of both, of each kind.
    #[must_use]
    pub fn or_more(&self, other: &Self) -> Self {
        self.of_each(other, Units::max)
    }

    /// The smaller of both, of each kind.
    #[must_use]
    pub fn at_most(&self, other: &Self) -> Self {
        self.of_each(other, Units::min)
    }

    fn of_each(&self, other: &Self, choose: fn(Units, Units) -> Units) -> Self {
        Self {
            requests: choose(self.requests, other.requests),
            input_tokens: choose(self.input_tokens, other.input_tokens),
            uncached_input_tokens: choose(self.uncached_input_tokens, other.uncached_input_tokens),
            output_tokens: choose(self.output_tokens, other.output_tokens),
            reasoning_tokens: choose(self.reasoning_tokens, other.reasoning_tokens),
            cost_micro_usd: choose(self.cost_micro_usd, other.cost_micro_usd),
        }
    }
}

/// At most `amount` of `metric` in any window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The limit's name in the store and in messages: the metric's name, after the model pattern if the limit has one
    /// (`gpt-4*/requests`).
    pub name: Arc<str>,
    /// The quantity that is limited.
    pub metric: Metric,
    /// The most that any window admits. Zero admits nothing.
    pub amount: Units,
    /// The window over which the limit holds.
    pub window: Window,
    /// What happens near the limit and beyond it.
    pub enforcement: Enforcement,
    /// How a request may say another amount, for itself; the counter is the same.
    pub allowance: Option<Arc<Allowance>>,
}

/// How requests say the amount of a limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The place in the request.
    pub claim: Arc<Claim>,
    /// The most that it may be, in the limit's units.
    pub max: Units,
    /// The units in one of what the request says.
    pub scale: u64,
    /// Whether the burst of a bucket is the same amount.
    pub is_burst: bool,
}

impl Allowance {
    /// The amount that `request` says, at most the largest; none if it says no number, or one below zero.
    pub fn amount(&self, request: &dyn RequestView) -> Option<Units> {
        self.claim.read(request)?.amount(self.scale, self.max.get()).map(Units::new)
    }
}

impl Limit {
    /// The same limit on another amount.
    pub(super) fn with_amount(&self, amount: Units) -> Self {
        let is_burst = self.allowance.as_ref().is_some_and(|allowance| allowance.is_burst);
        let window = if is_burst { Window::token_bucket(self.window.length, amount) } else { self.window };
        Self { amount, window, ..self.clone() }
    }

    /// The use from which on it is worth a warning, if there is one.
    pub fn warns_from(&self) -> Option<Units> {
        Some(self.enforcement.warn_at?.of(self.window.capacity(self.amount)))
    }
}

/// A part of a limit, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(u64);

impl Part {
    /// So many millionths.
    pub const fn of_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// This part of `whole`, rounded up, and at least one unit.
    pub fn of(self, whole: Units) -> Units {
        // 64 bits times 64 bits fit 128.
        let part = (u128::from(whole.get()) * u128::from(self.0)).div_ceil(u128::from(MILLION));
        Units::new(u64::try_from(part).unwrap_or(u64::MAX).max(1))
    }
}

/// What happens near a limit, and to a request that does not fit under it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// Whether the request is counted and forwarded all the same.
    pub dry_run: bool,
    /// The longest that the request may wait until it fits, if it may wait.
    pub max_wait: Millis,
    /// What becomes of the request.
    pub on_limit: OnLimit,
    /// The part of the limit from which on its use is worth a warning.
    pub warn_at: Option<Part>,
}

impl Enforcement {
    /// How long a request waits until it fits. If it does not fit under several limits, the shortest of their waits
    /// counts.
    pub fn wait(&self) -> Millis {
        match self.on_limit {
            OnLimit::Wait => self.max_wait,
            OnLimit::Refuse | OnLimit::Continue(_) => Millis::ZERO,
        }
    }

    /// How a request goes on that does not fit; none if it does not go on, or is in a dry run.
    pub fn continues(&self) -> Option<&Arc<Continuation>> {
        match &self.on_limit {
            OnLimit::Continue(how) if !self.dry_run => Some(how),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::MAX_EXACT;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_part_is_the_least_that_is_not_below_it(whole in 1..=MAX_EXACT, millionths in 1..=MILLION) {
            let part = u128::from(Part::of_millionths(millionths).of(Units::new(whole)).get());
            let exact = u128::from(whole) * u128::from(millionths);
            prop_assert!(part * u128::from(MILLION) >= exact);
            prop_assert!(part == 1 || (part - 1) * u128::from(MILLION) < exact);
            prop_assert!(part <= u128::from(whole));
        }
    }
}
