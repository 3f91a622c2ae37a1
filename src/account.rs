//! One request's account: what it is expected to cost, what was reserved for it, and what replaces that in the end.
//!
//! An account is opened once and closed once: closing consumes it, so that no ending of a request can settle twice.

use crate::limits::{Cost, Limit};
use crate::policy::Applied;
use crate::pricing::Tokens;
use crate::refusal::Standing;
use crate::store::local::Hold;
use crate::window::Fit;
use crate::wire::{Charge, IfAbsent, Settle, WindowState};
use std::sync::Arc;

/// What a request is expected to cost, before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The tokens of its prompt, as they were counted.
    pub tokens: Tokens,
    /// What it costs without any output.
    pub base: Cost,
    /// What it costs with the output that is expected.
    pub full: Cost,
    /// Whether that output is a guess. A guess never refuses a request that could have been admitted, so it gives way
    /// to the limit; a maximum that the request sets does not.
    pub is_guess: bool,
}

impl Estimate {
    /// The estimate of a request without a body.
    pub const REQUEST: Self = {
        let cost = Cost { requests: 1, input_tokens: 0, output_tokens: 0, cost_micro_usd: 0 };
        Self { tokens: Tokens::NONE, base: cost, full: cost, is_guess: false }
    };

    /// Units to reserve under `limit`.
    fn of(&self, limit: &Limit) -> u64 {
        let full = self.full.of(limit.metric);
        if self.is_guess { full.min(limit.amount).max(self.base.of(limit.metric)) } else { full }
    }
}

/// A request that is to be charged: to whom, under which limits, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Unique across the fleet.
    pub id: String,
    /// What the key is called, if it is.
    pub name: Option<String>,
    /// What the request is expected to cost.
    pub estimate: Estimate,
    /// The limits that apply, those of one scope next to each other.
    pub limits: Vec<Applied>,
    /// One per limit, in order.
    pub charges: Vec<Charge>,
}

impl Bill {
    /// Charges `estimate` under `limits` to their owners.
    pub fn new(id: String, name: Option<&str>, limits: Vec<Applied>, estimate: Estimate) -> Self {
        let charge = |applied: &Applied| Charge {
            scope: applied.scope.to_string(),
            identity: applied.identity.to_string(),
            name: applied.limit.name.clone(),
            window: applied.limit.window,
            limit: applied.limit.amount,
            cost: estimate.of(&applied.limit),
            enforced: !applied.dry_run,
        };
        let charges = limits.iter().map(charge).collect();
        Self { id, name: name.map(ToOwned::to_owned), estimate, limits, charges }
    }

    /// The limits that are enforced, or those in a dry run, with the states that the store answered.
    pub fn standings(&self, states: &[WindowState], dry_run: bool) -> Vec<Standing> {
        self.limits
            .iter()
            .zip(&self.charges)
            .zip(states)
            .filter(|((applied, _), _)| applied.dry_run == dry_run)
            .map(|((applied, charge), state)| Standing {
                limit: Arc::clone(&applied.limit),
                owner: applied.owner.clone(),
                cost: charge.cost,
                state: *state,
            })
            .collect()
    }

    /// For how long a request that does not fit under all of `standings` may wait: the shortest time of those limits
    /// that refuse it, in milliseconds.
    pub fn max_wait_ms(standings: &[Standing]) -> u64 {
        let refusing = standings.iter().filter(|standing| standing.state.fit() != Fit::Now);
        refusing.map(|standing| standing.limit.manner.max_wait_ms).min().unwrap_or(0)
    }

    /// The longest that any of the limits lets the request wait, in milliseconds.
    pub fn longest_wait_ms(&self) -> u64 {
        self.limits.iter().map(|applied| applied.limit.manner.max_wait_ms).max().unwrap_or(0)
    }

    /// Whose requests wait in one queue.
    pub fn queue(&self) -> &str {
        self.charges.first().map_or("", |charge| &charge.identity)
    }

    /// The same bill for one of `replicas` Envoys that share the limits between them while they cannot ask each other:
    /// each takes an equal part, at least one, and a request that fits the whole limit fits an unused part.
    pub fn share(&self, replicas: u64) -> Vec<Charge> {
        let part = |charge: &Charge| {
            let limit = charge.limit.checked_div(replicas).unwrap_or(charge.limit).max(charge.limit.min(1));
            let cost = if charge.cost <= charge.limit { charge.cost.min(limit) } else { charge.cost };
            Charge { limit, cost, ..charge.clone() }
        };
        self.charges.iter().map(part).collect()
    }

    /// The charges with what `cost` really was.
    fn priced(&self, cost: &Cost) -> Vec<Charge> {
        let price = |(charge, applied): (&Charge, &Applied)| Charge {
            cost: cost.of(applied.limit.metric),
            ..charge.clone()
        };
        self.charges.iter().zip(&self.limits).map(price).collect()
    }

    /// Undoes whatever the store may have charged for a request that was not forwarded.
    pub fn cancel(&self) -> Settle {
        Settle {
            id: self.id.clone(),
            if_absent: Some(IfAbsent::Charge),
            extend: false,
            charges: self.priced(&Cost::default()),
        }
    }
}

/// Where a forwarded request's reservation is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// In the local store.
    Local(Hold),
    /// In Redis.
    Redis,
    /// Perhaps in Redis: no answer came in time. The local store answered instead, for this Envoy's share.
    LocalInstead(Hold),
    /// Perhaps in Redis: no answer came in time, and the request went ahead uncounted.
    Uncounted,
}

/// The account of a request that was forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    bill: Bill,
    held: Held,
}

/// How an account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The request cost this.
    Cost(Cost),
    /// What it cost cannot be known: what was reserved stays charged.
    AsReserved,
}

impl Closing {
    /// What the request is taken to have cost.
    pub const fn cost(&self, account: &Account) -> Cost {
        match self {
            Self::Cost(cost) => *cost,
            Self::AsReserved => account.bill.estimate.full,
        }
    }
}

/// What closes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// For the local store, if it holds something.
    pub local: Option<(Vec<Charge>, Hold)>,
    /// For the sidecar, if Redis holds something or may.
    pub remote: Option<Settle>,
}

impl Account {
    /// Opens the account of a request that goes ahead.
    pub const fn open(bill: Bill, held: Held) -> Self {
        Self { bill, held }
    }

    /// What was expected.
    pub const fn estimate(&self) -> Estimate {
        self.bill.estimate
    }

    /// Closes it.
    pub fn close(self, closing: Closing) -> Settlement {
        let charges = match closing {
            Closing::Cost(cost) => self.bill.priced(&cost),
            Closing::AsReserved => self.bill.charges,
        };
        let remote =
            |if_absent, charges| Some(Settle { id: self.bill.id, if_absent, extend: false, charges });
        match self.held {
            Held::Local(hold) => Settlement { local: Some((charges, hold)), remote: None },
            Held::Redis | Held::Uncounted => Settlement { local: None, remote: remote(None, charges) },
            // The share was admitted under the limit, so charging it to the fleet late keeps the promise that no
            // window ever exceeds it.
            Held::LocalInstead(hold) => Settlement {
                local: Some((charges.clone(), hold)),
                remote: remote(Some(IfAbsent::Charge), charges),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Manner;
    use crate::limits::Metric;
    use crate::policy::Owner;
    use crate::window::Window;
    use std::num::NonZeroU64;

    fn limit(metric: Metric, amount: u64) -> Applied {
        let window = Window::sliding(NonZeroU64::new(60_000).unwrap());
        let limit =
            Arc::new(Limit { name: metric.name().into(), metric, amount, window, manner: Manner::default() });
        Applied { scope: "scope".into(), identity: "me".into(), owner: Owner::Key, limit, dry_run: false }
    }

    fn bill(limits: Vec<Applied>, output_tokens: u64, is_guess: bool) -> Bill {
        let base = Cost { requests: 1, input_tokens: 30, ..Cost::default() };
        let estimate =
            Estimate { tokens: Tokens::NONE, base, full: Cost { output_tokens, ..base }, is_guess };
        Bill::new("id".into(), None, limits, estimate)
    }

    fn costs(charges: &[Charge]) -> Vec<u64> {
        charges.iter().map(|charge| charge.cost).collect()
    }

    #[test]
    fn a_declared_output_is_reserved_whole_and_a_guess_gives_way_to_the_limit() {
        let limits = || {
            vec![
                limit(Metric::Requests, 1),
                limit(Metric::InputTokens, 10),
                limit(Metric::OutputTokens, 100),
                limit(Metric::TotalTokens, 100),
            ]
        };
        assert_eq!(costs(&bill(limits(), 512, false).charges), [1, 30, 512, 542]);
        assert_eq!(costs(&bill(limits(), 512, true).charges), [1, 30, 100, 100]);
        assert_eq!(costs(&bill(vec![limit(Metric::TotalTokens, 20)], 512, true).charges), [30]);
    }

    #[test]
    fn closing_says_where_to_settle() {
        let close = |held| {
            let cost = Cost { requests: 1, input_tokens: 31, output_tokens: 9, cost_micro_usd: 0 };
            Account::open(bill(vec![limit(Metric::TotalTokens, 100)], 5, true), held)
                .close(Closing::Cost(cost))
        };
        let local = close(Held::Local(Hold::default()));
        assert_eq!(costs(&local.local.unwrap().0), [40]);
        assert_eq!(local.remote, None);
        let redis = close(Held::Redis);
        assert_eq!((redis.local, costs(&redis.remote.as_ref().unwrap().charges)), (None, vec![40]));
        assert_eq!(redis.remote.unwrap().if_absent, None, "settling a reservation again must change nothing");
        let instead = close(Held::LocalInstead(Hold::default()));
        assert!(instead.local.is_some());
        assert_eq!(instead.remote.unwrap().if_absent, Some(IfAbsent::Charge));
        assert_eq!(close(Held::Uncounted).remote.unwrap().if_absent, None);
    }

    #[test]
    fn a_cancelled_bill_charges_nothing_and_forbids_a_late_reservation() {
        let cancel = bill(vec![limit(Metric::Requests, 5)], 5, true).cancel();
        assert_eq!((costs(&cancel.charges), cancel.if_absent), (vec![0], Some(IfAbsent::Charge)));
    }

    #[test]
    fn a_share_is_an_equal_part_in_which_what_fits_the_whole_still_fits() {
        let limits =
            vec![limit(Metric::Requests, 3), limit(Metric::InputTokens, 100), limit(Metric::OutputTokens, 0)];
        let share = bill(limits, 7, false).share(4);
        assert_eq!(share.iter().map(|c| (c.limit, c.cost)).collect::<Vec<_>>(), [(1, 1), (25, 25), (0, 7)]);
    }
}
