//! How often lessons go to a store that must be read and written for them.

use crate::quantity::Millis;

/// The writes that need not wait, after a time without any.
const BURST: u64 = 32;

/// The time that each write takes from these.
const EACH: Millis = Millis::SECOND;

/// Lets a few writes go at once, so that what is learned from rare answers counts at once, and then one a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Until when the writes so far take their time.
    until: Millis,
}

impl Pace {
    /// Whether there may be a write at `now`. If so, it counts as one.
    pub fn may(&mut self, now: Millis) -> bool {
        let most = now + EACH * BURST;
        // By a clock that was set back, it may be hours away.
        let until = self.until.clamp(now, most);
        let next = until + EACH;
        let may = next <= most;
        self.until = if may { next } else { until };
        may
    }

    /// Lets none go for a while, because one has failed.
    pub fn rest(&mut self, now: Millis) {
        self.until = now + EACH * BURST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_then_one_a_second() {
        let mut pace = Pace::default();
        let at = |seconds: u64| Millis::new(1_000 * seconds);
        let mut went = |from, to| (from..to).filter(|n| pace.may(Millis::new(*n))).count();
        assert_eq!(went(1_000_000, 1_000_500), 32);
        assert_eq!(went(1_000_500, 1_010_500), 10);
        assert_eq!(went(9_000_000, 9_000_100), 32);
        assert_eq!(went(0, 100), 0, "the clock was set back");
        assert_eq!(went(1_000, 40_000), 39, "and goes on");
        pace.rest(at(50));
        assert!(!pace.may(at(50)) && pace.may(at(51)));
    }
}
