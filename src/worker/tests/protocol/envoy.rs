//! An Envoy with one worker: the worker itself, copied from state to state.

use super::super::{NOW, OK, ResponseHead, body, chat};
use super::redis::print_of;
use crate::codec::varint::take;
use crate::config::Config;
use crate::quantity::{Millis, Units};
use crate::session::waiting_room::WaitingRoom;
use crate::session::{Directive, Effects, Event, ResponseFlags, Shared, Snapshot};
use crate::store::local::SharedData;
use crate::store::sidecar::{Callout, Kind};
use crate::store::wire::{Reserve, ScopeCharges};
use crate::store::{Answer, Failure, HeldIn, Stores};
use crate::telemetry::stats::Stats;
use crate::worker::deadlines::Deadlines;
use crate::worker::lines::Lines;
use crate::worker::steps::Steps;
use crate::worker::{Turn, Worker};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

/// Envoy's shared data: the values at first, and those that have changed.
#[derive(Clone, Debug, Default)]
struct Memory {
    first: Arc<BTreeMap<String, Vec<u8>>>,
    changed: BTreeMap<String, Vec<u8>>,
}

thread_local! {
    /// The shared data of the Envoy that is at work, so that a copy of its worker comes with a copy of them.
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The shared data of the Envoy that is at work.
#[derive(Clone, Copy, Debug)]
struct Here;

impl SharedData for Here {
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
        let value =
            MEMORY.with_borrow(|memory| memory.changed.get(key).or_else(|| memory.first.get(key)).cloned());
        value.map(|value| (value, NonZeroU32::MIN))
    }

    /// Nobody else writes, so that all versions are one.
    fn replace(&self, key: &str, value: &[u8], _version: NonZeroU32) -> bool {
        self.create(key, value);
        true
    }

    fn create(&self, key: &str, value: &[u8]) {
        MEMORY.with_borrow_mut(|memory| memory.changed.insert(key.to_owned(), value.to_vec()));
    }
}

/// What a client sees of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Forwarded,
    Refused,
}

/// What an event has brought.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) seen: Vec<(u32, Seen)>,
    pub(super) callouts: Vec<Callout>,
}

/// A worker of an Envoy, between two events.
#[derive(Clone, Debug)]
pub(super) struct Envoy {
    config: Arc<Config>,
    /// None while the worker is at work.
    stores: Option<Stores<Here>>,
    sessions: BTreeMap<u32, Snapshot>,
    deadlines: Deadlines,
    answers: Deadlines,
    ticked: Millis,
    next_id: (u64, u64),
    waiting: WaitingRoom,
    memory: Memory,
    now: Millis,
    /// Whether the root context is to take a turn.
    wakes: bool,
    /// Workers before this one, which have died.
    deaths: u64,
    /// Stands for everything above: the print of an Envoy in the same state.
    pub(super) print: u64,
}

impl Envoy {
    /// An Envoy that has just started. `number` makes its reservation ids its own.
    pub(super) fn new(config: &Arc<Config>, number: u64) -> Self {
        let mut envoy = Self::with(Memory::default(), config, number);
        envoy.memory.first = Arc::new(std::mem::take(&mut envoy.memory.changed));
        envoy.print()
    }

    /// An Envoy of which the worker has just started on this shared data.
    fn with(memory: Memory, config: &Arc<Config>, number: u64) -> Self {
        MEMORY.replace(memory);
        let worker = Worker::new(Arc::clone(config), Here, number);
        Self {
            config: Arc::clone(config),
            stores: Some(worker.stores),
            sessions: BTreeMap::new(),
            deadlines: worker.deadlines,
            answers: worker.answers,
            ticked: worker.ticked,
            next_id: (number, 0),
            waiting: worker.shared.into_ids_and_waiting().1,
            memory: MEMORY.take(),
            now: Millis::new(NOW),
            wakes: false,
            deaths: 0,
            print: 0,
        }
    }

    /// Does something to the worker, with its shared data in place.
    fn change<T>(&mut self, change: impl FnOnce(&mut Worker<Here>, Millis) -> T) -> T {
        MEMORY.replace(std::mem::take(&mut self.memory));
        let sessions = std::mem::take(&mut self.sessions).into_iter();
        let mut worker = Worker {
            config: Arc::clone(&self.config),
            stores: self.stores.take().unwrap(),
            sessions: sessions.map(|(stream, session)| (stream, session.into_session())).collect(),
            deadlines: std::mem::take(&mut self.deadlines),
            answers: std::mem::take(&mut self.answers),
            ticked: self.ticked,
            steps: Steps::default(),
            lines: Lines::default(),
            shared: Shared::new(&self.config, 0).with(self.next_id, self.waiting.clone()),
            stats: Stats::default(),
            roll: None,
            // So that it sends no probes. What the answer to one does is `probe_answered`.
            is_retired: true,
        };
        let outcome = change(&mut worker, self.now);
        let Worker { stores, sessions, deadlines, answers, ticked, shared, .. } = worker;
        (self.stores, self.deadlines, self.answers, self.ticked) = (Some(stores), deadlines, answers, ticked);
        let sessions = sessions.into_iter();
        self.sessions =
            sessions.map(|(stream, session)| (stream, session.into_snapshot().unwrap())).collect();
        (self.next_id, self.waiting) = shared.into_ids_and_waiting();
        self.memory = MEMORY.take();
        outcome
    }

    /// What a request of `output` tokens charges.
    pub(super) fn charges(config: &Arc<Config>, output: u64) -> Vec<ScopeCharges> {
        let mut envoy = Self::new(config, 0);
        envoy.arrive(0, output);
        let callouts = envoy.turn().callouts;
        let mut reserves: Vec<Reserve> = serde_json::from_slice(&callouts[0].body).unwrap();
        reserves.remove(0).charges
    }

    fn stores(&self) -> &Stores<Here> {
        self.stores.as_ref().unwrap()
    }

    /// The worker dies, and another takes its place on the same shared data.
    pub(super) fn die(&mut self) {
        let (number, memory) = (self.next_id.0 + 16, std::mem::take(&mut self.memory));
        let deaths = self.deaths + 1;
        *self = Self { now: self.now, deaths, ..Self::with(memory, &self.config, number) };
    }

    fn events(
        &mut self,
        stream: u32,
        events: impl FnOnce(&mut Worker<Here>, Millis) -> Vec<Effects>,
    ) -> Outcome {
        let effects = self.change(events);
        self.wakes |= effects.iter().any(|effects| effects.wake);
        let directive = effects.into_iter().filter_map(|effects| effects.directive).next_back();
        Outcome { seen: seen(stream, directive.as_ref()).into_iter().collect(), callouts: Vec::new() }
    }

    /// A request arrives, with its body, that may have `output` tokens.
    pub(super) fn arrive(&mut self, stream: u32, output: u64) -> Outcome {
        let bytes = body(output);
        let buffer = |range: Range<usize>| bytes.get(range).unwrap_or_default().to_vec();
        self.events(stream, |worker, now| {
            let headers = Event::RequestHeaders { request: &chat(), end_of_stream: false };
            vec![
                worker.on(stream, headers, &|| now),
                worker.body(stream, &buffer, Some(bytes.len()), true, &|| now),
            ]
        })
    }

    /// The stream of a request ends.
    pub(super) fn leave(&mut self, stream: u32) -> Outcome {
        self.events(stream, |worker, now| {
            vec![worker.on(stream, Event::StreamDone { flags: &ResponseFlags::default }, &|| now)]
        })
    }

    /// The rest of the response to a request comes, which reports `output` tokens; or an error does.
    pub(super) fn respond(&mut self, stream: u32, output: Option<u64>) -> Outcome {
        let head = ResponseHead { status: if output.is_some() { 200 } else { 500 }, ..STREAM };
        let usage = json!({"prompt_tokens": 8, "completion_tokens": output.unwrap_or_default()});
        let rest = event(&json!({"choices": [], "usage": usage}));
        self.events(stream, |worker, now| {
            let head = Event::ResponseHeaders { response: &head, end_of_stream: output.is_none() };
            let body = Event::ResponseBody { buffer: &|| rest.clone(), end_of_stream: true };
            let done = Event::StreamDone { flags: &ResponseFlags::default };
            [head, body, done].map(|event| worker.on(stream, event, &|| now)).into()
        })
    }

    /// The response to a request begins, and is longer than expected: `output` tokens so far.
    pub(super) fn grow(&mut self, stream: u32, output: u64) -> Outcome {
        let words = " word".repeat(usize::try_from(output).unwrap());
        let chunk = event(&json!({"choices": [{"index": 0, "delta": {"content": words}}]}));
        self.events(stream, |worker, now| {
            let head = Event::ResponseHeaders { response: &STREAM, end_of_stream: false };
            let body = Event::ResponseBody { buffer: &|| chunk.clone(), end_of_stream: false };
            [head, body].map(|event| worker.on(stream, event, &|| now)).into()
        })
    }

    /// Whether the root context is to take a turn.
    pub(super) const fn wakes(&self) -> bool {
        self.wakes
    }

    /// The root context takes a turn.
    pub(super) fn turn(&mut self) -> Outcome {
        self.wakes = false;
        let turn = self.change(|worker, now| worker.turn(now));
        outcome(turn)
    }

    /// When something happens if nothing else comes before.
    fn next_due(&self) -> Option<Millis> {
        let dues = [self.deadlines.next_due(), self.answers.next_due(), self.stores().next_callout_due()];
        dues.into_iter().flatten().min()
    }

    /// Whether something happens if time passes.
    pub(super) fn awaits_time(&self) -> bool {
        self.next_due().is_some()
    }

    /// Time passes until something is due, and some more for the worker's ticks.
    pub(super) fn pass_time(&mut self) -> Outcome {
        let due = self.next_due().unwrap_or_default();
        self.now = self.now.max(due);
        self.wakes = false;
        // An answer is late in the second tick.
        let [first, second] =
            [(); 2].map(|()| self.change(|worker, now| worker.tick(&|_, _| Vec::new(), &|| now)));
        let (mut first, second) = (outcome(first), outcome(second));
        first.seen.extend(second.seen);
        first.callouts.extend(second.callouts);
        // So that it decides nothing when the last write was.
        self.write();
        first
    }

    /// Whether there is something for a tick to write to the local store.
    pub(super) fn has_unwritten(&self) -> bool {
        self.stores().has_unwritten()
    }

    /// A tick comes that has nothing to do but to write to the local store.
    pub(super) fn write(&mut self) -> Outcome {
        self.change(|worker, now| worker.stores.tick(now + Millis::SECOND));
        Outcome::default()
    }

    /// Whether the answer to a probe changes anything.
    pub(super) fn has_untold(&self) -> bool {
        self.stores().has_untold()
    }

    /// Redis answers a probe.
    pub(super) fn probe_answered(&mut self) -> Outcome {
        self.callout_ended(Kind::Probe, Ok(br#"[{"admitted":true,"windows":[]}]"#))
    }

    /// Whether Redis has learned of all running requests that this Envoy has admitted alone.
    pub(super) fn has_told_all(&self) -> bool {
        self.stores().has_told_all()
    }

    /// The units in the local store under `charges`, with those that have not been written.
    pub(super) fn used_locally(&self, charges: &[ScopeCharges]) -> Units {
        let nothing = ScopeCharges::changed(charges, |charge| charge.cost = Units::ZERO);
        let answer =
            self.clone().change(|worker, now| worker.stores.reserve_share_alone(nothing.clone(), now));
        let Answer::Decided(decision) = answer else { panic!("{answer:?}") };
        decision.states.iter().map(|state| state.used).sum()
    }

    /// A callout ends.
    pub(super) fn callout_ended(&mut self, kind: Kind, answer: Result<&[u8], Failure>) -> Outcome {
        let turn = self.change(|worker, now| worker.callout_ended(kind, answer, now));
        self.wakes = false;
        outcome(turn)
    }

    /// The id of the reservation of `stream` and, if its request was forwarded, the store that has it.
    pub(super) fn reservation(&self, stream: u32) -> Option<(&str, Option<&HeldIn>)> {
        self.sessions.get(&stream).and_then(Snapshot::reservation)
    }

    /// Whether no request is left, and every settlement has arrived, but for what a tick writes.
    pub(super) fn is_idle(&self) -> bool {
        let mut envoy = self.clone();
        envoy.write();
        envoy.sessions.is_empty() && envoy.stores().is_idle()
    }

    /// A number for everything that decides what the Envoy will do, with times as they are from now. No limit lets
    /// requests wait and none has leases, so that it decides nothing when a request came.
    fn printed(&self) -> u64 {
        let Self { sessions, next_id, waiting, memory, wakes, deaths, .. } = self;
        let sessions =
            ["since: ", "renewed: "].iter().fold(format!("{sessions:?}"), |text, name| erased(&text, name));
        // A shard begins with the time of a change, which only matters if the clock steps back.
        let counters = memory.changed.iter().map(|(key, bytes)| {
            let mut counters = bytes.as_slice();
            take(&mut counters);
            (key, counters)
        });
        let counters: Vec<_> = counters.collect();
        let text = format!("{:?} {sessions} {waiting:?} {counters:?}", self.stores().timeless());
        print_of(&format!("{} {next_id:?} {wakes} {deaths}", relative(&text, self.now.get())))
    }

    /// Makes the print that of what is.
    pub(super) fn print(mut self) -> Self {
        self.print = self.printed();
        self
    }
}

const STREAM: ResponseHead<'_> = ResponseHead { content_type: Some("text/event-stream"), ..OK };

/// An event of a stream.
fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn seen(stream: u32, directive: Option<&Directive>) -> Option<(u32, Seen)> {
    match directive? {
        Directive::Continue => Some((stream, Seen::Forwarded)),
        Directive::Reply(_) => Some((stream, Seen::Refused)),
        Directive::Pause => None,
    }
}

fn outcome(turn: Turn) -> Outcome {
    let seen = turn.effects.iter().filter_map(|(stream, effects)| seen(*stream, effects.directive.as_ref()));
    Outcome { seen: seen.collect(), callouts: turn.callouts }
}

/// `text` without the times that follow `name`.
fn erased(text: &str, name: &str) -> String {
    let is_of_time = |c: char| c.is_ascii_digit() || c == ')';
    let before_time = format!("{name}Millis(");
    let mut parts = text.split(&before_time);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, after| before + after.trim_start_matches(is_of_time))
}

/// `text` with every number that is a time of these years as a distance from `now`.
fn relative(text: &str, now: u64) -> String {
    let mut relative = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("Millis(1") {
        let (before, after) = rest.split_at(at + "Millis(".len());
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = after.split_at(digits);
        relative.push_str(before);
        match number.parse::<u64>() {
            Ok(time) if digits == 13 => {
                let _ = write!(relative, "{}", i128::from(time) - i128::from(now));
            }
            _ => relative.push_str(number),
        }
        rest = after;
    }
    relative.push_str(rest);
    relative
}
