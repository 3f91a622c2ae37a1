//! Lengths of time as the configuration writes them: an integer and a unit.

/// The units, and what each is in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// `text` (`500ms`, `10s`, `1m`, `6h`, `1d`) in milliseconds. None if it is not written so or is too long for a
/// number of 64 bits.
pub(super) fn parse_ms(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.bytes().take_while(u8::is_ascii_digit).count())?;
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::duration_label;
    use proptest::prelude::*;

    #[test]
    fn only_an_integer_and_a_unit_is_a_length() {
        assert_eq!(parse_ms("500ms"), Some(500));
        assert_eq!(parse_ms("0s"), Some(0));
        for text in
            ["", "10", "s", "-1s", "+1s", "1.5s", "1 s", "1S", "1m30s", "1mo", "١s", "99999999999999999999d"]
        {
            assert_eq!(parse_ms(text), None, "{text:?}");
        }
        assert_eq!(parse_ms("18446744073709551615d"), None);
    }

    proptest! {
        #[test]
        fn lengths_are_read_as_labels_write_them(ms in 1..=u64::MAX) {
            prop_assert_eq!(parse_ms(&duration_label(ms)), Some(ms));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_ms(&text);
        }
    }
}
