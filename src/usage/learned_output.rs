//! The output to expect of a request that sets no maximum: a high quantile of its model's earlier answers.
//!
//! A histogram per model counts the lengths. Its buckets grow by an eighth, so that a quantile is right to about an
//! eighth and a model costs two kilobytes. Old observations fade: every thousand observations all counts are
//! halved, so that the histogram follows a model that changes. Each worker learns by itself. Guesses may differ,
//! because the real output replaces them.

use std::collections::HashMap;

/// The percentage of answers that stay within a guess. One in twenty outgrows its reservation, which is then extended.
const QUANTILE_PERCENT: u64 = 95;

/// The percentage of answers that stay within the median.
const MEDIAN_PERCENT: u64 = 50;

/// The number of observations that the configured default counts as.
const PRIOR: u64 = 20;

/// Observations after which all counts are halved.
const FADE_AFTER: u64 = 1_000;

/// The most models with a histogram of their own. All others share one, because clients choose the names.
const MAX_MODELS: usize = 256;

/// Buckets per doubling.
const STEPS: u32 = 8;

/// Buckets up to 2³² tokens.
const BUCKETS: usize = 33 * STEPS as usize;

/// The lengths of each model's answers.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    models: HashMap<String, Histogram>,
}

/// The lengths of one model's answers. Fading keeps every count below [`FADE_AFTER`].
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<u64>,
    total: u64,
    /// Whether an answer held reasoning.
    reasons: bool,
}

impl Learned {
    /// The output tokens to expect of `model`; `default` as long as no answer has been observed.
    pub fn expect(&self, model: Option<&str>, default: u64) -> u64 {
        self.histogram(model)
            .map_or(default, |histogram| histogram.quantile(QUANTILE_PERCENT, default, PRIOR))
    }

    /// The most output tokens that any model is expected to use, and at least `default`.
    pub fn longest(&self, default: u64) -> u64 {
        let expected =
            self.models.values().map(|histogram| histogram.quantile(QUANTILE_PERCENT, default, PRIOR));
        expected.max().unwrap_or(default).max(default)
    }

    /// The output tokens that half of the answers of `model` stay within; at least `default` as long as few have been
    /// observed.
    pub fn median(&self, model: Option<&str>, default: u64) -> u64 {
        let Some(histogram) = self.histogram(model) else { return default };
        let median = histogram.quantile(MEDIAN_PERCENT, default, 0);
        if histogram.total < PRIOR { median.max(default) } else { median }
    }

    /// Whether an answer of `model` has held reasoning.
    pub fn reasons(&self, model: Option<&str>) -> bool {
        self.models.get(model.unwrap_or_default()).is_some_and(|histogram| histogram.reasons)
    }

    fn histogram(&self, model: Option<&str>) -> Option<&Histogram> {
        self.models.get(model.unwrap_or_default()).or_else(|| self.models.get(""))
    }

    /// Counts an answer of `model` that was `output_tokens` long. `reasons`: whether some of it was reasoning.
    pub fn observe(&mut self, model: Option<&str>, output_tokens: u64, reasons: bool) {
        let mut model = model.unwrap_or_default();
        if self.models.len() >= MAX_MODELS && !self.models.contains_key(model) {
            model = "";
        }
        if let Some(histogram) = self.models.get_mut(model) {
            histogram.observe(output_tokens, reasons);
        } else {
            let mut histogram = Histogram { counts: vec![0; BUCKETS], total: 0, reasons: false };
            histogram.observe(output_tokens, reasons);
            self.models.insert(model.to_owned(), histogram);
        }
    }
}

impl Histogram {
    fn observe(&mut self, tokens: u64, reasons: bool) {
        self.reasons |= reasons;
        if let Some(count) = self.counts.get_mut(bucket(tokens)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= FADE_AFTER {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
    }

    /// The length that so many `percent` of the answers stay within. `default` counts as so many answers (`weight`).
    fn quantile(&self, percent: u64, default: u64, weight: u64) -> u64 {
        let prior = bucket(default);
        let rank = ((self.total + weight) * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count + if at == prior { weight } else { 0 };
            if seen >= rank {
                return if at == prior { default.max(1) } else { upper_end(at) };
            }
        }
        default
    }
}

/// The bucket of `tokens`: the position of its highest bit, and the three bits that follow.
fn bucket(tokens: u64) -> usize {
    let tokens = tokens.clamp(1, u64::from(u32::MAX));
    let doublings = tokens.ilog2();
    let step = ((tokens * u64::from(STEPS)) >> doublings) - u64::from(STEPS);
    doublings as usize * STEPS as usize + step as usize
}

/// The largest number of tokens in a bucket.
fn upper_end(bucket: usize) -> u64 {
    let steps = STEPS as usize;
    let start = ((bucket % steps + steps + 1) as u128) << (bucket / steps);
    u64::try_from(start.div_ceil(steps as u128)).unwrap_or(u64::MAX).saturating_sub(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_may_be_the_one_with_the_longest_answers() {
        let mut learned = Learned::default();
        assert_eq!(learned.longest(512), 512);
        for _ in 0..1_000 {
            learned.observe(Some("short"), 10, false);
        }
        assert_eq!(learned.longest(512), 512);
        for _ in 0..1_000 {
            learned.observe(Some("long"), 8_000, false);
        }
        assert!(learned.longest(512) >= 8_000);
    }
    use proptest::prelude::*;

    fn learned(observations: impl IntoIterator<Item = u64>) -> Learned {
        let mut learned = Learned::default();
        for tokens in observations {
            learned.observe(Some("m"), tokens, false);
        }
        learned
    }

    #[test]
    fn the_default_holds_until_there_is_evidence() {
        assert_eq!(Learned::default().expect(Some("m"), 512), 512);
        assert_eq!(learned([10]).expect(Some("m"), 512), 512);
        assert_eq!(learned([10]).expect(Some("other"), 512), 512);
    }

    #[test]
    fn a_guess_rises_and_falls_to_a_high_quantile() {
        let short = learned(std::iter::repeat_n(100, 600)).expect(Some("m"), 4_000);
        assert!((100..=112).contains(&short), "{short}");
        let long = learned((0..600).map(|n| 1_000 + n)).expect(Some("m"), 16);
        assert!((1_500..=1_700).contains(&long), "{long}");
        let mixed = learned((0..500).map(|n| if n % 4 == 0 { 2_000 } else { 50 })).expect(Some("m"), 16);
        assert!((2_000..=2_250).contains(&mixed), "one in four is not rare: {mixed}");
    }

    #[test]
    fn the_median_is_what_half_of_the_answers_stay_within() {
        let answers = (0..600).map(|n| if n % 3 == 0 { 4_000 } else { 900 });
        let median = learned(answers).median(Some("m"), 512);
        assert!((900..=1_012).contains(&median), "{median}");
        assert_eq!(Learned::default().median(Some("m"), 512), 512);
        assert_eq!(learned([10, 10]).median(Some("m"), 512), 512, "two answers are little evidence");
        let few = learned([900, 900, 4_000]).median(Some("m"), 512);
        assert!((900..=1_012).contains(&few), "{few}: but enough to charge more");
    }

    #[test]
    fn a_model_reasons_once_an_answer_did() {
        let mut learned = learned([10]);
        assert!(!learned.reasons(Some("m")) && !learned.reasons(None));
        learned.observe(Some("m"), 10, true);
        learned.observe(Some("m"), 10, false);
        assert!(learned.reasons(Some("m")) && !learned.reasons(Some("other")));
    }

    #[test]
    fn a_guess_follows_a_model_that_changes() {
        let changed = std::iter::repeat_n(8_000, 5_000).chain(std::iter::repeat_n(100, 6_000));
        assert!(learned(changed).expect(Some("m"), 512) < 150);
    }

    #[test]
    fn invented_names_take_bounded_memory() {
        let mut learned = Learned::default();
        for n in 0..10 * MAX_MODELS {
            learned.observe(Some(&n.to_string()), 5, false);
        }
        assert!(learned.models.len() <= MAX_MODELS + 1);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_tokens_and_is_no_wider_than_an_eighth(tokens in 1u64..1 << 31) {
            let end = upper_end(bucket(tokens));
            prop_assert!(end >= tokens && end <= tokens + tokens / 8, "{} in {}", tokens, end);
            prop_assert_ne!(bucket(end), bucket(end + 1));
        }
    }
}
