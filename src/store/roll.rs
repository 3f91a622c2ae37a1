//! The roll of this Envoy's workers: each enters its configuration, its requests and what it knows of its store, so
//! that gauges add up.
//!
//! Three things would make sums of the workers' own increments wrong. Envoy's main thread has a VM that ticks like a
//! worker's and serves nobody (docs/envoy.md#contexts). A VM that dies takes nothing back. And after a reload, old
//! root contexts live on beside the new ones until their streams end. So the roll is one value in shared data, and a
//! gauge changes by exactly what a worker changes there.
//!
//! - A VM has one entry for each name of a filter. The root context of that name keeps it that came last, or to which
//!   the last new request came: Envoy uses an old one again if the configuration is again as it was.
//! - One VM is the spare: of those that have served no request, the one that is oldest. It counts for nothing and
//!   leaves the store to others. That is the main thread's from the start, because Envoy configures it first; or once
//!   the workers have served a request, if workers were quicker.
//! - The requests of all root contexts of a name are in its one entry, those of old ones too.
//! - An entry ends if nobody renews it, and whoever finds it takes it back.

use super::health::Standing;
use super::keys::ROLL;
use super::local::{SharedData, change_value};
use crate::config::Fingerprint;
use crate::quantity::Millis;
use crate::sort;
use crate::telemetry::series::Gauge;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// How long an entry lasts if nobody renews it.
const LASTS: Millis = Millis::new(15_000);

/// An entry is renewed when it has no longer than this to last.
const RENEWED_BEFORE: Millis = Millis::new(10_000);

/// How often a worker looks at the roll, if nothing changes for itself.
const LOOKS_EVERY: Millis = Millis::SECOND;

/// How long a worker looks at each tick: others enter meanwhile.
const LOOKS_OFTEN_FOR: Millis = Millis::SECOND;

/// The first byte of the roll. Envoy gives back no value that is empty.
const VERSION: u8 = 2;

/// The bytes of an entry.
const ENTRY: usize = 57;

/// A VM, of which Envoy has one for each worker and one on its main thread.
#[derive(Debug)]
pub struct Vm {
    id: u64,
    since: Millis,
    /// Whether it has served a request, so that it is a worker's.
    serves: Cell<bool>,
    /// The root contexts by the filter's name.
    members: RefCell<HashMap<String, Members>>,
    next: Cell<u32>,
}

/// The root contexts of one name in a VM.
#[derive(Debug, Default)]
struct Members {
    /// Their numbers; the last of them keeps the entry.
    numbers: Vec<u32>,
    tally: Rc<Tally>,
}

/// The requests of the root contexts of one name in a VM.
#[derive(Debug, Default)]
struct Tally {
    contexts: Cell<u32>,
    waiting: Cell<u32>,
}

/// A request that is in the tally until this is dropped.
#[derive(Debug)]
pub struct Seat(Rc<Tally>);

impl Seat {
    fn new(tally: &Rc<Tally>) -> Self {
        tally.contexts.set(tally.contexts.get().saturating_add(1));
        Self(Rc::clone(tally))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.contexts.set(self.0.contexts.get().saturating_sub(1));
    }
}

impl Vm {
    /// The VM with this random id, which was configured first at `since`.
    pub fn new(id: u64, since: Millis) -> Self {
        Self { id, since, serves: Cell::new(false), members: RefCell::default(), next: Cell::new(0) }
    }

    /// A new root context of the filter that is called `name`. It takes the place of those before it.
    pub fn enrol(self: &Rc<Self>, name: &str) -> Member {
        let number = self.next.replace(self.next.get().wrapping_add(1));
        let mut members = self.members.borrow_mut();
        let members = members.entry(name.to_owned()).or_default();
        members.numbers.push(number);
        let tally = Rc::clone(&members.tally);
        Member { vm: Rc::clone(self), name: name.to_owned(), number, tally }
    }
}

/// A root context of a VM.
#[derive(Debug)]
pub struct Member {
    vm: Rc<Vm>,
    name: String,
    number: u32,
    tally: Rc<Tally>,
}

impl Member {
    /// Whether it keeps the entry.
    fn is_last(&self) -> bool {
        let members = self.vm.members.borrow();
        members.get(&self.name).and_then(|members| members.numbers.last()) == Some(&self.number)
    }

    /// A new request has come to it.
    fn serve(&self) {
        self.vm.serves.set(true);
        if !self.is_last() {
            let mut members = self.vm.members.borrow_mut();
            let Members { numbers, .. } = members.entry(self.name.clone()).or_default();
            numbers.retain(|number| *number != self.number);
            numbers.push(self.number);
        }
    }

    /// Ends it. Returns whether none is left of the same name.
    fn end(&self) -> bool {
        let mut members = self.vm.members.borrow_mut();
        let Some(others) = members.get_mut(&self.name) else { return true };
        others.numbers.retain(|number| *number != self.number);
        let is_empty = others.numbers.is_empty();
        if is_empty {
            members.remove(&self.name);
        }
        is_empty
    }

    /// The number of its entry.
    fn entry(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.vm.id, &self.name).hash(&mut hasher);
        hasher.finish()
    }
}

/// The roll, as one root context keeps it.
#[derive(Debug)]
pub struct Roll<S> {
    data: S,
    member: Member,
    config: Fingerprint,
    /// How many of its requests waited when it last said so.
    waiting: u32,
    since: Option<Millis>,
    /// When it last looked, and what it entered then.
    last: Option<(Millis, Standing, bool)>,
    stands_by: bool,
}

/// What comes of a look at the roll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// Whether this root context leaves the store to others.
    pub stands_by: bool,
    /// The changes of the gauges.
    pub gauges: Vec<(Gauge, i64)>,
}

impl<S: SharedData> Roll<S> {
    /// The roll for `member`, which limits by `config`. Creates it in `data` if it does not exist.
    pub fn new(data: S, member: Member, config: Fingerprint) -> Self {
        if data.get(ROLL).is_none() {
            data.create(ROLL, &encode(&[]));
        }
        Self { data, member, config, waiting: 0, since: None, last: None, stands_by: true }
    }

    /// Enters what this root context knows of its store, and that so many of its requests are `waiting`. Call it at
    /// each tick: most look at nothing.
    pub fn call(&mut self, standing: Standing, waiting: u32, now: Millis) -> Called {
        self.tally(waiting);
        if !self.member.is_last() {
            // It looks again as soon as it is the last.
            self.last = None;
            return Called { stands_by: true, gauges: Vec::new() };
        }
        let since = *self.since.get_or_insert(now);
        let serves = self.member.vm.serves.get();
        let is_new = self.last.is_none_or(|(_, entered, served)| (entered, served) != (standing, serves));
        let next = self.last.map_or(Millis::ZERO, |(last, ..)| last + LOOKS_EVERY);
        let is_quiet = !is_new && now >= since + LOOKS_OFTEN_FOR && now < next && next <= now + LOOKS_EVERY;
        let mut gauges = Vec::new();
        if !is_quiet {
            self.last = Some((now, standing, serves));
            (self.stands_by, gauges) = self.enter(Some(standing), now);
        }
        Called { stands_by: self.stands_by, gauges }
    }

    fn tally(&mut self, waiting: u32) {
        let all = &self.member.tally.waiting;
        all.set(all.get().saturating_sub(self.waiting).saturating_add(waiting));
        self.waiting = waiting;
    }

    /// A new request has come to this root context. It is there until its seat is dropped.
    pub fn serve(&self) -> Seat {
        self.member.serve();
        Seat::new(&self.member.tally)
    }

    /// Ends this root context. Takes the entry back if no other keeps it.
    pub fn leave(&mut self, now: Millis) -> Vec<(Gauge, i64)> {
        self.tally(0);
        if self.member.end() { self.enter(None, now).1 } else { Vec::new() }
    }

    /// Enters `standing`, or takes the entry back if there is none.
    fn enter(&self, standing: Option<Standing>, now: Millis) -> (bool, Vec<(Gauge, i64)>) {
        let vm = &self.member.vm;
        let number = self.member.entry();
        let changed = change_value(&self.data, ROLL, |bytes| {
            let before = decode(bytes);
            let mut after = before.clone();
            after.retain(|entry| entry.until > now && entry.until <= now + LASTS);
            let known = after.iter().position(|entry| entry.number == number);
            let mut own = known.map(|at| after.swap_remove(at));
            if standing.is_none() {
                own = None;
            } else {
                let fresh = Entry { number, vm: vm.id, since: vm.since, ..Entry::default() };
                let entry = own.get_or_insert(fresh);
                entry.serves = vm.serves.get();
                entry.config = self.config;
                entry.waiting = self.member.tally.waiting.get();
                entry.contexts = self.member.tally.contexts.get();
                if entry.until < now + RENEWED_BEFORE {
                    entry.until = now + LASTS;
                }
            }
            let spare = after.iter().chain(&own).filter(|entry| !entry.serves);
            let spare = spare.min_by_key(|entry| (entry.since, entry.vm)).map(|entry| entry.vm);
            let stands_by = spare == Some(vm.id);
            if let Some(entry) = &mut own {
                // What is not known yet changes nothing: a reload takes no worker off the gauges.
                entry.counts = match (stands_by, standing) {
                    (true, _) | (false, None | Some(Standing::Absent)) => None,
                    (false, Some(Standing::Up)) => Some(Gauge::StoreUp),
                    (false, Some(Standing::Down)) => Some(Gauge::WorkersWithoutStore),
                    (false, Some(Standing::Unknown)) => entry.counts,
                };
                entry.is_spare = stands_by;
            }
            after.extend(own);
            sort::by_key(&mut after, |entry| entry.number);
            ((stands_by, changes(&before, &after)), encode(&after))
        });
        changed.unwrap_or_else(|_| {
            log::error!("the roll of the workers cannot be written");
            (self.stands_by, Vec::new())
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    number: u64,
    vm: u64,
    since: Millis,
    until: Millis,
    serves: bool,
    /// Whether it is the spare's, which limits nothing.
    is_spare: bool,
    /// The gauge in which it counts.
    counts: Option<Gauge>,
    config: Fingerprint,
    waiting: u32,
    contexts: u32,
}

/// The changes of the gauges that `after` in the place of `before` makes.
fn changes(before: &[Entry], after: &[Entry]) -> Vec<(Gauge, i64)> {
    let of = |entry: &Entry, gauge| match gauge {
        Gauge::StoreUp | Gauge::WorkersWithoutStore => i64::from(entry.counts == Some(gauge)),
        Gauge::Waiting => i64::from(entry.waiting),
        Gauge::Contexts => i64::from(entry.contexts),
        Gauge::ConfigInfo { hash } => i64::from(!entry.is_spare && entry.config == hash),
    };
    let sum = |entries: &[Entry], gauge| entries.iter().map(|entry| of(entry, gauge)).sum::<i64>();
    let hashes: BTreeSet<_> = sort::collected(before.iter().chain(after).map(|entry| entry.config));
    let gauges = Gauge::AT_START.into_iter().chain(hashes.into_iter().map(|hash| Gauge::ConfigInfo { hash }));
    let changes = gauges.map(|gauge| (gauge, sum(after, gauge).saturating_sub(sum(before, gauge))));
    changes.filter(|(_, change)| *change != 0).collect()
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for entry in entries {
        let (waiting, contexts) = (entry.waiting.into(), entry.contexts.into());
        let times = [entry.since.get(), entry.until.get()];
        for number in [[entry.number, entry.vm], times, [entry.config.bits(), waiting]].into_iter().flatten()
        {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(u64::to_be_bytes(contexts));
        let counts = match entry.counts {
            Some(Gauge::StoreUp) => 2,
            Some(Gauge::WorkersWithoutStore) => 4,
            _ => 0,
        };
        bytes.push(counts | u8::from(entry.serves) | u8::from(entry.is_spare) << 3);
    }
    bytes
}

fn decode(bytes: &[u8]) -> Vec<Entry> {
    let Some((&VERSION, entries)) = bytes.split_first() else { return Vec::new() };
    let entry = |bytes: &[u8; ENTRY]| {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers = <[[u8; 8]; 7]>::try_from(numbers).ok()?.map(u64::from_be_bytes);
        let [number, vm, since, until, config, waiting, contexts] = numbers;
        let flags = *rest.first()?;
        let counts = match flags >> 1 & 3 {
            1 => Some(Gauge::StoreUp),
            2 => Some(Gauge::WorkersWithoutStore),
            _ => None,
        };
        let (since, until) = (Millis::new(since), Millis::new(until));
        Some(Entry {
            number,
            vm,
            since,
            until,
            serves: flags & 1 == 1,
            is_spare: flags >> 3 & 1 == 1,
            counts,
            config: Fingerprint::from_bits(config),
            waiting: u32::try_from(waiting).ok()?,
            contexts: u32::try_from(contexts).ok()?,
        })
    };
    entries.as_chunks::<ENTRY>().0.iter().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::tests::Memory;
    use std::collections::BTreeMap;

    /// VMs on one shared data, and what the gauges show.
    struct Envoy<'a> {
        memory: &'a Memory,
        gauges: BTreeMap<String, i64>,
    }

    type Context<'a> = Roll<&'a Memory>;

    impl<'a> Envoy<'a> {
        fn new(memory: &'a Memory) -> Self {
            Self { memory, gauges: BTreeMap::new() }
        }

        /// A root context of the filter `name` in a VM.
        fn context(&self, vm: &Rc<Vm>, name: &str) -> Context<'a> {
            Roll::new(self.memory, vm.enrol(name), Fingerprint::of(b"first"))
        }

        /// Ticks; returns whether the context leaves the store to others.
        fn tick(&mut self, context: &mut Context<'a>, standing: Standing, now: u64) -> bool {
            let called = context.call(standing, 0, Millis::new(now));
            self.change(called.gauges);
            called.stands_by
        }

        fn all(&mut self, contexts: &mut [Context<'a>; 3], standing: Standing, now: u64) -> [bool; 3] {
            contexts.each_mut().map(|context| self.tick(context, standing, now))
        }

        fn change(&mut self, changes: Vec<(Gauge, i64)>) {
            for (gauge, change) in changes {
                *self.gauges.entry(gauge.name()).or_default() += change;
            }
        }

        /// The workers that reach their store, and those that do not.
        fn shown(&self) -> (i64, i64) {
            let gauge = |gauge: Gauge| self.gauges.get(&gauge.name()).copied().unwrap_or_default();
            (gauge(Gauge::StoreUp), gauge(Gauge::WorkersWithoutStore))
        }
    }

    fn vm(id: u64, since: u64) -> Rc<Vm> {
        Rc::new(Vm::new(id, Millis::new(since)))
    }

    use Standing::{Absent, Down, Unknown, Up};

    /// The main thread and two workers, after a tick of each.
    fn three<'a>(envoy: &mut Envoy<'a>) -> ([Rc<Vm>; 3], [Context<'a>; 3]) {
        let vms = [vm(9, 0), vm(1, 80), vm(2, 85)];
        let mut contexts = vms.each_ref().map(|vm| envoy.context(vm, "limits"));
        for context in &mut contexts {
            envoy.tick(context, Unknown, 100);
        }
        (vms, contexts)
    }

    #[test]
    fn the_main_thread_counts_for_nothing() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (_, mut contexts) = three(&mut envoy);
        let stands_by = envoy.all(&mut contexts, Up, 150);
        assert_eq!((stands_by, envoy.shown()), ([true, false, false], (2, 0)));
        envoy.tick(&mut contexts[1], Down, 200);
        assert_eq!(envoy.shown(), (1, 1));
    }

    #[test]
    fn a_worker_that_was_quicker_than_the_main_thread_counts_once_it_serves() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let vms = [vm(9, 10), vm(1, 5), vm(2, 7)];
        let mut contexts = vms.each_ref().map(|vm| envoy.context(vm, "limits"));
        envoy.all(&mut contexts, Up, 100);
        let stands_by = envoy.all(&mut contexts, Up, 150);
        assert_eq!((stands_by, envoy.shown()), ([false, true, false], (2, 0)));
        for (served, spare) in [(1, 2), (2, 0)] {
            contexts[served].serve();
            for now in [200, 250] {
                envoy.all(&mut contexts, Up, now);
            }
            let stands_by = envoy.all(&mut contexts, Up, 300);
            assert_eq!((stands_by[spare], envoy.shown()), (true, (2, 0)));
        }
    }

    #[test]
    fn a_vm_that_dies_is_taken_off_and_its_successor_enters() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (_, mut contexts) = three(&mut envoy);
        contexts[1].serve();
        contexts[2].serve();
        envoy.all(&mut contexts, Up, 150);
        let [mut main, mut alive, _dead] = contexts;
        let successor = vm(7, 200);
        let mut new = envoy.context(&successor, "limits");
        new.serve();
        for now in (200..30_000).step_by(50) {
            envoy.tick(&mut main, Unknown, now);
            envoy.tick(&mut alive, Up, now);
            envoy.tick(&mut new, Up, now);
            let expected = if now < 15_150 { 3 } else { 2 };
            assert!(envoy.shown() == (expected, 0) || (15_000..17_000).contains(&now), "{now}");
        }
    }

    #[test]
    fn a_reload_changes_no_gauge_and_the_old_context_says_nothing_more() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (vms, mut old) = three(&mut envoy);
        envoy.all(&mut old, Up, 150);
        let mut new = vms.each_ref().map(|vm| envoy.context(vm, "limits"));
        assert_eq!(envoy.all(&mut old, Down, 200), [true; 3]);
        for now in [200, 250] {
            assert_eq!(envoy.all(&mut new, Unknown, now), [true, false, false]);
            assert_eq!(envoy.shown(), (2, 0));
        }
        envoy.all(&mut new, Down, 300);
        assert_eq!(envoy.shown(), (0, 2));
        for context in &mut old {
            let changes = context.leave(Millis::new(350));
            envoy.change(changes);
        }
        assert_eq!(envoy.shown(), (0, 2));
        // The next configuration has no sidecar.
        let mut local = vms.each_ref().map(|vm| envoy.context(vm, "limits"));
        envoy.all(&mut local, Absent, 400);
        assert_eq!(envoy.shown(), (0, 0));
    }

    #[test]
    fn an_old_context_that_is_used_again_counts_again() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (vms, mut old) = three(&mut envoy);
        envoy.all(&mut old, Up, 150);
        let mut new = vms.each_ref().map(|vm| envoy.context(vm, "limits"));
        assert_eq!(envoy.all(&mut old, Up, 200), [true; 3]);
        envoy.all(&mut new, Down, 200);
        assert_eq!(envoy.shown(), (0, 2));
        // The old configuration is in force again: one worker learns of it by a request, the others as the new one
        // ends.
        old[1].serve();
        assert!(!envoy.tick(&mut old[1], Up, 250));
        assert!(envoy.tick(&mut new[1], Down, 250));
        assert_eq!(envoy.shown(), (1, 1));
        for context in &mut new {
            let changes = context.leave(Millis::new(300));
            assert_eq!(changes, []);
        }
        assert_eq!(envoy.all(&mut old, Up, 350), [true, false, false]);
        assert_eq!(envoy.shown(), (2, 0));
    }

    #[test]
    fn the_end_of_a_filter_takes_its_workers_off_and_leaves_those_of_others() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (vms, mut contexts) = three(&mut envoy);
        let mut others = vms.each_ref().map(|vm| envoy.context(vm, "others"));
        for now in [150, 200] {
            envoy.all(&mut contexts, Up, now);
            envoy.all(&mut others, Down, now);
        }
        assert_eq!(envoy.shown(), (2, 2));
        for context in &mut contexts {
            let changes = context.leave(Millis::new(250));
            envoy.change(changes);
        }
        assert_eq!(envoy.shown(), (0, 2));
    }

    #[test]
    fn requests_and_configurations_add_up_over_workers_and_old_ones_go() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (vms, mut old) = three(&mut envoy);
        let [first, second] = [&b"first"[..], b"second"].map(Fingerprint::of);
        let shown = |envoy: &Envoy<'_>| {
            let gauges = [
                Gauge::Waiting,
                Gauge::Contexts,
                Gauge::ConfigInfo { hash: first },
                Gauge::ConfigInfo { hash: second },
            ];
            gauges.map(|gauge| envoy.gauges.get(&gauge.name()).copied().unwrap_or_default())
        };
        let seats = [old[1].serve(), old[1].serve(), old[2].serve()];
        let call = |envoy: &mut Envoy<'_>, of: &mut Context<'_>, waiting, now| {
            let called = of.call(Absent, waiting, Millis::new(now));
            envoy.change(called.gauges);
        };
        for (waiting, context) in [0, 4, 5].into_iter().zip(&mut old) {
            call(&mut envoy, context, waiting, 150);
        }
        assert_eq!(shown(&envoy), [9, 3, 2, 0], "the main thread limits nothing");
        // A reload: the new root contexts tell of the requests of the old ones too.
        let mut new = vms.each_ref().map(|vm| Roll::new(&memory, vm.enrol("limits"), second));
        drop(seats);
        let seat = new[1].serve();
        for now in [200, 250] {
            for (old, new) in old.iter_mut().zip(&mut new) {
                call(&mut envoy, old, 1, now);
                call(&mut envoy, new, 0, now);
            }
        }
        assert_eq!(shown(&envoy), [3, 1, 0, 2]);
        for context in old.iter_mut().chain(&mut new) {
            let changes = context.leave(Millis::new(300));
            envoy.change(changes);
        }
        drop(seat);
        assert_eq!(shown(&envoy), [0; 4]);
    }

    #[test]
    fn clocks_that_jump_leave_the_gauges_right() {
        let memory = Memory::default();
        let mut envoy = Envoy::new(&memory);
        let (_, mut contexts) = three(&mut envoy);
        for now in [150, 3_600_000, 3_600_050, 3_601_100, 1_000, 1_050, 2_100] {
            envoy.all(&mut contexts, Up, now);
            envoy.all(&mut contexts, Up, now);
            assert_eq!(envoy.shown(), (2, 0), "{now}");
        }
    }

    #[test]
    fn entries_round_trip_and_foreign_bytes_are_none() {
        let entry = Entry {
            number: 1,
            vm: 2,
            since: Millis::new(3),
            until: Millis::new(4),
            serves: true,
            is_spare: false,
            counts: Some(Gauge::WorkersWithoutStore),
            config: Fingerprint::of(b"{}"),
            waiting: 5,
            contexts: 6,
        };
        let other = Entry { serves: false, is_spare: true, counts: Some(Gauge::StoreUp), ..entry };
        let entries = [entry, other, Entry::default()];
        assert_eq!(decode(&encode(&entries)), entries);
        assert_eq!(decode(&[0; ENTRY + 1]), []);
        assert_eq!(decode(&[VERSION; ENTRY]), []);
        assert_eq!(decode(&[]), []);
    }
}
