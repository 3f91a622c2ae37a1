//! One request's reservation: the expected cost, the units reserved for it under each limit, and the real cost that
//! replaces them in the end.
//!
//! A reservation opens when its request is forwarded. [`OpenReservation::settlement`] consumes it, so that a request
//! settles once, however it ends.

use super::background::{Record, RecordLine};
use crate::config::Accounting;
use crate::policy::limit::{Cost, Limit, Metric};
use crate::policy::on_limit::Continuation;
use crate::policy::status::LimitStatus;
use crate::policy::{Applied, Candidates, Owner};
use crate::pricing::Tokens;
use crate::quantity::{MAX_EXACT, Millis, Units};
use crate::store::local::SharedData;
use crate::store::wire::{Charge, ScopeCharges};
use crate::store::{Extended, HeldIn, Settlement, Stores};
use crate::tokens::Wants;
use crate::usage::learned_prompt::Cell;
use crate::window::{Algorithm, Fit, Window, WindowState};
use std::num::NonZeroU32;
use std::sync::Arc;

/// The expected cost of a request, before it is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The tokens of the prompt, corrected by what earlier answers reported.
    pub tokens: Tokens,
    /// The cost with no more output than the request certainly may have, and a prompt no larger than it counts.
    pub base: Cost,
    /// The cost with the expected output.
    pub full: Cost,
    /// How sure that is.
    pub certainty: Certainty,
    /// Whether counting stopped because the limits never admit such a prompt: the prompt has more tokens than this.
    pub is_partial: bool,
    /// What the answer can teach something about.
    pub counted: Option<PromptCount>,
    /// What the client wants of the answer.
    pub wants: Wants,
}

/// The count of a prompt by the rules alone, with which the usage in its answer compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptCount {
    /// The prompt's model and kind.
    pub cell: Cell,
    /// Its tokens.
    pub tokens: u64,
}

/// How sure an expected cost is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The request says it, but for what is learned about the count of its prompt.
    Declared,
    /// Its output is a guess. What is guessed or learned never refuses a request that could have been admitted, so it
    /// gives way to the limit; a maximum that the request sets does not.
    Guess,
    /// Nothing is known: it is the most that it could be, and gives way to the limit as a whole.
    Unknown,
}

impl Estimate {
    /// The estimate of a request without a body.
    pub const REQUEST: Self = {
        let cost = Cost { requests: Units::new(1), ..Cost::NOTHING };
        Self {
            tokens: Tokens::NONE,
            base: cost,
            full: cost,
            certainty: Certainty::Declared,
            is_partial: false,
            counted: None,
            wants: Wants::NOTHING,
        }
    };

    /// Whether its prompt may be of any size: nobody could read it, and no limit bounds it.
    pub const fn is_of_any_size(&self) -> bool {
        self.tokens.input >= MAX_EXACT
    }

    /// What was counted, for people to see.
    pub fn shown(&self) -> Cost {
        if self.is_of_any_size() { self.full.of_output() } else { self.full }
    }

    /// Units to reserve under `limit`.
    fn of(&self, limit: &Limit) -> Units {
        let full = self.full.of(limit.metric);
        let most = limit.window.capacity(limit.amount);
        match self.certainty {
            Certainty::Declared | Certainty::Guess => full.min(most).max(self.base.of(limit.metric)),
            // A limit that admits nothing admits nothing unknown.
            Certainty::Unknown => full.min(most.max(Units::new(1))),
        }
    }

    /// The larger of each cost of two models that the same request may be for.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        let (larger, smaller) =
            if other.tokens.input > self.tokens.input { (other, self) } else { (self, other) };
        Self {
            base: larger.base.or_more(&smaller.base),
            full: larger.full.or_more(&smaller.full),
            is_partial: larger.is_partial || smaller.is_partial,
            ..larger
        }
    }
}

/// The part of each limit that a reservation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The whole limit: the store counts for the whole fleet.
    Whole,
    /// An equal part for each of so many Envoys, while they cannot count together.
    Of(NonZeroU32),
}

impl Share {
    /// The share's part of `units`: at least one, unless there are none.
    fn of(self, units: Units) -> Units {
        match self {
            Self::Whole => units,
            Self::Of(replicas) => (units / u64::from(replicas.get())).max(units.min(Units::new(1))),
        }
    }
}

/// What a limit does to one request that does not fit under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// It refuses the request, at once or after a wait.
    Refuse,
    /// It makes the request one for another model, which is reserved anew.
    FallBack,
    /// It admits the request, and charges it.
    Continue,
    /// It is in a dry run: it admits and charges the request, and says that it would have refused it.
    Report,
}

/// A limit that applies to a request, with the units reserved under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The limit and its counter.
    pub applied: Applied,
    /// The units to reserve before the request is forwarded. Beyond [`MAX_EXACT`] they count as that.
    pub cost: Units,
    /// The units charged so far: the reserved ones, and those of extensions.
    pub charged: Units,
    /// What it does if the request does not fit.
    pub at_limit: AtLimit,
    /// Whether the limit turned out to be that of another model, so that its units are given back in the end.
    is_of_another: bool,
}

impl Line {
    fn new(applied: Applied, estimate: &Estimate) -> Self {
        let cost = estimate.of(&applied.limit);
        let at_limit = if applied.dry_run { AtLimit::Report } else { AtLimit::Refuse };
        Self { applied, cost, charged: cost, at_limit, is_of_another: false }
    }

    /// Whether no window ever has room for it, however empty it is. A slot is free again whatever the request costs.
    fn never_fits(&self) -> bool {
        let limit = &self.applied.limit;
        limit.metric != Metric::Concurrency && self.cost > limit.window.capacity(limit.amount)
    }

    /// A charge of `cost` units. Clients choose caps and upstreams report usage, in numbers of any size, and weights,
    /// prices and sums multiply them. No store takes more than [`MAX_EXACT`], so this cuts whatever goes to one.
    fn charge(&self, cost: Units) -> (Arc<str>, Charge) {
        let Applied { scope, identity, limit, .. } = &self.applied;
        let cost = cost.min(Units::new(MAX_EXACT));
        let charge = Charge {
            identity: Arc::clone(identity),
            name: Arc::clone(&limit.name),
            window: limit.window,
            limit: limit.amount,
            cost,
            enforced: self.at_limit == AtLimit::Refuse,
            warn_at: limit.warns_from(),
        };
        (Arc::clone(scope), charge)
    }

    /// The charge of the reserved units under `share` of the limit. A request that fits the whole limit fits an unused
    /// share too.
    fn share(&self, share: Share) -> (Arc<str>, Charge) {
        let (scope, whole) = self.charge(self.cost);
        // A request that is to fall back must not be charged under this limit too.
        let enforced = matches!(self.at_limit, AtLimit::Refuse | AtLimit::FallBack);
        let whole = Charge { enforced, ..whole };
        let Share::Of(_) = share else { return (scope, whole) };
        let limit = share.of(whole.limit);
        let mut window = whole.window;
        if let Algorithm::TokenBucket { burst } = &mut window.algorithm {
            *burst = share.of(*burst);
        }
        let fits_whole = self.cost <= whole.window.capacity(whole.limit);
        let cost = if fits_whole { whole.cost.min(window.capacity(limit)) } else { whole.cost };
        (scope, Charge { limit, window, cost, warn_at: None, ..whole })
    }

    /// The limit with the `state` of its counter, for the client. Under a share, the client sees the share.
    pub(super) fn status(&self, share: Share, state: WindowState) -> LimitStatus {
        let fit = if self.never_fits() { Fit::Never } else { state.fit };
        let state = WindowState { fit, ..state };
        let (_, charge) = self.share(share);
        let whole = &self.applied.limit;
        let limit = if charge.limit == whole.amount {
            Arc::clone(whole)
        } else {
            Arc::new(Limit { amount: charge.limit, ..Limit::clone(whole) })
        };
        LimitStatus { limit, owner: self.applied.owner.clone(), cost: charge.cost, state }
    }
}

/// The units to reserve for a request, under each of its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// An id that no other reservation of the fleet has.
    pub id: String,
    /// The key's name, if it has one.
    pub name: Option<String>,
    /// The expected cost.
    pub estimate: Estimate,
    /// The limits that apply.
    pub lines: Vec<Line>,
    /// How many identities like the request's may get counters in a second, if that is bounded.
    pub max_new_identities: Option<NonZeroU32>,
    /// Whether the request will cost just that, if it is served.
    pub is_final: bool,
    /// The id by which Envoy knows the request, for the sidecar's log.
    pub request_id: Option<Arc<str>>,
}

impl Reservation {
    /// A reservation of `estimate` under `limits`.
    pub fn new(
        id: String,
        name: Option<&str>,
        limits: impl IntoIterator<Item = Applied>,
        estimate: Estimate,
    ) -> Self {
        let lines = limits.into_iter().map(|applied| Line::new(applied, &estimate)).collect();
        let name = name.map(ToOwned::to_owned);
        Self { id, name, estimate, lines, max_new_identities: None, is_final: false, request_id: None }
    }

    /// The same reservation, for an identity like which so many may get counters in a second.
    #[must_use]
    pub fn bounded(self, max_new_identities: Option<NonZeroU32>) -> Self {
        Self { max_new_identities, ..self }
    }

    /// The same reservation, of the request that Envoy knows by this id.
    #[must_use]
    pub fn of_request(self, request_id: Option<Arc<str>>) -> Self {
        Self { request_id, ..self }
    }

    /// The same reservation, by an `accounting` that may give requests back when the answer is an error. Where only
    /// requests are limited, and it does not, the cost is final.
    #[must_use]
    pub fn under(self, accounting: &Accounting) -> Self {
        let counts_requests = self.lines.iter().all(|line| line.applied.limit.metric == Metric::Requests);
        Self { is_final: counts_requests && !accounting.refund_requests_on_error, ..self }
    }

    /// The same reservation, of a request that goes on over the limits that let it: `at_limit` says how, of each.
    #[must_use]
    pub fn continuing(mut self, at_limit: impl Fn(&Continuation) -> AtLimit) -> Self {
        for line in &mut self.lines {
            if let Some(how) = line.applied.continues() {
                line.at_limit = at_limit(how);
            }
        }
        self
    }

    /// The charges of the reserved units under `share` of the limits.
    pub fn charges(&self, share: Share) -> Vec<ScopeCharges> {
        ScopeCharges::group(self.lines.iter().map(|line| line.share(share)))
    }

    /// The status of each limit that does one of `which`. `states` are the store's answer to [`Reservation::charges`].
    pub fn statuses(&self, share: Share, states: &[WindowState], which: &[AtLimit]) -> Vec<LimitStatus> {
        let limits = self.lines.iter().zip(states);
        limits
            .filter(|(line, _)| which.contains(&line.at_limit))
            .map(|(line, state)| line.status(share, *state))
            .collect()
    }

    /// Whether a limit that refuses never has room for the request. No store need say so.
    pub fn never_fits(&self) -> bool {
        self.lines.iter().any(|line| line.at_limit == AtLimit::Refuse && line.never_fits())
    }

    /// The status of each limit that refuses, as far as it is known without an answer of the store: only whether
    /// the request ever fits.
    pub fn statuses_without_answer(&self) -> Vec<LimitStatus> {
        let unknown =
            WindowState { used: Units::ZERO, reset: Millis::ZERO, fit: Fit::Now, granted: Units::ZERO };
        self.statuses(Share::Whole, &vec![unknown; self.lines.len()], &[AtLimit::Refuse])
    }

    /// How long a request may wait until it fits under all of `statuses`: the shortest wait of the limits under which
    /// it does not fit.
    pub fn max_wait(statuses: &[LimitStatus]) -> Millis {
        let refusing = statuses.iter().filter(|status| status.state.fit != Fit::Now);
        refusing.map(|status| status.limit.enforcement.wait()).min().unwrap_or_default()
    }

    /// The longest wait that any of the limits allows.
    pub fn longest_wait(&self) -> Millis {
        self.lines.iter().map(|line| line.applied.limit.enforcement.wait()).max().unwrap_or_default()
    }

    /// The identity in the queue of which the request waits.
    pub fn queue(&self) -> &str {
        self.lines.first().map_or("", |line| &line.applied.identity)
    }

    /// Whether Redis may charge the counters that new identities share instead of the identity's own.
    pub const fn may_share(&self) -> bool {
        self.max_new_identities.is_some()
    }

    /// The reservation's id, with charges of zero units: settling them undoes what the store may have charged.
    pub fn cancellation(&self) -> (String, Vec<ScopeCharges>) {
        let nothing = self.lines.iter().map(|line| line.charge(Units::ZERO));
        (self.id.clone(), ScopeCharges::group(nothing))
    }
}

/// The reservation of a request that was forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReservation {
    reservation: Reservation,
    held: HeldIn,
    /// When the leases of the request were last renewed.
    renewed: Millis,
    /// Whether an earlier attempt to reserve had no answer, so that Redis may have charged the counters that new
    /// identities share as well.
    may_share: bool,
}

/// The cost that settles a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalCost {
    /// The real cost.
    Cost(Cost),
    /// The real cost is known in part. The larger of the two stays charged, of the second no more than was reserved.
    Between {
        /// The known part of it.
        least: Cost,
        /// The cost of half of such requests.
        likely: Cost,
    },
    /// The real cost is unknown: the units charged so far stay charged.
    AsReserved,
    /// The upstream refused the sender: the cost stays with the limits of the sender's key, and those that it shares
    /// with others get all of it back.
    OfSender(Cost),
}

impl FinalCost {
    /// Nothing, not even a request.
    pub const NOTHING: Self = Self::Cost(Cost::NOTHING);

    /// The cost to report for the request.
    pub fn cost(&self, open: &OpenReservation) -> Cost {
        match self {
            Self::Cost(cost) | Self::OfSender(cost) => *cost,
            Self::Between { least, likely } => {
                least.or_more(&likely.at_most(&open.reservation.estimate.full))
            }
            Self::AsReserved => open.reservation.estimate.full,
        }
    }
}

impl OpenReservation {
    /// Opens the reservation of a request that is forwarded now.
    pub const fn new(reservation: Reservation, held: HeldIn, now: Millis) -> Self {
        let may_share = matches!(held, HeldIn::LocalShare(_) | HeldIn::Uncounted) && reservation.may_share();
        Self { reservation, held, renewed: now, may_share }
    }

    /// The same reservation, if `is_so` of a request that has reserved before and had no answer.
    #[must_use]
    pub(super) const fn after_no_answer(mut self, is_so: bool) -> Self {
        self.may_share |= is_so && self.reservation.may_share();
        self
    }

    /// The expected cost.
    pub const fn estimate(&self) -> Estimate {
        self.reservation.estimate
    }

    #[cfg(test)]
    pub(super) fn id_and_store(&self) -> (&str, Option<&HeldIn>) {
        (&self.reservation.id, Some(&self.held))
    }

    /// The same reservation, of which it turned out that Redis has made it.
    #[must_use]
    pub(super) fn counted(self) -> Self {
        let held = if self.held == HeldIn::Uncounted { HeldIn::Redis } else { self.held };
        Self { held, ..self }
    }

    /// The request is for one of `models` after all: the settlement gives back what it holds of the limits of others.
    pub fn is_for(&mut self, models: &Candidates) {
        for line in &mut self.reservation.lines {
            line.is_of_another = line.applied.models.as_ref().is_some_and(|of| !models.may_match(of));
        }
    }

    /// The reservation.
    pub(super) const fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    /// Whether limits of some models are among those of the request.
    pub fn depends_on_model(&self) -> bool {
        self.reservation.lines.iter().any(|line| line.applied.models.is_some())
    }

    /// Whether the request has leases, which must be renewed while it runs.
    pub fn has_leases(&self) -> bool {
        self.leases().next().is_some()
    }

    /// When to renew the request's leases, if it has any: a third into the shortest.
    pub fn renew_at(&self) -> Option<Millis> {
        let shortest = self.leases().map(|window| window.length.get()).min()?;
        Some(self.renewed + (shortest / 3).max(Millis::new(1)))
    }

    fn leases(&self) -> impl Iterator<Item = Window> {
        let windows = self.reservation.lines.iter().map(|line| line.applied.limit.window);
        windows.filter(|window| window.algorithm == Algorithm::Concurrency)
    }

    /// Whether `cost`, the request's cost so far, exceeds the units charged so far under any limit.
    pub fn is_outgrown_by(&self, cost: &Cost) -> bool {
        self.reservation.lines.iter().any(|line| cost.of(line.applied.limit.metric) > line.charged)
    }

    /// Charges the part of `cost`, the cost so far of a running request, that is not charged yet, and renews the
    /// leases. Refunds nothing.
    pub fn extend<S: SharedData>(
        &mut self,
        stream: u32,
        cost: &Cost,
        now: Millis,
        stores: &mut Stores<S>,
    ) -> Extended {
        self.renewed = now;
        for line in &mut self.reservation.lines {
            line.charged = line.charged.max(cost.of(line.applied.limit.metric));
        }
        let charges =
            ScopeCharges::group(self.reservation.lines.iter().map(|line| line.charge(line.charged)));
        let ids = (&*self.reservation.id, self.reservation.request_id.as_ref());
        stores.extend(stream, ids, charges, &mut self.held, self.may_share, now)
    }

    /// Whether the store that has the reservation can keep it open. While Redis does not answer, nobody can.
    pub(super) const fn can_stay_open(&self) -> bool {
        matches!(self.held, HeldIn::Local(_) | HeldIn::Redis)
    }

    /// The record from which the reservation can be settled without this value. The request is for one of `models`.
    pub(super) fn record(&self, models: &Candidates) -> Record {
        let line = |line: &Line| {
            let (scope, charge) = line.charge(line.charged);
            RecordLine {
                scope,
                identity: charge.identity,
                name: charge.name,
                window: charge.window,
                limit: charge.limit,
                enforced: charge.enforced,
                warn_at: charge.warn_at,
                metric: line.applied.limit.metric,
                is_of_another: line.is_of_another,
            }
        };
        Record {
            id: self.reservation.id.clone(),
            models: Record::models(models),
            reserved: self.reservation.estimate.full.of(Metric::TotalTokens).get(),
            lines: self.reservation.lines.iter().map(line).collect(),
            may_share: self.may_share,
        }
    }

    /// Leaves the reservation to its record. Returns the charges so far, with the part of the cost `so_far` that
    /// exceeds them, and the store that has the reservation.
    pub(super) fn leave(self, so_far: &Cost) -> (Vec<ScopeCharges>, HeldIn) {
        let charge = |line: &Line| line.charge(line.charged.max(so_far.of(line.applied.limit.metric)));
        (ScopeCharges::group(self.reservation.lines.iter().map(charge)), self.held)
    }

    /// The settlement: the final charges, which replace all charges so far.
    pub fn settlement(self, cost: FinalCost) -> Settlement {
        let has_leases = self.has_leases();
        let Reservation { id, lines, is_final, request_id, .. } = self.reservation;
        let real = |line: &Line| match cost {
            _ if line.is_of_another => Units::ZERO,
            FinalCost::Cost(cost) => cost.of(line.applied.limit.metric),
            FinalCost::Between { least, likely } => {
                let metric = line.applied.limit.metric;
                least.of(metric).max(likely.of(metric).min(line.cost))
            }
            FinalCost::AsReserved => line.charged,
            FinalCost::OfSender(cost) if line.applied.owner == Owner::Key => {
                cost.of(line.applied.limit.metric)
            }
            FinalCost::OfSender(_) => Units::ZERO,
        };
        let is_unchanged = !has_leases && lines.iter().all(|line| real(line) == line.charged);
        let charges = ScopeCharges::group(lines.iter().map(|line| line.charge(real(line))));
        let (held, may_share) = (self.held, self.may_share);
        Settlement { id, charges, held, is_unchanged, is_final, may_share, request_id, tokens: None }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::policy::limit::Enforcement;
    use crate::policy::pattern::Pattern;
    use crate::quantity::NonZeroMillis;
    use crate::store::local::tests::Memory;
    use crate::store::wire::Settle;
    use crate::telemetry::stats::Stats;
    use crate::window::Window;

    const A_QUARTER: Share = Share::Of(NonZeroU32::new(4).unwrap());

    fn stores(memory: &Memory) -> Stores<&Memory> {
        let config = br#"{"store": {"type": "redis", "cluster": "s"}}"#;
        Stores::new(Config::from_bytes(config).unwrap().store(), "".into(), Default::default(), memory)
    }

    pub(crate) fn limit(metric: Metric, amount: u64) -> Applied {
        let window = Window::sliding(NonZeroMillis::MINUTE);
        let limit = Arc::new(Limit {
            name: metric.name().into(),
            metric,
            amount: Units::new(amount),
            window,
            enforcement: Enforcement::default(),
            allowance: None,
        });
        let (scope, identity, owner) = ("scope".into(), "me".into(), Owner::Key);
        Applied { scope, identity, owner, models: None, limit, dry_run: false }
    }

    pub(crate) fn reservation(limits: Vec<Applied>, output_tokens: u64, is_guess: bool) -> Reservation {
        let certainty = if is_guess { Certainty::Guess } else { Certainty::Declared };
        let base = Cost { requests: Units::new(1), input_tokens: Units::new(30), ..Cost::default() };
        let full = Cost { output_tokens: Units::new(output_tokens), ..base };
        let estimate =
            Estimate { base: if is_guess { base } else { full }, full, certainty, ..Estimate::REQUEST };
        Reservation::new("id".into(), None, limits, estimate)
    }

    fn costs(charges: &[ScopeCharges]) -> Vec<u64> {
        ScopeCharges::flat(charges).map(|charge| charge.cost.get()).collect()
    }

    #[test]
    fn a_declared_output_is_reserved_whole_and_a_guess_is_cut_to_the_limit() {
        let limits = || {
            vec![
                limit(Metric::Requests, 1),
                limit(Metric::InputTokens, 10),
                limit(Metric::OutputTokens, 100),
                limit(Metric::TotalTokens, 100),
            ]
        };
        assert_eq!(costs(&reservation(limits(), 512, false).charges(Share::Whole)), [1, 30, 512, 542]);
        assert_eq!(costs(&reservation(limits(), 512, true).charges(Share::Whole)), [1, 30, 100, 100]);
        assert_eq!(
            costs(&reservation(vec![limit(Metric::TotalTokens, 20)], 512, true).charges(Share::Whole)),
            [30]
        );
    }

    fn open(reservation: Reservation, held: HeldIn) -> OpenReservation {
        OpenReservation::new(reservation, held, Millis::ZERO)
    }

    #[test]
    fn a_settlement_has_the_real_cost_and_reports_whether_it_changes_anything() {
        let settle = |final_cost| {
            let reservation = reservation(vec![limit(Metric::TotalTokens, 100)], 5, true);
            let settlement = open(reservation, HeldIn::Redis).settlement(final_cost);
            (costs(&settlement.charges), settlement.is_unchanged)
        };
        let cost = |input_tokens, output_tokens| {
            let [requests, input_tokens, output_tokens] = [1, input_tokens, output_tokens].map(Units::new);
            FinalCost::Cost(Cost { requests, input_tokens, output_tokens, ..Cost::default() })
        };
        assert_eq!(settle(FinalCost::AsReserved), (vec![35], true));
        assert_eq!(settle(cost(31, 9)), (vec![40], false));
        assert_eq!(settle(cost(31, 4)), (vec![35], true));
        let mut slot = limit(Metric::Concurrency, 5);
        Arc::make_mut(&mut slot.limit).window = Window::concurrency(NonZeroMillis::MINUTE);
        let settlement =
            open(reservation(vec![slot], 5, true), HeldIn::Redis).settlement(FinalCost::AsReserved);
        assert!(!settlement.is_unchanged, "a lease ends");
    }

    #[test]
    fn what_the_upstream_refuses_its_sender_stays_with_the_sender() {
        let of = |owner: Owner| Applied { owner, ..limit(Metric::Requests, 9) };
        let lines = vec![
            of(Owner::Key),
            of(Owner::Group("team".into())),
            of(Owner::Model("gpt*".into())),
            of(Owner::Global),
        ];
        let cost = Cost { requests: Units::new(1), ..Cost::default() };
        let settled = |final_cost| {
            costs(&open(reservation(lines.clone(), 5, true), HeldIn::Redis).settlement(final_cost).charges)
        };
        assert_eq!(settled(FinalCost::OfSender(cost)), [1, 0, 0, 0]);
        assert_eq!(settled(FinalCost::Cost(cost)), [1, 1, 1, 1]);
    }

    #[test]
    fn a_cost_that_is_known_in_part_is_completed_within_the_reservation() {
        let cost = |output_tokens| Cost { output_tokens: Units::new(output_tokens), ..Cost::default() };
        for (least, likely, charged) in [(3, 1, 3), (3, 40, 40), (3, 90, 50), (70, 90, 70)] {
            let reservation = reservation(vec![limit(Metric::OutputTokens, 100)], 50, false);
            let open = open(reservation, HeldIn::Redis);
            let final_cost = FinalCost::Between { least: cost(least), likely: cost(likely) };
            assert_eq!(final_cost.cost(&open).output_tokens, charged, "{least} {likely}");
            assert_eq!(costs(&open.settlement(final_cost).charges), [charged], "{least} {likely}");
        }
        // A guess gave way to the limit, so less was reserved.
        let open = open(reservation(vec![limit(Metric::OutputTokens, 30)], 50, true), HeldIn::Redis);
        let final_cost = FinalCost::Between { least: cost(3), likely: cost(40) };
        assert_eq!(costs(&open.settlement(final_cost).charges), [30]);
    }

    #[test]
    fn a_running_request_charges_the_growth_of_its_cost() {
        let memory = Memory::default();
        let mut stores = stores(&memory);
        let mut open = open(reservation(vec![limit(Metric::OutputTokens, 100)], 5, false), HeldIn::Redis);
        let output = |output_tokens| Cost { output_tokens: Units::new(output_tokens), ..Cost::default() };
        assert!(!open.is_outgrown_by(&output(5)) && open.is_outgrown_by(&output(6)));
        let mut sent = |open: &mut OpenReservation, tokens| {
            open.extend(1, &output(tokens), Millis::ZERO, &mut stores);
            let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop().unwrap();
            stores.callout_ended(
                callout.kind,
                Ok(br#"[{"settled":true}]"#),
                Millis::ZERO,
                &mut Stats::default(),
            );
            let settle = serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0);
            (costs(&settle.charges), settle.extend)
        };
        assert_eq!(sent(&mut open, 9), (vec![9], true));
        assert!(!open.is_outgrown_by(&output(9)));
        assert_eq!(sent(&mut open, 0).0, [9], "an earlier extension stays charged");
        assert_eq!(costs(&open.settlement(FinalCost::AsReserved).charges), [9]);
    }

    #[test]
    fn what_is_unknown_gives_way_to_every_limit_but_those_that_admit_nothing() {
        let limits = [(Metric::Requests, 1), (Metric::InputTokens, 10), (Metric::OutputTokens, 0)];
        let mut unknown = reservation(Vec::new(), 512, true).estimate;
        unknown.certainty = Certainty::Unknown;
        let limits = limits.map(|(metric, amount)| limit(metric, amount));
        let reservation = Reservation::new("id".into(), None, limits, unknown);
        assert_eq!(costs(&reservation.charges(Share::Whole)), [1, 10, 1]);
    }

    #[test]
    fn a_guess_gives_way_to_a_burst_too() {
        let mut bucket = limit(Metric::OutputTokens, 100);
        Arc::make_mut(&mut bucket.limit).window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(8));
        assert_eq!(costs(&reservation(vec![bucket], 512, true).charges(Share::Whole)), [8]);
    }

    #[test]
    fn the_limits_of_other_models_get_everything_back() {
        let of = |pattern: Option<&str>| Applied {
            models: pattern.map(Pattern::new),
            ..limit(Metric::TotalTokens, 100)
        };
        let limits = || vec![of(None), of(Some("gpt-4*")), of(Some("o3"))];
        let mut open = open(reservation(limits(), 5, false), HeldIn::Redis);
        open.is_for(&Candidates::One("gpt-4o".into()));
        let settlement = open.clone().settlement(FinalCost::AsReserved);
        assert_eq!((costs(&settlement.charges), settlement.is_unchanged), (vec![35, 35, 0], false));
        let cost = Cost { input_tokens: Units::new(7), ..Cost::default() };
        assert_eq!(costs(&open.settlement(FinalCost::Cost(cost)).charges), [7, 7, 0]);
    }

    #[test]
    fn a_cancellation_charges_nothing() {
        let (id, charges) = reservation(vec![limit(Metric::Requests, 5)], 5, true).cancellation();
        assert_eq!((id.as_str(), costs(&charges)), ("id", vec![0]));
    }

    #[test]
    fn a_share_is_an_equal_part_in_which_a_request_that_fits_the_whole_still_fits() {
        let limits =
            vec![limit(Metric::Requests, 3), limit(Metric::InputTokens, 100), limit(Metric::OutputTokens, 0)];
        let reservation = reservation(limits, 7, false);
        let share = reservation.charges(A_QUARTER);
        let limits_and_costs = ScopeCharges::flat(&share).map(|c| (c.limit.get(), c.cost.get()));
        assert_eq!(limits_and_costs.collect::<Vec<_>>(), [(1, 1), (25, 25), (0, 7)]);
        let states =
            [WindowState { used: Units::ZERO, reset: Millis::ZERO, fit: Fit::Now, granted: Units::ZERO }; 3];
        let statuses = reservation.statuses(A_QUARTER, &states, &[AtLimit::Refuse]);
        assert_eq!(
            statuses.iter().map(|s| (s.limit.amount.get(), s.cost.get())).collect::<Vec<_>>(),
            [(1, 1), (25, 25), (0, 7)]
        );
    }

    #[test]
    fn a_share_of_a_bucket_has_its_part_of_the_burst() {
        let mut bucket = limit(Metric::OutputTokens, 100);
        Arc::make_mut(&mut bucket.limit).window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(8));
        let share = reservation(vec![bucket], 6, false).charges(A_QUARTER).remove(0).charges.remove(0);
        assert_eq!(share.window.capacity(share.limit), 2, "the burst is shared too");
        assert_eq!((share.limit, share.cost), (Units::new(25), Units::new(2)));
    }
}
