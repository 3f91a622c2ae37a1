//! Medians and spreads.

/// A median, and the smallest and largest of the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
}

impl Spread {
    /// The spread of some values.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        Self { median: at(&values, 0.5), least, most }
    }
}

/// The value that this share of `values` stays within, which are in ascending order.
///
/// # Panics
/// If there are none.
pub fn at(values: &[f64], share: f64) -> f64 {
    let last = values.len() - 1;
    let place = share * last as f64;
    let (below, above) = (values[place as usize], values[last.min(place as usize + 1)]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_between_the_extremes() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([5.0]), Spread { median: 5.0, least: 5.0, most: 5.0 });
    }

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(at(&values, 0.99), 99.0);
        assert_eq!(at(&values, 0.995), 99.5);
        assert_eq!(at(&values, 1.0), 100.0);
    }
}
