//! Models without a price, which a budget does not hold for: the log tells of each once.

use std::collections::BTreeSet;

/// Clients choose the names of models, so that no more than this many are told of.
const MOST: usize = 100;

/// The models that were told of.
#[derive(Debug, Default)]
pub struct Unpriced(BTreeSet<String>);

impl Unpriced {
    /// Whether `model` is to be told of now.
    pub fn is_news(&mut self, model: Option<&str>) -> bool {
        let model = model.unwrap_or_default();
        self.0.len() < MOST && !self.0.contains(model) && self.0.insert(model.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_told_of_once_and_not_too_many_are() {
        let mut unpriced = Unpriced::default();
        assert!(unpriced.is_news(Some("a")) && unpriced.is_news(None));
        assert!(!unpriced.is_news(Some("a")) && !unpriced.is_news(None));
        let told = (0..1_000).filter(|at| unpriced.is_news(Some(&at.to_string()))).count();
        assert_eq!(told, MOST - 2);
    }
}
