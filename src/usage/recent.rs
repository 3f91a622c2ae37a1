//! A table of bounded size, which keeps what was written recently.
//!
//! Its keys may be names that clients choose, so it keeps none of them, only hashes under a secret of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// Values by the hashes of their keys. There are two generations: once the younger has half of the room, it becomes the
/// older, and what was older and has not been written since is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Recent<V> {
    room: usize,
    hasher: RandomState,
    younger: HashMap<u64, V>,
    older: HashMap<u64, V>,
}

impl<V: Default> Recent<V> {
    /// A table with room for so many values.
    pub(super) fn new(room: usize) -> Self {
        Self { room, hasher: RandomState::new(), younger: HashMap::new(), older: HashMap::new() }
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: impl Hash) -> Option<&V> {
        let key = self.hasher.hash_one(key);
        self.younger.get(&key).or_else(|| self.older.get(&key))
    }

    /// The value of `key`, which is written now.
    pub(super) fn write(&mut self, key: impl Hash) -> &mut V {
        let key = self.hasher.hash_one(key);
        if self.younger.len() >= self.room / 2 && !self.younger.contains_key(&key) {
            self.older = std::mem::take(&mut self.younger);
        }
        let older = &mut self.older;
        self.younger.entry(key).or_insert_with(|| older.remove(&key).unwrap_or_default())
    }

    /// The number of values.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.younger.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_often_stays_and_the_rest_is_forgotten() {
        let mut recent: Recent<u64> = Recent::new(100);
        *recent.write("rare") += 1;
        for at in 0..1_000_u64 {
            *recent.write("often") += 1;
            recent.write(("invented", at));
            assert!(recent.len() <= 100);
        }
        assert_eq!((recent.get("often"), recent.get("rare")), (Some(&1_000), None));
        assert_eq!(recent.get(("invented", 999_u64)), Some(&0));
    }
}
