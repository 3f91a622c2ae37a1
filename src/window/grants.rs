//! Grants: what an operator has added to a limit until some time. Twin of `lua/grants.lua`.
//!
//! Grants are the shared store's: the local store has none. What is granted now raises the most that fits into the
//! window, of a bucket its burst, and never how fast that refills. Grants that run at the same time add up.
//!
//! Whoever does not fit learns when they would. A wait counts only while the grants that make it so short last: beyond
//! the end of the first of them, the wait is the one without it, which is never shorter. So the waits are asked for in
//! the order in which grants end, until one is over before the next end.

use super::{Algorithm, Fit, Window};
use crate::quantity::{MAX_EXACT, Millis, Units};
use serde::{Deserialize, Serialize};

/// So many units until some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The units.
    pub units: Units,
    /// When it ends, in milliseconds since the epoch.
    #[serde(rename = "until_ms")]
    pub until: Millis,
}

/// The grants of a counter, the first to end first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// The most that a counter has at a time.
    pub const MOST: usize = 16;

    /// Those in the field of a counter on Redis, `<units>:<end>,...`, that have not ended by `now`. What cannot be read
    /// is none.
    pub fn parse(field: &str, now: Millis) -> Self {
        let grant = |text: &str| {
            let (units, until) = text.split_once(':')?;
            let grant =
                Grant { units: Units::new(units.parse().ok()?), until: Millis::new(until.parse().ok()?) };
            (grant.until > now).then_some(grant)
        };
        let mut grants: Vec<Grant> = field.split(',').filter_map(grant).take(Self::MOST).collect();
        grants.sort_by_key(|grant| grant.until);
        Self(grants)
    }

    /// The grants.
    pub fn list(&self) -> &[Grant] {
        &self.0
    }

    /// Drops those that have ended by `now`.
    pub fn keep_up(&mut self, now: Millis) {
        self.0.retain(|grant| grant.until > now);
    }

    /// Adds `grant`, or its units to the grant that ends at the same time. Returns false if there are too many.
    pub fn add(&mut self, grant: Grant) -> bool {
        if let Some(other) = self.0.iter_mut().find(|other| other.until == grant.until) {
            other.units = (other.units + grant.units).min(Units::new(MAX_EXACT));
            return true;
        }
        let fits = self.0.len() < Self::MOST;
        if fits {
            self.0.push(grant);
            self.0.sort_by_key(|grant| grant.until);
        }
        fits
    }

    /// Ends all of them.
    pub fn revoke(&mut self) {
        self.0.clear();
    }

    /// `window` and `limit`, raised by the grants.
    pub fn raise(&self, window: Window, limit: Units) -> (Window, Units) {
        raised(window, limit, &self.0)
    }

    /// The units that the grants add to what fits at once into `window` under `limit`.
    pub fn units(&self, window: &Window, limit: Units) -> Units {
        let (raised, raised_limit) = self.raise(*window, limit);
        raised.capacity(raised_limit) - window.capacity(limit)
    }

    /// Whether a cost fits at `now`. `fit` is whether it does under a raised window and limit.
    pub fn fit(
        &self,
        window: Window,
        limit: Units,
        now: Millis,
        mut fit: impl FnMut(&Window, Units) -> Fit,
    ) -> Fit {
        let mut rest = &self.0[..];
        while let [first, others @ ..] = rest {
            let (window, limit) = raised(window, limit, rest);
            match fit(&window, limit) {
                Fit::After(wait) if now + wait.get() >= first.until => rest = others,
                fit => return fit,
            }
        }
        fit(&window, limit)
    }
}

fn raised(window: Window, limit: Units, grants: &[Grant]) -> (Window, Units) {
    let raise =
        |units: Units| grants.iter().fold(units, |sum, one| (sum + one.units).min(Units::new(MAX_EXACT)));
    match window.algorithm {
        Algorithm::TokenBucket { burst } => (Window::token_bucket(window.length, raise(burst)), limit),
        _ => (window, raise(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;
    use crate::window::Counter;
    use proptest::prelude::*;

    const NOW: Millis = Millis::new(1_700_000_000_000);

    fn grants(of: &[(u64, u64)]) -> Grants {
        let mut grants = Grants::default();
        for (units, after) in of {
            assert!(grants.add(Grant { units: Units::new(*units), until: NOW + Millis::new(*after) }));
        }
        grants
    }

    #[test]
    fn a_field_is_read_without_what_has_ended_or_is_none_of_ours() {
        let of = |field: &str| Grants::parse(field, Millis::new(10)).0;
        let grant = |units, until| Grant { units: Units::new(units), until: Millis::new(until) };
        assert_eq!(of("7:12,5:11,3:10"), [grant(5, 11), grant(7, 12)]);
        assert_eq!(of("7:12,x,:,5"), [grant(7, 12)]);
        assert_eq!(of(""), []);
    }

    #[test]
    fn grants_of_one_end_are_one_and_their_number_is_bounded() {
        let mut grants = grants(&[(1, 5), (2, 5)]);
        assert_eq!(grants.list().len(), 1);
        for after in 6..21 {
            assert!(grants.add(Grant { units: Units::new(1), until: NOW + Millis::new(after) }));
        }
        assert!(!grants.add(Grant { units: Units::new(1), until: NOW + Millis::new(30) }));
        assert_eq!(grants.units(&Window::sliding(NonZeroMillis::MINUTE), Units::new(9)), 18);
    }

    #[test]
    fn a_bucket_without_refill_admits_nothing_whatever_is_granted() {
        let bucket = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(5));
        assert_eq!(grants(&[(3, 5)]).units(&bucket, Units::ZERO), Units::ZERO);
        assert_eq!(grants(&[(3, 5)]).units(&bucket, Units::new(1)), 3);
    }

    proptest! {
        /// A refused cost fits after its wait, and not before, while grants come to their ends.
        #[test]
        fn a_wait_is_true_although_grants_end(
            spent in prop::collection::vec((0_u64..3_000, 0_u64..12), 0..40),
            ends in prop::collection::vec((0_u64..20, 1_u64..90_000), 0..5),
            cost in 0_u64..60, bucket: bool,
        ) {
            let limit = Units::new(20);
            let window = if bucket {
                Window::token_bucket(NonZeroMillis::MINUTE, Units::new(10))
            } else {
                Window::sliding(NonZeroMillis::MINUTE)
            };
            let mut counter = Counter::new(&window, limit);
            let mut now = NOW;
            for (pause, units) in spent {
                now += Millis::new(pause);
                let _ = counter.at(now).reserve(Units::new(units));
            }
            let mut granted = Grants::default();
            for (units, after) in ends {
                granted.add(Grant { units: Units::new(units), until: now + Millis::new(after) });
            }
            let fit_at = |at: Millis| {
                let (mut counter, mut granted) = (counter.clone(), granted.clone());
                granted.keep_up(at);
                let mut counter = counter.at(at);
                granted.fit(window, limit, at, |window, limit| {
                    counter.set_limit(window, limit);
                    counter.fit(limit, Units::new(cost))
                })
            };
            if let Fit::After(wait) = fit_at(now) {
                prop_assert_eq!(fit_at(now + wait.get()), Fit::Now);
                prop_assert_ne!(fit_at(now + wait.get() - Millis::new(1)), Fit::Now);
            }
        }
    }
}
