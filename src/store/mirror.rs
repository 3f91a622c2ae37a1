//! What Redis has admitted for this Envoy, on its way into the local store: so that where Redis stops to answer and
//! this Envoy counts alone (`on_error: local`), it goes on from what it has admitted already, not from zero.
//!
//! The changes gather here, the last of each reservation replaces those before it, and a tick writes them together:
//! each scope in one read and one write, so that no request waits for that. What a reservation has charged there is
//! kept until its request is over, which gives back what it has not used.
//!
//! Only this Envoy's charges are here, since its share of a limit is what it may admit alone. All its workers write to
//! one local store; what another worker has not written yet is at most [`PERIOD`] old. A charge counts from when it is
//! written, so it leaves its window later than in Redis, never earlier.
//!
//! Memory is bounded: beyond [`MAX_HELD`] charges, those of further requests that run stay as they were written until
//! they leave their windows.

use super::charge::ScopeCharges;
use super::local::{LocalStore, SharedData};
use super::shard::{Held, Step};
use crate::quantity::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest that changes gather.
const PERIOD: Millis = Millis::new(50);

/// How long changes gather at least, unless there are too many.
const SHORTEST: Millis = Millis::new(25);

/// The most charges whose changes gather.
const MAX_GATHERED: usize = 2_048;

/// The most charges of running requests that are kept, to give back what they do not use.
const MAX_HELD: usize = 65_536;

/// What Redis has admitted, on its way into the local store.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    /// The changes that have not been written, by reservation.
    gathered: BTreeMap<String, Change>,
    /// How many charges they have.
    charges: usize,
    /// When the first of them came.
    since: Millis,
    /// What running requests have charged in the local store, by reservation.
    receipts: BTreeMap<String, Receipt>,
    /// How many charges they have.
    held: usize,
}

/// The last step of a reservation.
#[derive(Clone, Debug)]
struct Change {
    step: Step,
    charges: Vec<ScopeCharges>,
    /// What it has charged in the local store; none if nothing of it has been written.
    receipt: Option<Receipt>,
}

/// What a reservation has charged in the local store.
#[derive(Clone, Debug, Default)]
struct Receipt {
    /// By scope, in order.
    scopes: Vec<Held>,
    /// How many charges it has.
    charges: usize,
}

impl Mirror {
    /// Redis has made the reservation `id`.
    pub(super) fn admitted(&mut self, id: String, charges: Vec<ScopeCharges>, now: Millis) {
        if !self.receipts.contains_key(&id) && !self.gathered.contains_key(&id) {
            self.gather(id, Change { step: Step::Runs, charges, receipt: None }, now);
        }
    }

    /// The reservation `id` has taken a step, with the costs so far, unless this is not one of Redis's.
    pub(super) fn follow(&mut self, id: &str, step: Step, charges: &[ScopeCharges], now: Millis) {
        if let Some(change) = self.gathered.get_mut(id) {
            change.step = step;
            change.charges = charges.to_vec();
        } else if let Some(receipt) = self.take_receipt(id) {
            let change = Change { step, charges: charges.to_vec(), receipt: Some(receipt) };
            self.gather(id.to_owned(), change, now);
        }
    }

    /// The reservation `id` has ended with the costs that it has been charged.
    pub(super) fn ended_unchanged(&mut self, id: &str) {
        if let Some(change) = self.gathered.get_mut(id) {
            change.step = Step::Ends;
        } else {
            self.take_receipt(id);
        }
    }

    fn gather(&mut self, id: String, change: Change, now: Millis) {
        if self.gathered.is_empty() {
            self.since = now;
        }
        self.charges = self.charges.saturating_add(ScopeCharges::count(&change.charges));
        self.gathered.insert(id, change);
    }

    fn take_receipt(&mut self, id: &str) -> Option<Receipt> {
        let receipt = self.receipts.remove(id)?;
        self.held = self.held.saturating_sub(receipt.charges);
        Some(receipt)
    }

    /// Whether nothing has gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// When the changes must be written; none if nothing has gathered.
    pub(super) fn next_due(&self) -> Option<Millis> {
        (!self.is_empty()).then(|| self.since + PERIOD)
    }

    /// Whether a tick at `now` writes the changes. The clock may have stepped back.
    pub(super) fn may_write(&self, now: Millis) -> bool {
        !self.is_empty() && (now >= self.since + SHORTEST || now < self.since)
    }

    /// Whether there are too many changes to gather more.
    pub(super) const fn is_full(&self) -> bool {
        self.charges >= MAX_GATHERED
    }

    /// Forgets when the changes came.
    #[cfg(test)]
    pub(super) fn forget_times(&mut self) {
        self.since = Millis::ZERO;
    }

    /// Writes the changes.
    pub(super) fn write<S: SharedData>(&mut self, local: &LocalStore<S>, now: Millis) {
        self.charges = 0;
        // What began and ended without a cost needs no writing.
        let leaves_a_trace = |change: &Change| change.receipt.is_some() || !change.is_void();
        let changes =
            std::mem::take(&mut self.gathered).into_iter().filter(|(_, change)| leaves_a_trace(change));
        // Slots come free before others are taken.
        let (running, mut changes): (Vec<_>, Vec<(String, Change)>) =
            changes.partition(|(_, change)| change.step == Step::Runs);
        changes.extend(running);
        let mut held: Vec<Receipt> = changes.iter().map(|(_, change)| change.unwritten()).collect();
        for (scope, places) in places_by_scope(&changes) {
            let step = |(nth, at): &(usize, usize)| changes.get(*nth)?.1.in_scope(*at);
            let steps: Vec<_> = places.iter().filter_map(step).collect();
            let written = local.follow(&scope, &steps, now).unwrap_or_else(|error| {
                log::error!("what Redis has admitted cannot be counted here: {error}");
                Vec::new()
            });
            for ((nth, at), written) in places.iter().zip(written) {
                if let Some(held) = held.get_mut(*nth).and_then(|held| held.scopes.get_mut(*at)) {
                    *held = written;
                }
            }
        }
        for ((id, change), receipt) in changes.into_iter().zip(held) {
            let all = self.held.saturating_add(receipt.charges);
            if change.step == Step::Runs && all <= MAX_HELD {
                self.held = all;
                self.receipts.insert(id, receipt);
            }
        }
    }
}

impl Change {
    /// Whether it costs nothing.
    fn is_void(&self) -> bool {
        self.step != Step::Runs && ScopeCharges::flat(&self.charges).all(|charge| charge.cost.is_zero())
    }

    /// What it has charged before it is written.
    fn unwritten(&self) -> Receipt {
        let held = self.receipt.as_ref().map(|receipt| receipt.scopes.clone()).unwrap_or_default();
        let rest = self.charges.len().saturating_sub(held.len());
        let scopes = held.into_iter().chain(std::iter::repeat_n(Held::default(), rest)).collect();
        Receipt { scopes, charges: ScopeCharges::count(&self.charges) }
    }

    /// What to do in its scope `at`.
    fn in_scope(&self, at: usize) -> Option<(Step, &ScopeCharges, Option<&Held>)> {
        let held = self.receipt.as_ref().and_then(|receipt| receipt.scopes.get(at));
        Some((self.step, self.charges.get(at)?, held))
    }
}

/// For each scope, the changes that are in it, and where it is among the scopes of each.
fn places_by_scope(changes: &[(String, Change)]) -> BTreeMap<Arc<str>, Vec<(usize, usize)>> {
    let mut places: BTreeMap<Arc<str>, Vec<(usize, usize)>> = BTreeMap::new();
    for (nth, (_, change)) in changes.iter().enumerate() {
        for (at, scope) in change.charges.iter().enumerate() {
            places.entry(Arc::clone(&scope.scope)).or_default().push((nth, at));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{NonZeroMillis, Units};
    use crate::store::charge::Charge;
    use crate::store::charge::tests::charge;
    use crate::store::local::tests::Memory;
    use crate::window::Window;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const MINUTE: u64 = 60_000;

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    fn local(memory: &Memory) -> LocalStore<&Memory> {
        let mut local = LocalStore::new(memory, "".into(), NonZeroU32::new(64).unwrap(), Arc::default());
        local.prepare();
        local
    }

    /// A slot of its sender, and `cost` units of its sender and of all.
    fn charges(window: Window, limit: u64, cost: u64) -> Vec<ScopeCharges> {
        let of = |identity| Charge { window, ..charge(identity, limit, cost) };
        let slot = Charge {
            name: "concurrency".into(),
            window: Window::concurrency(NonZeroMillis::MINUTE),
            ..charge("me", limit, 1)
        };
        ScopeCharges::group([("me", slot), ("me", of("me")), ("global", of("global"))])
    }

    fn sliding(limit: u64, cost: u64) -> Vec<ScopeCharges> {
        charges(Window::sliding(NonZeroMillis::MINUTE), limit, cost)
    }

    /// The slots and units that are used.
    fn used(local: &LocalStore<&Memory>, window: Window, now: u64) -> Vec<u64> {
        let nothing = ScopeCharges::changed(&charges(window, 0, 0), |charge| charge.cost = Units::ZERO);
        local.reserve(&nothing, at(now)).unwrap().states.iter().map(|state| state.used.get()).collect()
    }

    #[test]
    fn a_reservation_counts_as_reserved_and_then_as_settled() {
        let memory = Memory::default();
        let (local, mut mirror) = (local(&memory), Mirror::default());
        let window = Window::sliding(NonZeroMillis::MINUTE);
        mirror.admitted("a".into(), sliding(100, 40), at(0));
        assert_eq!(used(&local, window, 0), [0, 0, 0], "nothing is written before its time");
        assert_eq!((mirror.may_write(at(24)), mirror.may_write(at(25))), (false, true));
        assert_eq!(mirror.next_due(), Some(at(50)));
        mirror.write(&local, at(25));
        assert_eq!(used(&local, window, 25), [1, 40, 40]);
        mirror.follow("a", Step::Runs, &sliding(100, 55), at(30));
        mirror.write(&local, at(60));
        assert_eq!(used(&local, window, 60), [1, 55, 55]);
        for _ in 0..2 {
            mirror.follow("a", Step::Ends, &sliding(100, 12), at(70));
            mirror.write(&local, at(100));
            assert_eq!(used(&local, window, 100), [0, 12, 12], "a second settlement changes nothing");
        }
        assert_eq!((mirror.next_due(), mirror.receipts.len(), mirror.held), (None, 0, 0));
    }

    #[test]
    fn what_begins_and_ends_between_two_writes_is_one_charge() {
        let memory = Memory::default();
        let (local, mut mirror) = (local(&memory), Mirror::default());
        memory.take_calls();
        for n in 0..100 {
            mirror.admitted(n.to_string(), sliding(1_000, 9), at(0));
            mirror.follow(&n.to_string(), Step::Ends, &sliding(1_000, n % 3), at(1));
        }
        mirror.write(&local, at(50));
        assert_eq!(memory.take_calls(), (2, 2), "one read and one write for each scope");
        assert_eq!(used(&local, Window::sliding(NonZeroMillis::MINUTE), 50), [0, 99, 99]);
        memory.take_calls();
        mirror.admitted("a".into(), sliding(1_000, 9), at(60));
        mirror.follow(
            "a",
            Step::Ends,
            &ScopeCharges::changed(&sliding(0, 0), |c| c.cost = Units::ZERO),
            at(60),
        );
        mirror.write(&local, at(99));
        assert_eq!(memory.take_calls(), (0, 0), "what was cancelled leaves no trace");
    }

    #[test]
    fn a_response_in_the_background_keeps_its_charges_and_no_slot() {
        let memory = Memory::default();
        let (local, mut mirror) = (local(&memory), Mirror::default());
        for is_written in [false, true] {
            let before = used(&local, Window::sliding(NonZeroMillis::MINUTE), 0);
            mirror.admitted("a".into(), sliding(100, 7), at(0));
            if is_written {
                mirror.write(&local, at(0));
            }
            mirror.follow("a", Step::Leaves, &sliding(100, 9), at(0));
            mirror.write(&local, at(0));
            let after = used(&local, Window::sliding(NonZeroMillis::MINUTE), 0);
            assert_eq!(after, [0, before[1] + 9, before[2] + 9]);
        }
        assert_eq!(mirror.held, 0);
    }

    #[test]
    fn a_bucket_keeps_the_rate_of_whoever_admits() {
        let memory = Memory::default();
        let (local, mut mirror) = (local(&memory), Mirror::default());
        let bucket = |burst| Window::token_bucket(NonZeroMillis::MINUTE, Units::new(burst));
        let level = |now| used(&local, bucket(0), now)[1];
        let whole = |cost| charges(bucket(60), 60, cost);
        mirror.admitted("a".into(), whole(60), at(0));
        mirror.write(&local, at(0));
        // The fleet's bucket drains a unit a second, and half of it one in two.
        let share = charges(bucket(30), 30, 1);
        assert_eq!(local.reserve(&share, at(20_000)).unwrap().held, None);
        mirror.follow("a", Step::Ends, &whole(60), at(20_000));
        mirror.write(&local, at(20_000));
        assert_eq!(local.reserve(&share, at(41_000)).unwrap().held, None, "40 - 21 / 2");
        assert!(local.reserve(&share, at(43_000)).unwrap().held.is_some());
        mirror.admitted("b".into(), whole(1), at(43_000));
        mirror.write(&local, at(43_000));
        assert_eq!(level(43_000), 31);
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_kept_stays_charged() {
        let memory = Memory::default();
        let (local, mut mirror) = (local(&memory), Mirror::default());
        let all = MAX_HELD / 3 + 10;
        for n in 0..all {
            mirror.admitted(n.to_string(), sliding(1_000_000, 2), at(0));
            if mirror.is_full() {
                mirror.write(&local, at(0));
                assert_eq!(mirror.charges, 0);
            }
        }
        mirror.write(&local, at(0));
        assert!(mirror.held <= MAX_HELD && mirror.receipts.len() == all - 10, "{}", mirror.receipts.len());
        for n in 0..all {
            mirror.follow(&n.to_string(), Step::Ends, &sliding(1_000_000, 1), at(0));
            if mirror.is_full() {
                mirror.write(&local, at(0));
            }
        }
        mirror.write(&local, at(0));
        let units = u64::try_from(all + 10).unwrap();
        assert_eq!(used(&local, Window::sliding(NonZeroMillis::MINUTE), 0), [10, units, units]);
        assert_eq!((mirror.held, mirror.receipts.len(), mirror.gathered.len()), (0, 0, 0));
    }

    /// Something that happens to a request, and when changes are written.
    #[derive(Clone, Copy, Debug)]
    enum Happening {
        Admitted(u64),
        Extended(usize, u64),
        Settled(usize, u64),
        Written,
        /// Redis does not answer, and this Envoy decides.
        Alone(u64),
    }

    fn a_happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => (0u64..6).prop_map(Happening::Admitted),
            1 => (0usize..20, 0u64..9).prop_map(|(which, cost)| Happening::Extended(which, cost)),
            3 => (0usize..20, 0u64..9).prop_map(|(which, cost)| Happening::Settled(which, cost)),
            1 => Just(Happening::Written),
            2 => (1u64..5).prop_map(Happening::Alone),
        ]
    }

    /// A request that was admitted.
    struct Known {
        since: u64,
        cost: u64,
        is_settled: bool,
    }

    proptest! {
        /// Whatever Redis has admitted, and whenever that is written: this Envoy never admits a request that takes it
        /// past its share of the limit.
        #[test]
        fn alone_it_admits_no_more_than_its_share(
            steps in prop::collection::vec((0u64..9_000, a_happening()), 1..120), is_fixed in any::<bool>(),
        ) {
            const SHARE: u64 = 10;
            let window = if is_fixed {
                Window::fixed(NonZeroMillis::MINUTE)
            } else {
                Window::sliding(NonZeroMillis::MINUTE)
            };
            let memory = Memory::default();
            let (local, mut mirror, mut now) = (local(&memory), Mirror::default(), MINUTE);
            let units = |cost| ScopeCharges::group([("me", Charge { window, ..charge("me", SHARE, cost) })]);
            let mut known: Vec<Known> = Vec::new();
            for (step, happening) in steps {
                now += step;
                match happening {
                    Happening::Admitted(cost) => {
                        mirror.admitted(known.len().to_string(), units(cost), at(now));
                        known.push(Known { since: now, cost, is_settled: false });
                    }
                    Happening::Extended(which, cost) | Happening::Settled(which, cost) => {
                        let Some(request) = known.get_mut(which).filter(|it| !it.is_settled) else { continue };
                        let is_end = matches!(happening, Happening::Settled(..));
                        let step = if is_end { Step::Ends } else { Step::Runs };
                        request.cost = if is_end { cost } else { cost.max(request.cost) };
                        request.is_settled = is_end;
                        mirror.follow(&which.to_string(), step, &units(request.cost), at(now));
                    }
                    Happening::Written => mirror.write(&local, at(now)),
                    Happening::Alone(cost) => {
                        mirror.write(&local, at(now));
                        let begin = if is_fixed { now - now % MINUTE } else { now + 1 - MINUTE };
                        let counts = known.iter().filter(|request| request.since >= begin);
                        let sum = counts.map(|request| request.cost).sum::<u64>() + cost;
                        if local.reserve(&units(cost), at(now)).unwrap().held.is_some() {
                            prop_assert!(sum <= SHARE, "{sum} of {SHARE} at {now}");
                            known.push(Known { since: now, cost, is_settled: true });
                        }
                    }
                }
            }
        }

        /// When changes are written, and in which order, makes no difference, nor does settling twice.
        #[test]
        fn neither_the_writes_nor_repetitions_make_a_difference(
            steps in prop::collection::vec(a_happening(), 1..60), writes in any::<u64>(),
        ) {
            let memories = [Memory::default(), Memory::default()];
            let window = Window::sliding(NonZeroMillis::MINUTE);
            let counts = memories.each_ref().map(|memory| {
                let (local, mut mirror, mut costs) = (local(memory), Mirror::default(), Vec::new());
                let is_first = std::ptr::eq(memory, &raw const memories[0]);
                for (nth, happening) in steps.iter().enumerate() {
                    match *happening {
                        Happening::Admitted(cost) => {
                            mirror.admitted(costs.len().to_string(), sliding(1_000, cost), at(0));
                            costs.push((cost, false));
                        }
                        Happening::Extended(which, cost) => {
                            let Some((so_far, false)) = costs.get_mut(which) else { continue };
                            *so_far = cost.max(*so_far);
                            mirror.follow(&which.to_string(), Step::Runs, &sliding(1_000, *so_far), at(0));
                        }
                        Happening::Settled(which, cost) => {
                            let Some((last, is_over @ false)) = costs.get_mut(which) else { continue };
                            (*last, *is_over) = (cost, true);
                            for _ in 0..if is_first { 1 } else { 3 } {
                                mirror.follow(&which.to_string(), Step::Ends, &sliding(1_000, cost), at(0));
                                if writes >> (nth % 64) & 1 == 1 {
                                    mirror.write(&local, at(0));
                                }
                            }
                        }
                        Happening::Written | Happening::Alone(_) => {}
                    }
                    if is_first || writes >> (nth % 64) & 1 == 1 {
                        mirror.write(&local, at(0));
                    }
                }
                mirror.write(&local, at(0));
                let units: u64 = costs.iter().map(|(cost, _)| cost).sum();
                let slots = costs.iter().filter(|(_, is_over)| !is_over).count();
                (used(&local, window, 0), vec![u64::try_from(slots).unwrap(), units, units])
            });
            prop_assert_eq!(&counts[0], &counts[1]);
            prop_assert_eq!(&counts[0].0, &counts[0].1);
        }
    }
}
