//! The counters of one scope, in the bytes of its shard: read when they are charged, and passed on as bytes otherwise.
//!
//! Before its counters, a scope says how long they last. So a shard forgets a scope whose windows have passed without
//! reading it, and a change costs what the counters of one scope cost, however many scopes its shard has.
//!
//! | bytes            | content                                                       |
//! |------------------|---------------------------------------------------------------|
//! | 8                | the scope's name                                              |
//! | 1 to 10          | the time at which the last of its counters is empty           |
//! | 1 to 10          | the number of bytes that follow                               |
//! | for each counter | 8 bytes of its name, and those of [`Counter::encode`]         |

use crate::codec::varint::{push, take};
use crate::quantity::Millis;
use crate::sort;
use crate::window::{Algorithm, Counter, Window};
use std::borrow::Cow;
use std::cmp::Reverse;

/// A name in 8 bytes.
pub(super) type Name = [u8; 8];

/// The name of the counters that scopes without counters of their own share.
pub(super) const SHARED: Name = [0; 8];

/// The name of `scope`. Counters have their owner in their names, so two scopes with one name would share a place in
/// their shard, and still no counter.
pub(super) fn scope_name(scope: &str) -> Name {
    Hash::EMPTY.with(scope.bytes()).name()
}

/// The beginning of the names of all counters of `identity` in its scope.
pub(super) fn owner(identity: &str) -> Hash {
    Hash::EMPTY.with(identity.bytes().chain([0]))
}

/// The name of the counter of an `owner` for the limit `limit_name` over `window`, in its scope. The configuration
/// chooses the names of limits, and identities are SHA-256 digests: an attacker has to try 2⁶⁴ keys to find one that
/// shares the counter of another.
pub(super) fn counter_name(owner: Hash, limit_name: &str, window: &Window) -> Name {
    let Window { length, algorithm } = window.counted();
    let segments = match algorithm {
        Algorithm::SlidingWindow { segments } => segments.get(),
        _ => 0,
    };
    let calendar = match &algorithm {
        Algorithm::CalendarWindow(calendar) => Some(calendar.name.as_str()),
        _ => None,
    };
    // No part has a byte of zero but the numbers, whose length is fixed.
    let texts = [limit_name, algorithm.name()].into_iter().chain(calendar);
    let with_texts = texts.fold(owner, |hash, text| hash.with(text.bytes().chain([0])));
    with_texts.with(length.get().get().to_be_bytes()).with(segments.to_be_bytes()).name()
}

/// A name so far, by FNV-1a.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Hash {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn with(self, bytes: impl IntoIterator<Item = u8>) -> Self {
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.into_iter().fold(self.0, step))
    }

    const fn name(self) -> Name {
        self.0.to_be_bytes()
    }
}

/// The counters that are charged together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope<'b> {
    pub(super) name: Name,
    /// Its bytes, until they are read.
    unread: Option<Unread<'b>>,
    counters: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unread<'b> {
    /// The time at which all counters are empty.
    until: Millis,
    counters: &'b [u8],
    /// All bytes of the scope.
    whole: &'b [u8],
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: Name,
    pub(super) counter: Counter,
}

impl<'b> Scope<'b> {
    /// A scope without counters.
    pub(super) const fn new(name: Name) -> Self {
        Self { name, unread: None, counters: Vec::new() }
    }

    /// Takes a scope from the beginning of `bytes`. None if they do not begin with one.
    pub(super) fn decode(bytes: &mut &'b [u8]) -> Option<Self> {
        let from = *bytes;
        let (name, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        let until = Millis::new(take(bytes)?);
        let length = usize::try_from(take(bytes)?).ok()?;
        let (counters, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let whole = from.get(..from.len().checked_sub(rest.len())?)?;
        Some(Self { name: *name, unread: Some(Unread { until, counters, whole }), counters: Vec::new() })
    }

    /// The bytes of the scope at `now`. Those of a scope that has been read leave out empty counters.
    pub(super) fn encode(&mut self, now: Millis) -> Cow<'b, [u8]> {
        if let Some(unread) = self.unread {
            return Cow::Borrowed(unread.whole);
        }
        let (mut until, mut counters) = (Millis::ZERO, Vec::with_capacity(160 * self.counters.len()));
        for Slot { name, counter } in &mut self.counters {
            let lasts = counter.lasts(now);
            if !lasts.is_zero() {
                until = until.max(now + lasts);
                counters.extend_from_slice(name);
                counter.encode(&mut counters);
            }
        }
        let mut whole = Vec::with_capacity(counters.len() + 20);
        whole.extend_from_slice(&self.name);
        push(&mut whole, until.get());
        push(&mut whole, u64::try_from(counters.len()).unwrap_or(u64::MAX));
        whole.append(&mut counters);
        Cow::Owned(whole)
    }

    /// The counters that hold something at `now`. Reads them first; of damaged bytes, those before the damage.
    pub(super) fn counters(&mut self, now: Millis) -> &mut Vec<Slot> {
        if let Some(Unread { mut counters, .. }) = self.unread.take() {
            self.counters = std::iter::from_fn(|| Slot::decode(&mut counters)).collect();
        }
        self.counters.retain_mut(|slot| !slot.counter.is_over(now));
        &mut self.counters
    }

    /// Whether any counter holds something at `now`.
    pub(super) fn lasts(&mut self, now: Millis) -> bool {
        match self.unread {
            Some(Unread { until, .. }) => until > now,
            None => !self.counters(now).is_empty(),
        }
    }

    /// Makes the largest of those counters smaller that can be. Returns whether there is one. Counters that have not
    /// been read stay as they are.
    pub(super) fn coarsen(&mut self) -> bool {
        let mut by_size: Vec<&mut Slot> = self.counters.iter_mut().collect();
        sort::by_key(&mut by_size, |slot| Reverse(slot.size()));
        by_size.into_iter().any(|slot| slot.counter.coarsen())
    }
}

impl Slot {
    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (name, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self { name: *name, counter: Counter::decode(bytes)? })
    }

    fn size(&self) -> usize {
        let mut bytes = Vec::new();
        self.counter.encode(&mut bytes);
        bytes.len()
    }
}
