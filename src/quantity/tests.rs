//! Arithmetic at its edges, and durations as text.

use super::*;
use proptest::prelude::*;

#[test]
fn arithmetic_saturates() {
    let (none, one, most) = (Units::ZERO, Units::new(1), Units::new(u64::MAX));
    assert_eq!((most + one, none - one, most * 2, one / 0), (most, none, most, one));
    assert_eq!([one, one, most].into_iter().sum::<Units>(), most);
    assert_eq!(Units::new(7) / 2, Units::new(3));
}

#[test]
fn only_an_integer_and_a_unit_is_a_duration() {
    assert_eq!(Millis::parse("500ms"), Some(Millis::new(500)));
    assert_eq!(Millis::parse("0s"), Some(Millis::ZERO));
    for text in
        ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", "1S", "1m30s", "1mo", "١s", "99999999999999999999d"]
    {
        assert_eq!(Millis::parse(text), None, "{text:?}");
    }
    assert_eq!(Millis::parse("18446744073709551615d"), None);
}

#[test]
fn millionths_are_written_without_trailing_zeros() {
    let label = |millionths| millionths_label(millionths);
    assert_eq!([label(0), label(1), label(75_000), label(3_000_000)], ["0", "0.000001", "0.075", "3"]);
}

proptest! {
    #[test]
    fn durations_are_read_as_they_are_written(ms in 1..=u64::MAX) {
        prop_assert_eq!(Millis::parse(&Millis::new(ms).label()), Some(Millis::new(ms)));
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = Millis::parse(&text);
    }
}
