//! Sorting in little code. The standard library's sort is 7 KB of code for each type that is sorted, and V8 compiles
//! all code whenever Envoy starts; here places are sorted, and all types share that. For lists that matter to no
//! request's time.

use std::cmp::Ordering;

/// Sorts `list` by `compare`; equal elements keep their order.
pub fn by<T>(list: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = order(list.len(), &|a, b| match (list.get(a), list.get(b)) {
        (Some(a), Some(b)) => compare(a, b),
        _ => Ordering::Equal,
    });
    let mut elements: Vec<Option<T>> = list.drain(..).map(Some).collect();
    list.extend(order.into_iter().filter_map(|place| elements.get_mut(place)?.take()));
}

/// Sorts `list` by the keys of its elements, of which each is made once; elements with equal keys keep their order.
pub fn by_key<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    let mut with_keys: Vec<(K, T)> = list.drain(..).map(|element| (key(&element), element)).collect();
    by(&mut with_keys, |(a, _), (b, _)| a.cmp(b));
    list.extend(with_keys.into_iter().map(|(_, element)| element));
}

/// A map or a set of `elements`. To collect a `BTreeMap` sorts its elements by the standard library's sort; to extend
/// an empty one does not.
pub fn collected<C: Default + Extend<T>, T>(elements: impl IntoIterator<Item = T>) -> C {
    let mut collection = C::default();
    collection.extend(elements);
    collection
}

/// The places from 0 to `length` in their order.
#[inline(never)]
fn order(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..length).collect();
    places.sort_by(|a, b| compare(*a, *b));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_the_standard_library(list in prop::collection::vec((0..9_u8, any::<u8>()), 0..40)) {
            let (mut sorted, mut by_key_sorted, mut expected) = (list.clone(), list.clone(), list);
            by(&mut sorted, |a, b| b.0.cmp(&a.0));
            by_key(&mut by_key_sorted, |element| std::cmp::Reverse(element.0));
            expected.sort_by_key(|element| std::cmp::Reverse(element.0));
            prop_assert_eq!(&sorted, &expected);
            prop_assert_eq!(&by_key_sorted, &expected);
        }
    }
}
