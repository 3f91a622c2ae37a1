//! Open responses of this Envoy: background responses whose requests are over, and whose usage is still to come.
//!
//! An open response and its usage meet under the hash of the response's id, whichever comes first: the stream of a
//! client that leaves may end after another worker has seen the usage. Envoy's shared data frees no key
//! (docs/envoy.md#shared-data), so the number of places is fixed; where they do not suffice, a reservation stays as
//! reserved. `lua/background.lua` does the same on Redis.

use super::keys;
use super::local::{LocalError, Receipt, SharedData, Unchanged, change_value};
use super::shard::{Digest16, digest};
use crate::quantity::Millis;
use serde::{Deserialize, Serialize};

/// The number of shards.
const SHARDS: u32 = 256;

/// The most open responses and usages in one shard.
const PLACES: usize = 16;

/// How long a usage waits for the end of its response's request.
pub const USAGE_WAITS: Millis = Millis::new(30_000);

/// What waits under the hash of a response's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    /// A reservation, which a usage settles.
    Open(String, Receipt),
    /// A usage, for a reservation.
    Usage(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    response: Digest16,
    until: Millis,
    side: Side,
}

/// The entries of the responses that hash to one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shard {
    entries: Vec<Entry>,
}

impl Shard {
    fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// Never empty: shared data reads an empty value as none.
    fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_else(|_| vec![0])
    }

    fn forget_old(&mut self, now: Millis) {
        self.entries.retain(|entry| entry.until > now);
    }

    /// Removes what waits for `response`, if it is what `is` says.
    fn take(&mut self, response: Digest16, is: impl Fn(&Side) -> bool) -> Option<Side> {
        let at = self.entries.iter().position(|entry| entry.response == response && is(&entry.side))?;
        Some(self.entries.swap_remove(at).side)
    }

    /// Adds `entry`. A usage, which anyone can send any number of, takes no place from a reservation.
    fn put(&mut self, entry: Entry) {
        self.entries.retain(|known| known.response != entry.response);
        if self.entries.len() >= PLACES {
            let is_usage = |entry: &Entry| matches!(entry.side, Side::Usage(_));
            let may_go = |known: &&Entry| is_usage(known) || !is_usage(&entry);
            let goes = self.entries.iter().filter(may_go).min_by_key(|known| (!is_usage(known), known.until));
            let Some(response) = goes.map(|entry| entry.response) else { return };
            self.entries.retain(|known| known.response != response);
        }
        self.entries.push(entry);
    }
}

/// The open responses of `namespace` on `data`.
#[derive(Debug)]
pub(super) struct OpenResponses<'d, S> {
    pub(super) data: &'d S,
    pub(super) namespace: &'d str,
}

impl<S: SharedData> OpenResponses<'_, S> {
    /// Creates the shards that do not exist.
    pub(super) fn prepare(&self) {
        let empty = Shard::default().encode();
        for shard in 0..SHARDS {
            let key = keys::responses(self.namespace, shard);
            if self.data.get(&key).is_none() {
                self.data.create(&key, &empty);
            }
        }
    }

    /// Keeps the reservation with this `record` and `receipt` open for `keep`, for the usage of `response`. Returns the
    /// usage in their place, with the receipt, if it has come already.
    ///
    /// # Errors
    /// [`LocalError`]; then nothing is kept.
    pub(super) fn open(
        &self,
        response: &str,
        record: &str,
        receipt: &Receipt,
        keep: Millis,
        now: Millis,
    ) -> Result<Option<String>, LocalError> {
        self.change(response, now, |shard, response| {
            match shard.take(response, |side| matches!(side, Side::Usage(_))) {
                Some(Side::Usage(usage)) => Some(usage),
                _ => {
                    let side = Side::Open(record.to_owned(), receipt.clone());
                    shard.put(Entry { response, until: now + keep, side });
                    None
                }
            }
        })
    }

    /// Takes the `usage` of `response`. Returns the reservation that it settles, which is not open any more; if there
    /// is none yet, the usage waits for it.
    ///
    /// # Errors
    /// [`LocalError`].
    pub(super) fn report(
        &self,
        response: &str,
        usage: &str,
        now: Millis,
    ) -> Result<Option<(String, Receipt)>, LocalError> {
        self.change(response, now, |shard, response| {
            match shard.take(response, |side| matches!(side, Side::Open(..))) {
                Some(Side::Open(record, receipt)) => Some((record, receipt)),
                _ => {
                    let side = Side::Usage(usage.to_owned());
                    shard.put(Entry { response, until: now + USAGE_WAITS, side });
                    None
                }
            }
        })
    }

    fn change<T>(
        &self,
        response: &str,
        now: Millis,
        change: impl Fn(&mut Shard, Digest16) -> T,
    ) -> Result<T, LocalError> {
        let response = digest(&[response]);
        let [a, b, c, d, ..] = response;
        let number = u32::from_be_bytes([a, b, c, d]) % SHARDS;
        let changed = change_value(self.data, &keys::responses(self.namespace, number), |bytes| {
            let mut shard = Shard::decode(bytes);
            shard.forget_old(now);
            let answer = change(&mut shard, response);
            (answer, shard.encode())
        });
        changed.map_err(|fault| match fault {
            Unchanged::Missing => LocalError::Missing(number),
            Unchanged::Contended => LocalError::Contended(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::tests::Memory;

    const MINUTE: Millis = Millis::MINUTE;

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    fn with(test: impl FnOnce(&OpenResponses<'_, &Memory>)) {
        let memory = Memory::default();
        let responses = OpenResponses { data: &&memory, namespace: "" };
        responses.prepare();
        test(&responses);
    }

    fn open(responses: &OpenResponses<'_, &Memory>, id: &str, now: u64) -> Option<String> {
        responses.open(id, &format!("record of {id}"), &Receipt::default(), MINUTE, at(now)).unwrap()
    }

    fn report(responses: &OpenResponses<'_, &Memory>, id: &str, now: u64) -> Option<String> {
        responses.report(id, &format!("usage of {id}"), at(now)).unwrap().map(|(record, _)| record)
    }

    #[test]
    fn an_open_response_and_its_usage_meet_once_whichever_comes_first() {
        with(|responses| {
            assert_eq!(open(responses, "a", 0), None);
            assert_eq!(report(responses, "b", 1), None);
            assert_eq!(report(responses, "a", 2).as_deref(), Some("record of a"));
            assert_eq!(report(responses, "a", 3), None);
            assert_eq!(open(responses, "b", 4).as_deref(), Some("usage of b"));
            assert_eq!(open(responses, "b", 5), None);
        });
    }

    #[test]
    fn nothing_waits_longer_than_it_may() {
        with(|responses| {
            open(responses, "a", 0);
            report(responses, "b", 0);
            assert_eq!(open(responses, "b", USAGE_WAITS.get()), None);
            assert_eq!(report(responses, "a", MINUTE.get()), None);
        });
    }

    #[test]
    fn places_are_bounded_and_usages_take_none_from_reservations() {
        let entry = |n: u8, until: u64, side: Side| Entry { response: [n; 16], until: at(until), side };
        let reservation = |n, until| entry(n, until, Side::Open(String::new(), Receipt::default()));
        let usage = |n, until| entry(n, until, Side::Usage(String::new()));
        let mut shard = Shard::default();
        (0..16).for_each(|n| shard.put(reservation(n, 100 + u64::from(n))));
        shard.put(usage(16, 500));
        assert_eq!(shard.entries.iter().map(|entry| entry.response[0]).max(), Some(15));
        shard.put(reservation(17, 200));
        assert_eq!(shard.entries.len(), PLACES);
        assert!(shard.entries.iter().all(|entry| entry.response[0] != 0), "the oldest goes");
        shard.take([5; 16], |_| true).unwrap();
        shard.put(usage(18, 900));
        shard.put(usage(19, 800));
        shard.put(reservation(20, 50));
        let left: Vec<u8> = shard.entries.iter().map(|entry| entry.response[0]).collect();
        assert!(left.contains(&20) && !left.contains(&18) && !left.contains(&19) && left.contains(&1));
        assert_eq!(Shard::decode(&shard.encode()), shard);
        assert_eq!(Shard::decode(&[255; 9]), Shard::default());
    }
}
