//! What a client may do: which kinds there are and how often each comes, and what its answer may be.

use crate::act::{Act, act};
use crate::fleet::BOOKED;
use proptest::prelude::*;

/// Requests that `tight-requests` may have within two seconds, and `tight-tokens` if each costs [`TIGHT_TOKENS`].
pub const TIGHT: u64 = 10;

/// Tokens of a request of `tight-tokens`: 9 of its prompt, 10 of its answer.
pub const TIGHT_TOKENS: u64 = 19;

/// Requests that `slots` may have at once.
pub const SLOTS: usize = 3;

/// Words in the prompt of a large body, which the filter reads in steps.
pub const LARGE_WORDS: usize = 20_000;

/// What one client does.
#[derive(Clone, Debug)]
pub enum Errand {
    /// A request of any kind that ends in any way, with a key of which every charge is compared.
    Booked(&'static str, Act),
    /// A request under a limit on requests that is nearly always reached.
    TightRequests,
    /// The same under a limit on tokens.
    TightTokens,
    /// A stream under a limit on concurrency, which its client holds for so many milliseconds.
    Slot(u64),
    /// A request that may wait until it fits.
    Patient,
    /// A request with a key that nobody has given out.
    Invented(u64),
    /// A request with a key that may do nothing.
    Nothing,
    /// A request whose body is no JSON.
    Broken(&'static str),
    /// A request to a path that is rejected.
    Rejected,
    /// A prompt of a hundred kilobytes.
    Large(&'static str),
}

/// Any errand.
pub fn errand() -> impl Strategy<Value = Errand> {
    let key = || (0..BOOKED.len()).prop_map(|at| BOOKED[at].0);
    let act = act().prop_map(|act| act.possible().in_larger_pieces());
    prop_oneof![
        60 => (key(), act).prop_map(|(key, act)| Errand::Booked(key, act)),
        10 => Just(Errand::TightRequests),
        10 => Just(Errand::TightTokens),
        7 => (5..60_u64).prop_map(Errand::Slot),
        8 => Just(Errand::Patient),
        6 => any::<u64>().prop_map(Errand::Invented),
        2 => Just(Errand::Nothing),
        3 => key().prop_map(Errand::Broken),
        1 => Just(Errand::Rejected),
        1 => key().prop_map(Errand::Large),
    ]
}

impl Errand {
    /// Its name in the summary.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Booked(..) => "of every kind and ending",
            Self::TightRequests => "under a tight limit on requests",
            Self::TightTokens => "under a tight limit on tokens",
            Self::Slot(_) => "under a limit on concurrency",
            Self::Patient => "that may wait",
            Self::Invented(_) => "with invented keys",
            Self::Nothing => "with a key that may do nothing",
            Self::Broken(_) => "with broken bodies",
            Self::Rejected => "to a rejected path",
            Self::Large(_) => "with 100 KiB of prompt",
        }
    }

    /// The key in its request.
    pub fn key(&self) -> String {
        match self {
            Self::Booked(key, _) | Self::Broken(key) | Self::Large(key) => (*key).to_owned(),
            Self::TightRequests => "tight-requests".to_owned(),
            Self::TightTokens => "tight-tokens".to_owned(),
            Self::Slot(_) => "slots".to_owned(),
            Self::Patient => "patient".to_owned(),
            Self::Invented(number) => format!("invented-{number}"),
            Self::Nothing => "nothing".to_owned(),
            Self::Rejected => "booked-0".to_owned(),
        }
    }

    /// Whether it is under a limit that holds only where nobody forwards without the store's answer.
    pub const fn is_tight(&self) -> bool {
        matches!(self, Self::TightRequests | Self::TightTokens | Self::Slot(_))
    }

    /// Whether an answer may have this status, of an Envoy that may refuse without the store's answer if `denies`.
    pub fn may_be_answered(&self, status: u16, denies: bool) -> bool {
        let unavailable = status == 503 && denies;
        match self {
            // What the upstream and Envoy answer is many things; the books look at the decision.
            Self::Booked(..) => true,
            Self::TightRequests | Self::TightTokens | Self::Slot(_) | Self::Patient => {
                matches!(status, 200 | 429) || unavailable
            }
            Self::Invented(_) | Self::Large(_) => status == 200 || unavailable,
            Self::Nothing => status == 429,
            Self::Broken(_) => status == 400,
            Self::Rejected => status == 403,
        }
    }
}
