//! Texts that a tokenizer can easily miscount.

pub(super) mod texts;

use super::*;
use proptest::prelude::*;

fn count(encoding: Encoding, text: &str) -> u64 {
    Tokenizer::new(Counting { encoding, factor: Factor::ONE }).count(text)
}

#[test]
fn special_tokens_are_ordinary_text() {
    assert_eq!(count(Encoding::O200kBase, "<|endoftext|>"), 7);
}

#[test]
fn encodings_count_differently() {
    let counts = texts::plain().map(|(encoding, _)| count(encoding, "お誕生日おめでとう"));
    assert_eq!(counts, [8, 9, 14, 14]);
}

/// Texts that made a tokenizer overflow its stack, take minutes or fill the memory. If plain tiktoken-rs survives a
/// text, the counts differ by no more than the hard cuts explain.
#[test]
fn hostile_texts_are_counted() {
    let spaces = " ".repeat(1_000_000);
    for (text, plain_survives) in [
        (spaces.clone(), false),
        (format!("{spaces}x"), false),
        ("\u{A0}".repeat(1_000_000) + "x", false),
        (" \u{3000}\u{A0}\u{2028}".repeat(15_000), true),
        ("\n".repeat(60_000), true),
        ("\r\n".repeat(40_000), true),
        ("a".repeat(60_000), true),
        ("A".repeat(60_000), true),
        ("!".repeat(60_000), true),
        ("7".repeat(60_000), true),
        ("字".repeat(25_000), true),
        ("e\u{301}\u{301}".repeat(30_000), true),
        ("\u{301}".repeat(40_000), true),
        ("x'\u{17F}".repeat(15_000), true),
        ("'".repeat(60_000), true),
        ("👩‍👩‍👧".repeat(8_000), true),
        ("\0".repeat(60_000), true),
    ] {
        let cuts = (text.len() / slices::SLICE_BYTES) as u64 + 1;
        for (encoding, plain) in texts::plain() {
            let counted = count(encoding, &text);
            assert!(counted >= text.len().div_ceil(128) as u64);
            if plain_survives {
                let expected = plain.count_ordinary(&text) as u64;
                let start: String = text.chars().take(6).collect();
                assert!(
                    counted.abs_diff(expected) <= 2 * cuts,
                    "{encoding:?} {start:?} {counted} {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn long_texts_count_as_plain_tiktoken_does(parts in prop::collection::vec(texts::text(), 1..40)) {
        // A text that is far longer than a slice and has word ends everywhere.
        let text = format!("{} word. ", parts.join(" ")).repeat(150_000 / (parts.len() * 20));
        for (encoding, plain) in texts::plain() {
            prop_assert_eq!(count(encoding, &text), plain.count_ordinary(&text) as u64, "{:?}", encoding);
        }
    }
}
