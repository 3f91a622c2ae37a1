//! What the filter counts about itself. Envoy shows it as `wasmcustom.llm_rate_limit.*`.

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stat {
    /// Requests that were forwarded under their limits.
    Admitted,
    /// Requests that were answered 429.
    OverLimit,
    /// Requests that were answered 401.
    UnknownIdentity,
    /// Reservations that the store did not answer in time.
    StoreErrors,
    /// Requests that were forwarded uncounted because of that (`on_error: allow`).
    StoreErrorsAllowed,
    /// Requests that were answered 503 because of that (`on_error: deny`).
    StoreErrorsDenied,
    /// Accounts that were closed.
    Settled,
    /// Settlements that were given up because too many waited.
    SettlementsDropped,
    /// Prompt tokens of the accounts that were closed.
    InputTokens,
    /// Completion tokens of the accounts that were closed.
    OutputTokens,
}

impl Stat {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Admitted,
        Self::OverLimit,
        Self::UnknownIdentity,
        Self::StoreErrors,
        Self::StoreErrorsAllowed,
        Self::StoreErrorsDenied,
        Self::Settled,
        Self::SettlementsDropped,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    /// Its name in Envoy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "llm_rate_limit.admitted",
            Self::OverLimit => "llm_rate_limit.over_limit",
            Self::UnknownIdentity => "llm_rate_limit.unknown_identity",
            Self::StoreErrors => "llm_rate_limit.store_errors",
            Self::StoreErrorsAllowed => "llm_rate_limit.store_errors_allowed",
            Self::StoreErrorsDenied => "llm_rate_limit.store_errors_denied",
            Self::Settled => "llm_rate_limit.settled",
            Self::SettlementsDropped => "llm_rate_limit.settlements_dropped",
            Self::InputTokens => "llm_rate_limit.input_tokens",
            Self::OutputTokens => "llm_rate_limit.output_tokens",
        }
    }
}

/// What has been counted since it was last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats([u64; Stat::ALL.len()]);

impl Stats {
    /// Adds `n`.
    pub fn add(&mut self, stat: Stat, n: u64) {
        if let Some(count) = self.0.get_mut(stat as usize) {
            *count = count.saturating_add(n);
        }
    }

    /// What has been counted since this was last asked, zeros left out.
    pub fn take(&mut self) -> impl Iterator<Item = (Stat, u64)> {
        let taken = std::mem::take(&mut self.0);
        Stat::ALL.into_iter().zip(taken).filter(|(_, n)| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stat_has_its_place() {
        assert!(Stat::ALL.iter().enumerate().all(|(at, stat)| *stat as usize == at));
        let mut stats = Stats::default();
        stats.add(Stat::OutputTokens, 2);
        stats.add(Stat::OutputTokens, 3);
        assert_eq!(stats.take().collect::<Vec<_>>(), [(Stat::OutputTokens, 5)]);
        assert_eq!(stats.take().count(), 0);
    }
}
