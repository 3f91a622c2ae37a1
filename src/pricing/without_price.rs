//! Models without a price: what their requests cost is a guess, so the log warns about each of them once.

use std::collections::BTreeSet;

/// The most models that the log warns about: clients choose the names of models.
const MAX_MODELS: usize = 100;

/// Models that the log has warned about.
#[derive(Debug, Default)]
pub struct WithoutPrice(BTreeSet<String>);

impl WithoutPrice {
    /// Adds `model`, and returns whether the log should warn about it now: only if it is new, and not one too many.
    pub fn insert(&mut self, model: Option<&str>) -> bool {
        let model = model.unwrap_or_default();
        self.0.len() < MAX_MODELS && !self.0.contains(model) && self.0.insert(model.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_causes_one_warning_up_to_a_maximum() {
        let mut models = WithoutPrice::default();
        assert!(models.insert(Some("a")) && models.insert(None));
        assert!(!models.insert(Some("a")) && !models.insert(None));
        let warnings = (0..1_000).filter(|at| models.insert(Some(&at.to_string()))).count();
        assert_eq!(warnings, MAX_MODELS - 2);
    }
}
