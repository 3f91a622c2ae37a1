//! What was certainly admitted, by what clients know: when they sent a request and when they had its answer. The
//! decision lies between the two, so whatever adds up to too much here was too much on any clock.

use std::time::{Duration, Instant};

/// A request that was admitted.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Before the decision.
    pub sent: Instant,
    /// After the decision.
    pub answered: Instant,
    /// The units that it was charged.
    pub cost: u64,
}

/// The most units that were certainly admitted within one `window`, wherever that begins.
pub fn most_within(window: Duration, admissions: &[Admission]) -> u64 {
    let mut sorted = admissions.to_vec();
    sorted.sort_unstable_by_key(|admission| admission.sent);
    let from = |at: usize| {
        let end = sorted[at].sent + window;
        let within = sorted[at..].iter().take_while(|admission| admission.sent < end);
        within.filter(|admission| admission.answered < end).map(|admission| admission.cost).sum()
    };
    (0..sorted.len()).map(from).max().unwrap_or(0)
}

/// The most of these periods, each from its beginning to its end, that certainly were under way at one moment.
pub fn most_at_once(periods: &[(Instant, Instant)]) -> usize {
    let within = |moment: Instant| periods.iter().filter(|(from, to)| (*from..*to).contains(&moment)).count();
    periods.iter().map(|(from, _)| within(*from)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admissions(times: &[(u64, u64, u64)]) -> Vec<Admission> {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        times
            .iter()
            .map(|&(sent, answered, cost)| Admission { sent: at(sent), answered: at(answered), cost })
            .collect()
    }

    #[test]
    fn only_what_lies_wholly_in_a_window_counts() {
        let window = Duration::from_millis(100);
        assert_eq!(most_within(window, &[]), 0);
        assert_eq!(most_within(window, &admissions(&[(0, 10, 1), (50, 99, 2), (60, 100, 4)])), 6);
        assert_eq!(most_within(window, &admissions(&[(0, 10, 1), (50, 100, 2), (110, 120, 8)])), 10);
        assert_eq!(most_within(window, &admissions(&[(0, 200, 1)])), 0, "it may have been decided later");
        assert_eq!(
            most_within(window, &admissions(&[(60, 70, 4), (0, 10, 1), (5, 105, 2)])),
            5,
            "in any order"
        );
    }

    #[test]
    fn periods_that_touch_are_not_at_once() {
        let at = |times: &[(u64, u64)]| {
            let times: Vec<_> = times.iter().map(|&(from, to)| (from, to, 1)).collect();
            let periods = admissions(&times).iter().map(|it| (it.sent, it.answered)).collect::<Vec<_>>();
            most_at_once(&periods)
        };
        assert_eq!(at(&[(0, 10), (10, 20)]), 1);
        assert_eq!(at(&[(0, 10), (9, 20), (5, 30)]), 3);
    }
}
