//! What is limited: metrics, what a request costs in each of them, and limits over windows.
//!
//! Which limits apply to which request is the configuration's business ([`crate::config`]); how a window counts is
//! [`crate::window`]'s.

use crate::window::Window;

/// A quantity that limits are set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Requests; each costs one.
    Requests,
    /// Prompt tokens.
    InputTokens,
    /// Completion tokens, reasoning included.
    OutputTokens,
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
            Self::OutputTokens => "output_tokens",
            Self::TotalTokens => "total_tokens",
            Self::Concurrency => "concurrency",
            Self::CostUsd => "cost_usd",
        }
    }

    /// Whether tokens must be counted to know what a request costs of it.
    pub const fn needs_tokens(self) -> bool {
        match self {
            Self::Requests | Self::Concurrency => false,
            Self::InputTokens | Self::OutputTokens | Self::TotalTokens | Self::CostUsd => true,
        }
    }
}

/// What one request costs, estimated before it is forwarded or measured after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests: one, or none once it has been given back.
    pub requests: u64,
    /// Prompt tokens.
    pub input_tokens: u64,
    /// Completion tokens.
    pub output_tokens: u64,
    /// Millionths of a US dollar.
    pub cost_micro_usd: u64,
}

impl Cost {
    /// The part of this cost that counts towards `metric`.
    pub const fn of(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Requests | Metric::Concurrency => self.requests,
            Metric::InputTokens => self.input_tokens,
            Metric::OutputTokens => self.output_tokens,
            Metric::TotalTokens => self.input_tokens.saturating_add(self.output_tokens),
            Metric::CostUsd => self.cost_micro_usd,
        }
    }
}

/// At most `amount` of `metric` in any window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What the limit is called in the store and in messages: the metric's name, with the model pattern before it
    /// where the limit is a model's (`gpt-4*/requests`).
    pub name: String,
    /// What is counted.
    pub metric: Metric,
    /// The most that any window admits. Zero admits nothing.
    pub amount: u64,
    /// Over which time, and how it is counted.
    pub window: Window,
    /// What becomes of a request that does not fit.
    pub manner: Enforcement,
}

/// What becomes of a request that does not fit under a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforcement {
    /// Whether it is counted and forwarded all the same.
    pub dry_run: bool,
    /// For how long it is held, in milliseconds, if it fits by then. A request that does not fit under several limits
    /// waits for the shortest of their times.
    pub max_wait_ms: u64,
}
