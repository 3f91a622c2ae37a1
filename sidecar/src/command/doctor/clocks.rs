//! The clocks of all who were asked, each compared to this machine's at the moment of its answer.
//!
//! Windows in Redis go by Redis's clock, so no other can open them. Envoy's counts where it counts alone: in its local
//! store, and while Redis does not answer.

use super::findings::Findings;
use llm_rate_limit::quantity::Millis;

/// A difference that is worth a word: more than a `date` is rounded by.
const WORTH_MS: u64 = 2_000;

/// What clocks have shown.
#[derive(Debug, Default)]
pub(super) struct Clocks(Vec<Clock>);

#[derive(Debug)]
struct Clock {
    name: String,
    /// By how much it is ahead of this machine's, in milliseconds.
    ahead: i64,
    /// How coarse it is, in milliseconds.
    grain: u64,
}

impl Clocks {
    /// The clock of `name` has shown `shown` when this machine's was `at`; it is `grain` milliseconds coarse.
    pub(super) fn add(&mut self, name: impl Into<String>, shown: Millis, at: Millis, grain: u64) {
        let signed = |time: Millis| i64::try_from(time.get()).unwrap_or(i64::MAX);
        self.0.push(Clock { name: name.into(), ahead: signed(shown) - signed(at), grain });
    }

    /// Says whether they agree.
    pub(super) fn compare(&self, findings: &mut Findings) {
        let Some((first, others)) = self.0.split_first() else { return };
        let apart = |other: &&Clock| {
            first.ahead.abs_diff(other.ahead).saturating_sub(first.grain.max(other.grain)) > WORTH_MS
        };
        let far: Vec<&Clock> = others.iter().filter(apart).collect();
        for clock in &far {
            let seconds = clock.ahead.abs_diff(first.ahead) as f64 / 1_000.0;
            let direction = if clock.ahead > first.ahead { "ahead of" } else { "behind" };
            findings.finding(format!(
                "the clock of {} is {seconds:.1} s {direction} that of {}: windows that end at fixed times, and \
                 counters that are kept without Redis, end at another time there",
                clock.name, first.name
            ));
        }
        if far.is_empty() && !others.is_empty() {
            // Envoy shows its own twice: the filter's answer has it, and that of its admin.
            let mut names: Vec<&str> = Vec::new();
            for clock in &self.0 {
                if !names.contains(&clock.name.as_str()) {
                    names.push(&clock.name);
                }
            }
            if names.len() < 2 {
                return;
            }
            findings.fine(format!("the clocks of {} agree", names.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::found;
    use super::*;

    fn compared(clocks: &[(&str, u64, u64)]) -> String {
        let mut all = Clocks::default();
        for (name, shown, grain) in clocks {
            all.add(*name, Millis::new(*shown), Millis::new(100_000), *grain);
        }
        found(|findings| all.compare(findings))
    }

    #[test]
    fn clocks_agree_within_what_they_are_rounded_by() {
        assert!(
            compared(&[("Redis", 100_000, 0), ("Envoy", 102_900, 1_000)])
                .starts_with("ok         the clocks of Redis")
        );
        let apart = compared(&[("Redis", 100_000, 0), ("Envoy", 160_000, 1_000), ("the sidecar", 99_000, 0)]);
        assert!(
            apart.starts_with("FINDING    the clock of Envoy is 60.0 s ahead of that of Redis"),
            "{apart}"
        );
        assert_eq!(apart.lines().count(), 2);
    }

    #[test]
    fn a_clock_that_was_asked_twice_is_named_once() {
        let twice = [("Envoy", 100_000, 0), ("Envoy", 100_000, 1_000), ("Redis", 100_000, 0)];
        assert!(compared(&twice).starts_with("ok         the clocks of Envoy, Redis agree"));
        assert!(!compared(&twice[..2]).contains("clocks"));
    }

    #[test]
    fn one_clock_agrees_with_nobody() {
        assert_eq!(compared(&[("Redis", 5, 0)]), "nothing is wrong with what was asked\n");
    }
}
