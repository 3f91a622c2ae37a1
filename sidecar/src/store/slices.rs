//! Batches in slices: a large call goes to Redis in several round trips, so that others get their turn in between and
//! the memory for its commands stays small.

use llm_rate_limit::store::wire::ScopeCharges;

/// The maximum number of charges of a slice, unless a single element has more: some milliseconds of Redis's time.
const MAX_CHARGES: usize = 2048;

/// The parts of `batch`, in order, none of them empty. `charges` returns the charges of an element.
pub(super) fn slices<T>(batch: &[T], charges: fn(&T) -> &[ScopeCharges]) -> impl Iterator<Item = &[T]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let mut sum = 0_usize;
        let fits = rest.iter().take_while(|one| {
            sum += ScopeCharges::count(charges(one));
            sum <= MAX_CHARGES
        });
        let len = fits.count().max(1);
        let (slice, after) = rest.split_at_checked(len)?;
        rest = after;
        Some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{charge, in_scope};
    use llm_rate_limit::store::wire::Reserve;

    fn of(charges: usize) -> Reserve {
        let charges = vec![charge("requests"); charges];
        Reserve { charges: vec![in_scope("s", &charges)], ..Reserve::default() }
    }

    fn lengths(charges: &[usize]) -> Vec<usize> {
        let batch: Vec<Reserve> = charges.iter().map(|charges| of(*charges)).collect();
        slices(&batch, |one| &one.charges).map(<[_]>::len).collect()
    }

    #[test]
    fn a_slice_has_as_many_elements_as_its_charges_allow() {
        assert_eq!(lengths(&[]), [0; 0]);
        assert_eq!(lengths(&[0, 1, 2]), [3]);
        assert_eq!(lengths(&[2048, 0, 1, 2047, 1]), [2, 2, 1]);
        assert_eq!(lengths(&[5000, 1, 5000]), [1, 1, 1]);
        assert_eq!(lengths(&[1000; 7]), [2, 2, 2, 1]);
    }
}
