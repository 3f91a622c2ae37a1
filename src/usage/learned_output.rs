//! The output to expect of a request that sets no maximum: a high quantile of its sender's earlier answers.
//!
//! Histograms count the lengths: one for each sender and model, and, for senders without one, for each plan and model
//! and for each model. Whoever wants short reservations can make short answers, so those of others never take an
//! expectation below the configured default; only a sender's own do. And a maximum says nothing about the answer that
//! there would have been without it, so answers that one has cut short are not to be observed.
//!
//! The buckets of a histogram grow by an eighth, so that a quantile is right to about an eighth and a histogram costs
//! half a kilobyte. Old observations fade: every thousand observations all counts are halved, so that the histogram
//! follows a model that changes. Each worker learns by itself. Guesses may differ, because the real output replaces
//! them.

use super::recent::Recent;
use std::collections::HashMap;
use std::sync::Arc;

/// The percentage of answers that stay within a guess. One in twenty outgrows its reservation, which is then extended.
const QUANTILE_PERCENT: u64 = 95;

/// The percentage of answers that stay within the median.
const MEDIAN_PERCENT: u64 = 50;

/// The number of observations that the configured default counts as.
const PRIOR: u64 = 20;

/// Observations after which all counts are halved.
const FADE_AFTER: u16 = 1_000;

/// The most models with a histogram of their own. All others share one, because clients choose the names.
const MAX_MODELS: usize = 256;

/// The most senders with a histogram of their own for a model, of those with the latest answers: two megabytes.
const MAX_SENDERS: usize = 4_096;

/// The most histograms of plans for a model.
const MAX_PLANS: usize = 512;

/// Buckets per doubling.
const STEPS: u32 = 8;

/// Buckets up to 2³² tokens.
const BUCKETS: usize = 33 * STEPS as usize;

/// The sender of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The id of its counters.
    pub id: Arc<str>,
    /// The name of its plan, if it has one.
    pub plan: Option<Arc<str>>,
}

/// The lengths of the answers of each sender, each plan and each model.
#[derive(Clone, Debug)]
pub struct Learned {
    senders: Recent<Histogram>,
    plans: Recent<Histogram>,
    models: HashMap<String, Histogram>,
}

/// The lengths of one model's answers. Fading keeps every count at [`FADE_AFTER`] or below.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<u16>,
    total: u16,
    /// Whether an answer held reasoning.
    reasons: bool,
}

impl Default for Learned {
    fn default() -> Self {
        Self { senders: Recent::new(MAX_SENDERS), plans: Recent::new(MAX_PLANS), models: HashMap::new() }
    }
}

impl Learned {
    /// The output tokens to expect of an answer of `model` to `sender`; `default` as long as none has been observed.
    pub fn expect(&self, sender: &Sender, model: Option<&str>, default: u64) -> u64 {
        let high = |histogram: &Histogram, default| histogram.quantile(QUANTILE_PERCENT, default, PRIOR);
        let model = model.unwrap_or_default();
        let of_plan = sender.plan.as_ref().and_then(|plan| self.plans.get((plan, model)));
        let of_others = of_plan.or_else(|| self.of_model(Some(model)));
        let of_others = of_others.map_or(default, |histogram| high(histogram, default)).max(default);
        self.senders.get((&sender.id, model)).map_or(of_others, |histogram| high(histogram, of_others))
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
        let Some(histogram) = self.of_model(model) else { return default };
        let median = histogram.quantile(MEDIAN_PERCENT, default, 0);
        if u64::from(histogram.total) < PRIOR { median.max(default) } else { median }
    }

    /// Whether an answer of `model` has held reasoning.
    pub fn reasons(&self, model: Option<&str>) -> bool {
        self.models.get(model.unwrap_or_default()).is_some_and(|histogram| histogram.reasons)
    }

    /// Notes that an answer of `model` held reasoning, however it ended.
    pub fn note_reasoning(&mut self, model: Option<&str>) {
        let model = model.unwrap_or_default();
        // What all others share says nothing about one of them.
        if self.models.len() < MAX_MODELS || self.models.contains_key(model) {
            self.of_model_mut(model).reasons = true;
        }
    }

    fn of_model(&self, model: Option<&str>) -> Option<&Histogram> {
        self.models.get(model.unwrap_or_default()).or_else(|| self.models.get(""))
    }

    fn of_model_mut(&mut self, model: &str) -> &mut Histogram {
        let has_room = self.models.len() < MAX_MODELS || self.models.contains_key(model);
        self.models.entry(if has_room { model } else { "" }.to_owned()).or_default()
    }

    /// Counts an answer of `model` to `sender` that was `output_tokens` long, and that no maximum cut short.
    pub fn observe(&mut self, sender: &Sender, model: Option<&str>, output_tokens: u64) {
        let model = model.unwrap_or_default();
        self.senders.write((&sender.id, model)).observe(output_tokens);
        if let Some(plan) = &sender.plan {
            self.plans.write((plan, model)).observe(output_tokens);
        }
        self.of_model_mut(model).observe(output_tokens);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, reasons: false }
    }
}

impl Histogram {
    fn observe(&mut self, tokens: u64) {
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
        let rank = ((u64::from(self.total) + weight) * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count) + if at == prior { weight } else { 0 };
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
            learned.observe(&me(), Some("short"), 10);
        }
        assert_eq!(learned.longest(512), 512);
        for _ in 0..1_000 {
            learned.observe(&me(), Some("long"), 8_000);
        }
        assert!(learned.longest(512) >= 8_000);
    }

    #[test]
    fn answers_to_others_raise_an_expectation_and_never_lower_it() {
        let (mine, stranger) = (me(), Sender { id: "stranger".into(), plan: None });
        let colleague = Sender { id: "colleague".into(), ..me() };
        let mut learned = Learned::default();
        for _ in 0..1_000 {
            learned.observe(&mine, Some("m"), 1);
        }
        assert_eq!(learned.expect(&mine, Some("m"), 512), 1);
        assert_eq!(learned.expect(&colleague, Some("m"), 512), 512);
        assert_eq!(learned.expect(&stranger, Some("m"), 512), 512);
        for _ in 0..2_000 {
            learned.observe(&colleague, Some("m"), 2_000);
        }
        assert!(learned.expect(&colleague, Some("m"), 512) >= 2_000);
        let newcomer = Sender { id: "newcomer".into(), ..me() };
        assert!(learned.expect(&newcomer, Some("m"), 512) >= 2_000, "as its plan");
        assert!(learned.expect(&stranger, Some("m"), 512) >= 2_000, "as the model");
        assert_eq!(learned.expect(&newcomer, Some("other"), 512), 512);
        assert!(learned.expect(&mine, Some("m"), 512) < 3, "a sender's own answers count alone");
    }

    use proptest::prelude::*;

    fn me() -> Sender {
        Sender { id: "me".into(), plan: Some("plan".into()) }
    }

    fn learned(observations: impl IntoIterator<Item = u64>) -> Learned {
        let mut learned = Learned::default();
        for tokens in observations {
            learned.observe(&me(), Some("m"), tokens);
        }
        learned
    }

    #[test]
    fn the_default_holds_until_there_is_evidence() {
        assert_eq!(Learned::default().expect(&me(), Some("m"), 512), 512);
        assert_eq!(learned([10]).expect(&me(), Some("m"), 512), 512);
        assert_eq!(learned([10]).expect(&me(), Some("other"), 512), 512);
    }

    #[test]
    fn a_guess_rises_and_falls_to_a_high_quantile() {
        let short = learned(std::iter::repeat_n(100, 600)).expect(&me(), Some("m"), 4_000);
        assert!((100..=112).contains(&short), "{short}");
        let long = learned((0..600).map(|n| 1_000 + n)).expect(&me(), Some("m"), 16);
        assert!((1_500..=1_700).contains(&long), "{long}");
        let mixed =
            learned((0..500).map(|n| if n % 4 == 0 { 2_000 } else { 50 })).expect(&me(), Some("m"), 16);
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
        learned.note_reasoning(Some("m"));
        learned.observe(&me(), Some("m"), 10);
        assert!(learned.reasons(Some("m")) && !learned.reasons(Some("other")));
    }

    #[test]
    fn a_guess_follows_a_model_that_changes() {
        let changed = std::iter::repeat_n(8_000, 5_000).chain(std::iter::repeat_n(100, 6_000));
        assert!(learned(changed).expect(&me(), Some("m"), 512) < 150);
    }

    #[test]
    fn invented_names_take_bounded_memory() {
        let mut learned = Learned::default();
        for n in 0..10 * MAX_MODELS {
            let sender = Sender { id: n.to_string().into(), plan: Some("p".into()) };
            learned.observe(&sender, Some(&n.to_string()), 5);
        }
        assert!(learned.models.len() <= MAX_MODELS + 1);
        assert!(learned.senders.len() <= MAX_SENDERS && learned.plans.len() <= MAX_PLANS);
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
