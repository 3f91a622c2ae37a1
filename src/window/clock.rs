//! The time of a counter, which never goes back by more than a moment, whatever the clock does.
//!
//! A clock may be set back: by an hour by an operator, by less by a replica that takes over. A counter that waited for
//! the clock to come back would refuse for an hour. So it keeps a time of its own: where the clock is behind the last
//! time that the counter has seen, by more than its slack, the counter goes on from that time and remembers the
//! difference. Its time then passes as fast as real time and never faster: nothing leaves a window early, and nothing
//! leaves later than if the clock had stood still for a moment. Places of charges are in the counter's time, so that
//! refunds find them.
//!
//! Within the slack, the counter waits. Two workers read the clock in one order and reach a counter in another; if each
//! such moment moved the counter's time, they would add up.
//!
//! A step forward cannot be told from time that has passed. What has left the window by the new clock is forgotten, so
//! each step forward admits at most one limit more.

use crate::quantity::{Millis, NonZeroMillis};

/// How far the clock may be behind a counter that counts over `length` before the counter goes on without it: a segment
/// of a window of [`super::DEFAULT_SEGMENTS`], and at most a minute.
pub(super) fn slack(length: NonZeroMillis) -> Millis {
    Millis::new(length.get().get() / u64::from(super::DEFAULT_SEGMENTS.get())).min(Millis::MINUTE)
}

/// How far a counter's time is ahead of the clock; zero until the clock steps back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lead(pub(super) Millis);

impl Lead {
    /// The counter's time when the clock shows `now`, if the counter has seen the time `seen`.
    pub(super) fn time(&mut self, now: Millis, seen: Millis, slack: Millis) -> Millis {
        let time = now + self.0;
        if seen - time <= slack {
            return time;
        }
        self.0 = seen - now;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_waits_for_a_moment_and_goes_on_after_a_step() {
        let (mut lead, at, slack) = (Lead::default(), Millis::new, Millis::new(10));
        assert_eq!(lead.time(at(995), at(1_000), slack), 995);
        assert_eq!(lead.time(at(100), at(1_000), slack), 1_000);
        assert_eq!(lead.time(at(150), at(1_000), slack), 1_050);
        assert_eq!(lead.time(at(20), at(1_050), slack), 1_050);
        assert_eq!(lead.time(at(30), at(1_050), slack), 1_060);
    }

    #[test]
    fn the_slack_is_a_segment_and_at_most_a_minute() {
        assert_eq!(slack(NonZeroMillis::MINUTE), 1_000);
        assert_eq!(slack(NonZeroMillis::DAY), Millis::MINUTE);
        assert_eq!(slack(NonZeroMillis::MIN), 0);
    }
}
