//! Maps of what a worker keeps for each stream.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by stream: Envoy's context id.
pub(super) type ByStream<T> = HashMap<u32, T, BuildHasherDefault<StreamHasher>>;

/// Spreads the ids of streams. Envoy counts them up, so nobody can choose them, and a hash that keeps attackers from
/// aiming would be a fiftieth of the filter's work for a request, which looks streams up thirty times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, id: u32) {
        // Fibonacci hashing: 2^64 over the golden ratio.
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        // A map takes the place from the lowest bits, and the multiplication has spread the highest.
        self.0.rotate_left(32)
    }
}
