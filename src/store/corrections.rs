//! What is learned about the counts of prompts, between a worker and its store.
//!
//! With the local store, the votes are one value of Envoy's shared data (docs/envoy.md#shared-data), which ticks read
//! and write. With Redis, each settlement may bring a lesson, and each call to the sidecar says in a header which
//! factors the worker knows; the answer has newer ones, if there are any. So no call is made for it, and whatever fails
//! here fails no reservation. A sidecar that does not know the header gets no lessons.

use super::keys;
use super::local::{SharedData, change_value};
use crate::quantity::Millis;
use crate::usage::learned_prompt::{Factors, Lesson, Lessons, Pace, Votes};
use std::fmt;
use std::num::NonZeroU32;

/// The header of calls and of answers.
pub const HEADER: &str = "x-llm-rate-limit-prompts";

/// How often a worker looks at what others have learned.
const LOOKS_EVERY: Millis = Millis::SECOND;

/// What an answer of the sidecar says about factors. Written as the version in hexadecimal digits and, if the caller
/// has others, a semicolon and the factors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The version of the factors that are in force.
    pub version: u64,
    /// The factors; none if the caller has them already.
    pub factors: Option<Factors>,
}

/// The version of factors that a caller names who has none.
const NOTHING: u64 = 0;

impl Told {
    /// What to tell a caller that names this version in its header of the `factors` in force.
    pub fn to(asked: &str, factors: &Factors) -> Self {
        let version = factors.version();
        let has_them = u64::from_str_radix(asked, 16) == Ok(version);
        Self { version, factors: (!has_them).then(|| factors.clone()) }
    }

    /// Reads a header; none if it says nothing.
    pub fn parse(header: &str) -> Option<Self> {
        let (version, factors) =
            header.split_once(';').map_or((header, None), |(version, factors)| (version, Some(factors)));
        let version = u64::from_str_radix(version, 16).ok()?;
        Some(Self { version, factors: factors.map(Factors::parse) })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.version)?;
        self.factors.iter().try_for_each(|factors| write!(f, ";{factors}"))
    }
}

/// The factors in force in one worker, and the lessons that its store does not have.
#[derive(Clone, Debug)]
pub struct Corrections<S> {
    place: Place<S>,
    factors: Factors,
    lessons: Lessons,
}

/// Where the votes are.
#[derive(Clone, Debug)]
enum Place<S> {
    /// Nowhere: nothing is learned.
    Nowhere,
    /// In shared data. `seen` is the version of the value that the factors are from, if that is known.
    Shared { data: S, key: String, pace: Pace, looked: Millis, seen: Option<NonZeroU32> },
    /// Behind the sidecar. `version` is that of the factors, and none if its last answer said nothing of them.
    Sidecar { version: Option<u64> },
}

impl<S: SharedData> Corrections<S> {
    /// Nothing is learned, and nothing corrected.
    pub(super) fn none() -> Self {
        Self { place: Place::Nowhere, factors: Factors::default(), lessons: Lessons::default() }
    }

    /// Whatever the sidecar knows.
    pub(super) fn of_sidecar() -> Self {
        Self { place: Place::Sidecar { version: None }, ..Self::none() }
    }

    /// What the workers of this Envoy know in `namespace`. Creates the value if it does not exist.
    pub(super) fn shared(data: S, namespace: &str) -> Self {
        let key = keys::votes(namespace);
        if data.get(&key).is_none() {
            data.create(&key, &Votes::default().encode());
        }
        let (mut seen, mut factors) = (None, Factors::default());
        look(&data, &key, &mut seen, &mut factors);
        let place = Place::Shared { data, key, pace: Pace::default(), looked: Millis::ZERO, seen };
        Self { place, factors, ..Self::none() }
    }

    /// Whether counts are corrected at all.
    pub const fn is_on(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    /// The factors in force.
    pub const fn factors(&self) -> &Factors {
        &self.factors
    }

    /// Takes a lesson for the store.
    pub fn teach(&mut self, lesson: Lesson) {
        if self.is_on() {
            self.lessons.push(lesson);
        }
    }

    /// Brings lessons to shared data, and looks what others have brought.
    pub(super) fn tick(&mut self, now: Millis) {
        let Place::Shared { data, key, pace, looked, seen } = &mut self.place else { return };
        if !self.lessons.is_empty() && pace.may(now) {
            let lessons = self.lessons.take();
            let changed = change_value(data, key, |bytes| {
                let mut votes = Votes::decode(bytes);
                lessons.iter().for_each(|lesson| votes.teach(lesson));
                (votes.factors(), votes.encode())
            });
            match changed {
                Ok(factors) => self.factors = factors,
                Err(fault) => log::debug!("lessons about prompts are lost: {fault:?}"),
            }
            (*looked, *seen) = (now, None);
        } else if now >= *looked + LOOKS_EVERY || now < *looked {
            look(data, key, seen, &mut self.factors);
            *looked = now;
        }
    }

    /// A lesson for the next settlement, if the sidecar takes lessons.
    pub(super) fn next_lesson(&mut self) -> Option<Lesson> {
        let Place::Sidecar { version: Some(_) } = self.place else { return None };
        self.lessons.pop()
    }

    /// The value of the header of a call; none if nothing is learned there.
    pub fn asks(&self) -> Option<String> {
        let Place::Sidecar { version } = self.place else { return None };
        Some(format!("{:x}", version.unwrap_or(NOTHING)))
    }

    /// Takes the header of an answer.
    pub fn hear(&mut self, header: Option<&str>) {
        let Place::Sidecar { version } = &mut self.place else { return };
        let told = header.and_then(Told::parse);
        *version = told.as_ref().map(|told| told.version);
        if let Some(factors) = told.and_then(|told| told.factors) {
            self.factors = factors;
        }
    }
}

/// Reads the factors, unless they are from the version that was `seen`.
fn look<S: SharedData>(data: &S, key: &str, seen: &mut Option<NonZeroU32>, factors: &mut Factors) {
    let found = data.get(key);
    let version = found.as_ref().map(|(_, version)| *version);
    if version.is_none() || version != *seen {
        *factors = found.map(|(bytes, _)| Votes::decode(&bytes).factors()).unwrap_or_default();
        *seen = version;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::tests::Memory;
    use crate::tokens::PromptKind;
    use crate::usage::learned_prompt::{Cell, Factor};

    fn cell() -> Cell {
        Cell::new("m", PromptKind::Plain)
    }

    fn lesson(voter: u64) -> Lesson {
        Lesson::new(cell(), &voter.to_string(), 100, 130).unwrap()
    }

    fn at(now: u64) -> Millis {
        Millis::new(1_000_000 + now)
    }

    #[test]
    fn workers_of_one_envoy_learn_together_and_a_new_one_begins_with_it() {
        let memory = Memory::default();
        let [mut one, mut other] = [(); 2].map(|()| Corrections::shared(&memory, "a"));
        other.tick(at(0));
        (0..20).for_each(|n| one.teach(lesson(n)));
        assert_eq!(one.factors().of(cell()), Factor::ONE);
        one.tick(at(0));
        assert_eq!(one.factors().of(cell()).permille(), 1_300);
        other.tick(at(999));
        assert!(other.factors().is_empty());
        other.tick(at(1_000));
        assert_eq!(other.factors(), one.factors());
        assert_eq!(Corrections::shared(&memory, "a").factors(), one.factors());
        assert!(Corrections::shared(&memory, "b").factors().is_empty());
    }

    #[test]
    fn a_tick_without_lessons_reads_once_a_second_and_never_writes() {
        let memory = Memory::default();
        let mut corrections = Corrections::shared(&memory, "");
        memory.take_calls();
        (0..10_000).step_by(50).for_each(|now| corrections.tick(at(now)));
        assert_eq!(memory.take_calls(), (10, 0));
    }

    #[test]
    fn votes_that_have_not_changed_are_not_decoded_again() {
        let memory = Memory::default();
        let key = keys::votes("");
        let _ = Corrections::shared(&memory, "");
        let marked: Factors = [(cell(), Factor::from_permille(1_234))].into_iter().collect();
        let (mut seen, mut factors) = (None, marked.clone());
        look(&&memory, &key, &mut seen, &mut factors);
        assert!(factors.is_empty() && seen.is_some());
        factors = marked.clone();
        look(&&memory, &key, &mut seen, &mut factors);
        assert_eq!(factors, marked, "they stay as they are");
        let mut one = Corrections::shared(&memory, "");
        (0..20).for_each(|n| one.teach(lesson(n)));
        one.tick(at(0));
        look(&&memory, &key, &mut seen, &mut factors);
        assert_eq!(factors.of(cell()).permille(), 1_300);
    }

    #[test]
    fn a_busy_worker_writes_once_a_second() {
        let memory = Memory::default();
        let mut corrections = Corrections::shared(&memory, "");
        memory.take_calls();
        for now in (0..100_000).step_by(50) {
            corrections.teach(lesson(now));
            corrections.tick(at(now));
        }
        let (_, writes) = memory.take_calls();
        assert!((100..140).contains(&writes), "{writes}");
    }

    #[test]
    fn a_sidecar_gets_lessons_once_it_has_said_that_it_knows_them() {
        let mut corrections = Corrections::<&Memory>::of_sidecar();
        corrections.teach(lesson(1));
        assert_eq!((corrections.asks().as_deref(), corrections.next_lesson()), (Some("0"), None));
        let factors: Factors = [(cell(), Factor::from_permille(1_200))].into_iter().collect();
        corrections.hear(Some(&Told::to("0", &factors).to_string()));
        assert_eq!(corrections.factors(), &factors);
        assert_eq!(corrections.next_lesson(), Some(lesson(1)));
        let asked = corrections.asks().unwrap();
        let told = Told::to(&asked, &factors);
        assert_eq!(told.factors, None, "it has them");
        corrections.hear(Some(&told.to_string()));
        assert_eq!(corrections.factors(), &factors);
        corrections.hear(Some(&Told::to(&asked, &Factors::default()).to_string()));
        assert!(corrections.factors().is_empty(), "they are forgotten");
        corrections.teach(lesson(2));
        corrections.hear(None);
        assert_eq!(corrections.next_lesson(), None, "an older one has taken its place");
    }

    #[test]
    fn nothing_is_learned_where_nothing_is_to_be() {
        let mut corrections = Corrections::<&Memory>::none();
        (0..100).for_each(|n| corrections.teach(lesson(n)));
        corrections.tick(at(0));
        assert_eq!((corrections.asks(), corrections.factors().is_empty()), (None, true));
    }

    #[test]
    fn a_header_that_is_none_says_nothing() {
        assert_eq!(Told::parse(""), None);
        assert_eq!(Told::parse("x;"), None);
        assert_eq!(Told::parse("1f"), Some(Told { version: 31, factors: None }));
        assert_eq!(Told::parse("1;,x=y"), Some(Told { version: 1, factors: Some(Factors::default()) }));
    }
}
