//! Notices that every worker of this Envoy reads: digests, each with the time until which it holds.
//!
//! They are one value of Envoy's shared data (docs/envoy.md#shared-data), which the main thread creates before any
//! worker runs, like the [local store](super::local). Notices are news, not counts: one that is lost is written again.

use super::keys::NOTICES;
use super::local::SharedData;
use super::shard::Digest16;
use crate::quantity::Millis;

/// The most notices; the lesser ones make way first, and of equal ones those that end first. Six kilobytes.
const MAX_NOTICES: usize = 256;

/// The bit of a digest's first byte that lesser notices have.
const LESSER: u8 = 0x80;

/// The first byte of the value, which is never empty: Envoy does not tell an empty one from none.
const VERSION: u8 = 1;

/// Attempts to write a notice while other workers write theirs.
const MAX_TRIES: u32 = 100;

/// The notices of this Envoy.
#[derive(Clone, Debug)]
pub struct Noticeboard<S> {
    data: S,
}

/// A notice, and the time until which it holds.
type Notice = (Digest16, Millis);

impl<S: SharedData> Noticeboard<S> {
    /// The board in `data`.
    pub const fn new(data: S) -> Self {
        Self { data }
    }

    /// Creates the board if it does not exist. Notices from before a reload stay.
    pub fn prepare(&self) {
        if self.data.get(NOTICES).is_none() {
            self.data.create(NOTICES, &encode(&[]));
        }
    }

    /// Whether any notice of those in `any` holds at `now`. They are made only if one does: mostly there is none.
    pub fn has<const N: usize>(&self, any: impl FnOnce() -> [Digest16; N], now: Millis) -> bool {
        let mut notices = self.data.get(NOTICES).map(|(bytes, _)| decode(&bytes)).unwrap_or_default();
        notices.retain(|(_, until)| *until > now);
        if notices.is_empty() {
            return false;
        }
        let any = any();
        notices.iter().any(|(notice, _)| any.contains(notice))
    }

    /// Adds a notice that holds until `until`. Returns whether it did not hold already.
    pub fn add(&self, notice: Digest16, until: Millis, now: Millis) -> bool {
        for _ in 0..MAX_TRIES {
            let Some((bytes, version)) = self.data.get(NOTICES) else { break };
            let mut notices = decode(&bytes);
            notices.retain(|(_, until)| *until > now);
            if notices.iter().any(|(known, _)| *known == notice) {
                return false;
            }
            // They are in the order of their ends, because all last equally long.
            notices.push((notice, until));
            while notices.len() > MAX_NOTICES {
                let lesser = notices.iter().position(|([first, ..], _)| first & LESSER != 0);
                notices.remove(lesser.unwrap_or(0));
            }
            if self.data.replace(NOTICES, &encode(&notices), version) {
                break;
            }
        }
        true
    }
}

/// `notice` as one that makes way for all that are greater.
pub const fn lesser(mut notice: Digest16) -> Digest16 {
    notice[0] |= LESSER;
    notice
}

/// `notice` as one that makes way only for those like it.
pub const fn greater(mut notice: Digest16) -> Digest16 {
    notice[0] &= !LESSER;
    notice
}

fn encode(notices: &[Notice]) -> Vec<u8> {
    let notices =
        notices.iter().flat_map(|(digest, until)| digest.iter().copied().chain(until.get().to_be_bytes()));
    std::iter::once(VERSION).chain(notices).collect()
}

fn decode(bytes: &[u8]) -> Vec<Notice> {
    let Some((&VERSION, notices)) = bytes.split_first() else { return Vec::new() };
    let notice = |bytes: &[u8; 24]| {
        let (digest, until) = bytes.split_first_chunk::<16>()?;
        Some((*digest, Millis::new(u64::from_be_bytes(until.try_into().ok()?))))
    };
    notices.as_chunks::<24>().0.iter().filter_map(notice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::tests::Memory;
    use crate::store::shard::digest;

    #[test]
    fn every_worker_reads_a_notice_while_it_holds() {
        let memory = Memory::default();
        let [one, other] = [Noticeboard::new(&memory), Noticeboard::new(&memory)];
        one.prepare();
        let (a, b) = (digest(&["a"]), digest(&["b"]));
        let at = Millis::new;
        assert!(!other.has(|| [a, b], at(0)));
        assert_eq!([one.add(a, at(10), at(0)), other.add(a, at(15), at(5))], [true, false]);
        other.prepare();
        assert!(other.has(|| [b, a], at(9)) && !other.has(|| [b], at(9)) && !other.has(|| [a], at(10)));
        assert!(other.add(a, at(20), at(10)), "it has ended");
    }

    #[test]
    fn lesser_notices_make_way_first() {
        let memory = Memory::default();
        let board = Noticeboard::new(&memory);
        board.prepare();
        let great = greater(digest(&["great"]));
        board.add(great, Millis::new(10_000), Millis::ZERO);
        for number in 0..1_000_u64 {
            board.add(lesser(digest(&[&number.to_string()])), Millis::new(10_001 + number), Millis::ZERO);
        }
        assert!(board.has(|| [great], Millis::ZERO));
        assert!(board.has(|| [lesser(digest(&["999"]))], Millis::ZERO));
        for number in 0..1_000_u64 {
            board.add(greater(digest(&[&number.to_string()])), Millis::new(20_000 + number), Millis::ZERO);
        }
        assert!(!board.has(|| [great, lesser(digest(&["999"]))], Millis::ZERO));
    }

    #[test]
    fn the_board_is_bounded() {
        let memory = Memory::default();
        let board = Noticeboard::new(&memory);
        board.prepare();
        for number in 0..1_000_u64 {
            board.add(greater(digest(&[&number.to_string()])), Millis::new(10_000 + number), Millis::ZERO);
        }
        let (bytes, _) = (&memory).get(NOTICES).unwrap();
        assert_eq!(bytes.len(), 1 + MAX_NOTICES * 24);
        assert!(
            board.has(|| [greater(digest(&["999"]))], Millis::ZERO)
                && !board.has(|| [greater(digest(&["743"]))], Millis::ZERO)
        );
    }

    #[test]
    fn foreign_bytes_are_no_notices() {
        assert_eq!(decode(b""), []);
        assert_eq!(decode(&[9; 49]), []);
        assert_eq!(decode(&[VERSION, 1, 2, 3]), []);
    }
}
