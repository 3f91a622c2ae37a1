//! The memory that requests of one worker hold because of what their clients send.

use std::cell::Cell;
use std::rc::Rc;

/// The bytes that the bodies of a worker hold, at most: 128 MiB for those that are on their way, and as much for those
/// that are being read.
pub(super) const MAX_HELD: u64 = 128 << 20;

/// Bytes that the bodies of a worker hold.
#[derive(Clone, Debug, Default)]
pub struct Held(Rc<Cell<u64>>);

/// The part of [`Held`] that one body holds, for as long as it does.
#[derive(Debug)]
pub(super) struct Share {
    held: Held,
    bytes: u64,
}

impl Held {
    /// A share of nothing so far.
    pub(super) fn share(&self) -> Share {
        Share { held: self.clone(), bytes: 0 }
    }

    /// A share of `bytes`, if there is room, or nothing is held: even the largest body has its turn.
    pub(super) fn claim(&self, bytes: u64) -> Option<Share> {
        let has_room = self.all() == 0 || self.all().saturating_add(bytes) <= MAX_HELD;
        has_room.then(|| {
            let mut share = self.share();
            share.set(bytes);
            share
        })
    }

    /// The bytes that all hold together.
    pub(super) fn all(&self) -> u64 {
        self.0.get()
    }
}

impl Share {
    /// Holds so many bytes from now on.
    pub(super) fn set(&mut self, bytes: u64) {
        let others = self.held.0.get().saturating_sub(self.bytes);
        self.held.0.set(others.saturating_add(bytes));
        self.bytes = bytes;
    }

    /// The bytes that all hold together.
    pub(super) fn of_all(&self) -> u64 {
        self.held.all()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
