//! One request's account: what it is expected to cost, what was reserved for it, and what replaces that in the end.
//!
//! An account is opened once and closed once: closing consumes it, so that no ending of a request can settle twice.

use crate::policy::Applied;
use crate::policy::limit::{Cost, Limit};
use crate::policy::status::LimitStatus;
use crate::pricing::Tokens;
use crate::quantity::{Millis, Units};
use crate::store::local::Receipt;
use crate::store::wire::{Charge, IfAbsent, ScopeCharges, Settle};
use crate::window::{Algorithm, Fit, Window, WindowState};
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
    /// Whether the prompt was counted only until it was more than its limits ever admit: it is larger than this says.
    pub is_partial: bool,
}

impl Estimate {
    /// The estimate of a request without a body.
    pub const REQUEST: Self = {
        let cost = Cost {
            requests: Units::new(1),
            input_tokens: Units::ZERO,
            output_tokens: Units::ZERO,
            cost_micro_usd: Units::ZERO,
        };
        Self { tokens: Tokens::NONE, base: cost, full: cost, is_guess: false, is_partial: false }
    };

    /// Units to reserve under `limit`.
    fn of(&self, limit: &Limit) -> Units {
        let full = self.full.of(limit.metric);
        if self.is_guess { full.min(limit.amount).max(self.base.of(limit.metric)) } else { full }
    }
}

/// A request that is to be charged: to whom, under which limits, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Unique across the fleet.
    pub id: String,
    /// What the key is called, if it is.
    pub name: Option<String>,
    /// What the request is expected to cost.
    pub estimate: Estimate,
    /// The limits that apply.
    pub limits: Vec<Applied>,
    /// One charge per limit, in order.
    pub charges: Vec<ScopeCharges>,
}

impl Reservation {
    /// Charges `estimate` under `limits` to their owners.
    pub fn new(id: String, name: Option<&str>, limits: Vec<Applied>, estimate: Estimate) -> Self {
        let charge = |applied: &Applied| Charge {
            identity: applied.identity.to_string(),
            name: applied.limit.name.clone(),
            window: applied.limit.window,
            limit: applied.limit.amount,
            cost: estimate.of(&applied.limit),
            enforced: !applied.dry_run,
        };
        let charges = ScopeCharges::group(limits.iter().map(|applied| (&*applied.scope, charge(applied))));
        Self { id, name: name.map(ToOwned::to_owned), estimate, limits, charges }
    }

    /// The limits that are enforced, or those in a dry run, as they were `reserved` (whole, or this Envoy's share),
    /// with the states that the store answered.
    pub fn standings(
        &self,
        reserved: &[ScopeCharges],
        states: &[WindowState],
        dry_run: bool,
    ) -> Vec<LimitStatus> {
        self.limits
            .iter()
            .zip(ScopeCharges::flat(reserved))
            .zip(states)
            .filter(|((applied, _), _)| applied.dry_run == dry_run)
            .map(|((applied, charge), state)| LimitStatus {
                limit: if charge.limit == applied.limit.amount {
                    Arc::clone(&applied.limit)
                } else {
                    Arc::new(Limit { amount: charge.limit, ..(*applied.limit).clone() })
                },
                owner: applied.owner.clone(),
                cost: charge.cost,
                state: *state,
            })
            .collect()
    }

    /// For how long a request that does not fit under all of `standings` may wait: the shortest time of those limits
    /// that refuse it, in milliseconds.
    pub fn max_wait_ms(standings: &[LimitStatus]) -> u64 {
        let refusing = standings.iter().filter(|standing| standing.state.fit != Fit::Now);
        refusing.map(|standing| standing.limit.enforcement.max_wait.get()).min().unwrap_or(0)
    }

    /// The longest that any of the limits lets the request wait, in milliseconds.
    pub fn longest_wait_ms(&self) -> u64 {
        self.limits.iter().map(|applied| applied.limit.enforcement.max_wait.get()).max().unwrap_or(0)
    }

    /// Whose requests wait in one queue.
    pub fn queue(&self) -> &str {
        ScopeCharges::flat(&self.charges).next().map_or("", |charge| &charge.identity)
    }

    /// The same bill for one of `replicas` Envoys that share the limits between them while they cannot ask each other:
    /// each takes an equal part, at least one, and a request that fits the whole limit fits an unused part.
    pub fn share(&self, replicas: u64) -> Vec<ScopeCharges> {
        let divided = |units: Units| (units / replicas).max(units.min(Units::new(1)));
        ScopeCharges::changed(&self.charges, |charge| {
            let fits_whole = charge.cost <= charge.window.capacity(charge.limit);
            charge.limit = divided(charge.limit);
            if let Algorithm::TokenBucket { burst } = &mut charge.window.algorithm {
                *burst = divided(*burst);
            }
            if fits_whole {
                charge.cost = charge.cost.min(charge.window.capacity(charge.limit));
            }
        })
    }

    /// The charges with what `cost` really was.
    fn priced(&self, cost: &Cost) -> Vec<ScopeCharges> {
        self.with_costs(self.limits.iter().map(|applied| cost.of(applied.limit.metric)))
    }

    /// The charges with these costs, in order.
    fn with_costs(&self, costs: impl IntoIterator<Item = Units>) -> Vec<ScopeCharges> {
        let mut costs = costs.into_iter();
        ScopeCharges::changed(&self.charges, |charge| charge.cost = costs.next().unwrap_or(charge.cost))
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
pub enum HeldIn {
    /// In the local store.
    Local(Receipt),
    /// In Redis.
    Redis,
    /// Perhaps in Redis: no answer came in time. The local store answered instead, for this Envoy's share.
    LocalInstead(Receipt),
    /// Perhaps in Redis: no answer came in time, and the request went ahead uncounted.
    Uncounted,
}

/// The account of a request that was forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReservation {
    bill: Reservation,
    held: HeldIn,
    /// Per charge, the most that the store has been told.
    told: Vec<Units>,
    /// When it was told so, in milliseconds.
    told_ms: u64,
}

/// What a running request costs beyond what the store has been told.
#[derive(Debug)]
pub struct Extension<'a> {
    /// All that it costs so far.
    pub charges: Vec<ScopeCharges>,
    /// Where the local store holds its reservation, if it does.
    pub local: Option<&'a mut Receipt>,
    /// For the sidecar, if Redis holds the reservation.
    pub remote: Option<Settle>,
}

/// How an account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalCost {
    /// The request cost this.
    Cost(Cost),
    /// What it cost cannot be known: what was reserved stays charged.
    AsReserved,
}

impl FinalCost {
    /// What the request is taken to have cost.
    pub const fn cost(&self, account: &OpenReservation) -> Cost {
        match self {
            Self::Cost(cost) => *cost,
            Self::AsReserved => account.bill.estimate.full,
        }
    }
}

/// What closes an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// For the local store, if it holds something that is to be changed.
    pub local: Option<(Vec<ScopeCharges>, Receipt)>,
    /// For the sidecar, if Redis holds something or may.
    pub remote: Option<Settle>,
}

impl OpenReservation {
    /// Opens the account of a request that goes ahead.
    pub fn open(bill: Reservation, held: HeldIn, now_ms: u64) -> Self {
        let told = ScopeCharges::flat(&bill.charges).map(|charge| charge.cost).collect();
        Self { bill, held, told, told_ms: now_ms }
    }

    /// Its reservation's id.
    pub fn id(&self) -> &str {
        &self.bill.id
    }

    /// Whether it holds slots that must be renewed while the request runs.
    pub fn has_leases(&self) -> bool {
        self.leases().next().is_some()
    }

    /// Whether a third of its shortest lease is over since the store was told that the request runs.
    pub fn is_to_be_renewed(&self, now_ms: u64) -> bool {
        let shortest = self.leases().map(|window| window.length.get()).min();
        shortest.is_some_and(|length| Millis::new(now_ms) >= Millis::new(self.told_ms) + length / 3)
    }

    fn leases(&self) -> impl Iterator<Item = Window> {
        let windows = self.bill.limits.iter().map(|applied| applied.limit.window);
        windows.filter(|window| window.algorithm == Algorithm::Concurrency)
    }

    /// Whether a request that costs `cost` by now has outgrown what the store was told.
    pub fn is_outgrown_by(&self, cost: &Cost) -> bool {
        self.bill.limits.iter().zip(&self.told).any(|(applied, told)| cost.of(applied.limit.metric) > *told)
    }

    /// Tells the store that the request costs `cost` by now, and that it still runs. What it was told before stands.
    pub fn extend(&mut self, cost: &Cost, now_ms: u64) -> Extension<'_> {
        self.told_ms = now_ms;
        for (applied, told) in self.bill.limits.iter().zip(&mut self.told) {
            *told = cost.of(applied.limit.metric).max(*told);
        }
        let charges = self.told_charges();
        let settle =
            Settle { id: self.bill.id.clone(), if_absent: None, extend: true, charges: charges.clone() };
        let (local, remote) = match &mut self.held {
            HeldIn::Local(hold) | HeldIn::LocalInstead(hold) => (Some(hold), None),
            HeldIn::Redis => (None, Some(settle)),
            HeldIn::Uncounted => (None, None),
        };
        Extension { charges, local, remote }
    }

    fn told_charges(&self) -> Vec<ScopeCharges> {
        self.bill.with_costs(self.told.iter().copied())
    }

    /// What was expected.
    pub const fn estimate(&self) -> Estimate {
        self.bill.estimate
    }

    /// Closes it.
    pub fn close(self, closing: FinalCost) -> Settlement {
        let charges = match closing {
            FinalCost::Cost(cost) => self.bill.priced(&cost),
            FinalCost::AsReserved => self.told_charges(),
        };
        let costs = ScopeCharges::flat(&charges).map(|charge| &charge.cost);
        let is_as_told = costs.eq(&self.told) && !self.has_leases();
        let remote =
            |if_absent, charges| Some(Settle { id: self.bill.id, if_absent, extend: false, charges });
        match self.held {
            // Nothing is to be changed.
            HeldIn::Local(_) if is_as_told => Settlement { local: None, remote: None },
            HeldIn::Local(hold) => Settlement { local: Some((charges, hold)), remote: None },
            HeldIn::Redis | HeldIn::Uncounted => Settlement { local: None, remote: remote(None, charges) },
            // The share was admitted under the limit, so charging it to the fleet late keeps the promise that no
            // window ever exceeds it.
            HeldIn::LocalInstead(hold) => Settlement {
                local: Some((charges.clone(), hold)),
                remote: remote(Some(IfAbsent::Charge), charges),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Owner;
    use crate::policy::limit::Enforcement;
    use crate::policy::limit::Metric;
    use crate::quantity::NonZeroMillis;
    use crate::window::Window;

    fn limit(metric: Metric, amount: u64) -> Applied {
        let window = Window::sliding(NonZeroMillis::MINUTE);
        let limit = Arc::new(Limit {
            name: metric.name().into(),
            metric,
            amount: Units::new(amount),
            window,
            enforcement: Enforcement::default(),
        });
        Applied { scope: "scope".into(), identity: "me".into(), owner: Owner::Key, limit, dry_run: false }
    }

    fn bill(limits: Vec<Applied>, output_tokens: u64, is_guess: bool) -> Reservation {
        let base = Cost { requests: Units::new(1), input_tokens: Units::new(30), ..Cost::default() };
        let estimate = Estimate {
            base,
            full: Cost { output_tokens: Units::new(output_tokens), ..base },
            is_guess,
            ..Estimate::REQUEST
        };
        Reservation::new("id".into(), None, limits, estimate)
    }

    fn costs(charges: &[ScopeCharges]) -> Vec<u64> {
        ScopeCharges::flat(charges).map(|charge| charge.cost.get()).collect()
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
            let [requests, input_tokens, output_tokens] = [1, 31, 9].map(Units::new);
            let cost = Cost { requests, input_tokens, output_tokens, ..Cost::default() };
            OpenReservation::open(bill(vec![limit(Metric::TotalTokens, 100)], 5, true), held, 0)
                .close(FinalCost::Cost(cost))
        };
        let as_reserved = OpenReservation::open(
            bill(vec![limit(Metric::Requests, 5)], 5, true),
            HeldIn::Local(Receipt::default()),
            0,
        );
        assert_eq!(as_reserved.close(FinalCost::AsReserved), Settlement { local: None, remote: None });
        let local = close(HeldIn::Local(Receipt::default()));
        assert_eq!(costs(&local.local.unwrap().0), [40]);
        assert_eq!(local.remote, None);
        let redis = close(HeldIn::Redis);
        assert_eq!((redis.local, costs(&redis.remote.as_ref().unwrap().charges)), (None, vec![40]));
        assert_eq!(redis.remote.unwrap().if_absent, None, "settling a reservation again must change nothing");
        let instead = close(HeldIn::LocalInstead(Receipt::default()));
        assert!(instead.local.is_some());
        assert_eq!(instead.remote.unwrap().if_absent, Some(IfAbsent::Charge));
        assert_eq!(close(HeldIn::Uncounted).remote.unwrap().if_absent, None);
    }

    #[test]
    fn a_running_request_tells_what_it_has_outgrown() {
        let mut account =
            OpenReservation::open(bill(vec![limit(Metric::OutputTokens, 100)], 5, false), HeldIn::Redis, 0);
        let output = |output_tokens| Cost { output_tokens: Units::new(output_tokens), ..Cost::default() };
        assert!(!account.is_outgrown_by(&output(5)) && account.is_outgrown_by(&output(6)));
        let settle = account.extend(&output(9), 0).remote.unwrap();
        assert_eq!((costs(&settle.charges), settle.extend), (vec![9], true));
        assert!(!account.is_outgrown_by(&output(9)));
        assert_eq!(costs(&account.extend(&output(0), 0).charges), [9], "what was told stands");
        assert_eq!(costs(&account.close(FinalCost::AsReserved).remote.unwrap().charges), [9]);
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
        let bill = bill(limits, 7, false);
        let share = bill.share(4);
        let limits_and_costs = ScopeCharges::flat(&share).map(|c| (c.limit.get(), c.cost.get()));
        assert_eq!(limits_and_costs.collect::<Vec<_>>(), [(1, 1), (25, 25), (0, 7)]);
        let states = [WindowState { used: Units::ZERO, reset: Millis::ZERO, fit: Fit::Now }; 3];
        let told = bill.standings(&share, &states, false);
        assert_eq!(
            told.iter().map(|s| (s.limit.amount.get(), s.cost.get())).collect::<Vec<_>>(),
            [(1, 1), (25, 25), (0, 7)]
        );
    }

    #[test]
    fn a_share_of_a_bucket_has_its_part_of_the_burst() {
        let mut bucket = limit(Metric::OutputTokens, 100);
        Arc::make_mut(&mut bucket.limit).window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(8));
        let share = bill(vec![bucket], 6, false).share(4).remove(0).charges.remove(0);
        assert_eq!(share.window.capacity(share.limit), 2, "the burst is shared too");
        assert_eq!((share.limit, share.cost), (Units::new(25), Units::new(2)));
    }
}
