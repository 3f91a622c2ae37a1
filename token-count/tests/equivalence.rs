//! The same counts as tiktoken-rs, on texts of every kind.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use proptest::sample::select;
use tiktoken_rs::CoreBPE;
use token_count::{CL100K_BASE, Encoding, O200K_BASE, P50K_BASE, R50K_BASE};

/// Each encoding with its reference.
fn encodings() -> [(&'static str, &'static Encoding, &'static CoreBPE); 4] {
    [
        ("o200k_base", &O200K_BASE, tiktoken_rs::o200k_base_singleton()),
        ("cl100k_base", &CL100K_BASE, tiktoken_rs::cl100k_base_singleton()),
        ("p50k_base", &P50K_BASE, tiktoken_rs::p50k_base_singleton()),
        ("r50k_base", &R50K_BASE, tiktoken_rs::r50k_base_singleton()),
    ]
}

fn assert_equal(text: &str) {
    for (name, encoding, reference) in encodings() {
        let start: String = text.chars().take(500).collect();
        assert_eq!(encoding.count(text), reference.count_ordinary(text) as u64, "{name}: {start:?}");
    }
}

#[test]
fn every_token_counts_as_the_reference_has_it() {
    for (name, encoding, reference) in encodings() {
        let mut tokens = 0;
        for number in 0..200_100 {
            let Ok(text) = reference.decode(&[number]) else { continue };
            let expected = reference.count_ordinary(&text) as u64;
            assert_eq!(encoding.count(&text), expected, "{name} {number}: {text:?}");
            tokens += u64::from(expected == 1);
        }
        assert!(tokens > 45_000, "{name}: {tokens}");
    }
}

#[test]
fn an_encoding_can_be_shown() {
    assert_eq!(format!("{O200K_BASE:?}"), "Encoding { splitter: O200k, .. }");
}

#[test]
fn special_tokens_are_ordinary_text() {
    assert_eq!(O200K_BASE.count("<|endoftext|>"), 7);
    assert_eq!(O200K_BASE.count(""), 0);
}

/// Every character by itself, at the beginning of a word, within and behind it, and next to digits and spaces.
#[test]
fn every_character_is_split_as_the_expressions_say() {
    // Of planes that hold little but characters that are not assigned, some.
    let is_looked_at = |c: &char| *c <= '\u{1FFFF}' || (*c as u32).is_multiple_of(61);
    for characters in ('\0'..=char::MAX).filter(is_looked_at).collect::<Vec<_>>().chunks(2_000) {
        let text: String =
            characters.iter().map(|c| format!("{c}a{c}B{c}1 {c} {c}'s{c}{c}\n{c}\t{c}é")).collect();
        assert_equal(&text);
    }
}

/// Texts without the words that splitting is easy with, as long as the reference can bear.
#[test]
fn long_pieces_count_as_the_reference_has_them() {
    for unit in [
        " ",
        "\n",
        "\r\n",
        "\t ",
        "a",
        "A",
        "aB",
        "!",
        "/",
        "\n/",
        "7",
        "字",
        "ß",
        "\u{301}",
        "e\u{301}",
        "'",
        "x'\u{17F}",
        "👩‍👩‍👧",
        "\0",
        "\u{A0}",
        " \u{3000}\u{A0}\u{2028}",
        "Ⓐ",
        "ʰ",
        "ab",
        "the",
        "aaaaaaab",
        "=-",
        "0x",
        "ĠĠ",
        "ÿ",
    ] {
        let text = unit.repeat(12_000 / unit.len());
        assert_equal(&text);
        assert_equal(&format!("{text}x"));
        assert_equal(&format!("x{text} "));
    }
}

/// What makes a regular expression overflow its stack is counted in a moment.
#[test]
fn a_million_spaces_are_no_danger() {
    let spaces = " ".repeat(1_000_000);
    // The longest token of spaces has 128 in o200k_base, and the last goes with the word.
    assert_eq!(O200K_BASE.count(&spaces), 7_813);
    assert_eq!(O200K_BASE.count(&format!("{spaces}x")), 7_813 + 1);
    for (_, encoding, _) in encodings() {
        assert!(encoding.count(&" \u{3000}\u{A0}\u{2028}x".repeat(200_000)) > 200_000);
    }
}

/// Where the expressions have their special cases: contractions and what folds to one, marks, white space of all kinds,
/// line ends, digits, scripts with and without case, emoji.
fn fragment() -> impl Strategy<Value = String> {
    let special: Vec<String> = serde_json::from_str(include_str!("fragments.json")).unwrap();
    prop_oneof![select(special), "\\PC{1,4}", "[a-zA-Z']{1,8}", "\\s{1,5}"]
}

/// Tokens of a vocabulary, whole and in halves: text whose merges are least like those of words.
fn tokens() -> impl Strategy<Value = String> {
    let part = (0..4_usize, 0..200_000_u32, any::<bool>()).prop_map(|(encoding, number, half)| {
        let (_, _, reference) = encodings()[encoding];
        let bytes = reference.decode_bytes(&[number]).unwrap_or_default();
        let len = if half { bytes.len() / 2 } else { bytes.len() };
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    });
    prop::collection::vec(part, 1..30).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn texts_count_as_the_reference_has_them(parts in prop::collection::vec(fragment(), 0..20)) {
        assert_equal(&parts.concat());
    }

    #[test]
    fn chopped_tokens_count_as_the_reference_has_them(text in tokens()) {
        assert_equal(&text);
    }

    #[test]
    fn letters_at_random_count_as_the_reference_has_them(
        text in prop_oneof!["[a-z]{1,300}", "[a-zA-Z0-9+/]{1,300}", "[\u{4E00}-\u{9FFF}]{1,100}", "[!-/]{1,200}"]
    ) {
        assert_equal(&text);
    }
}
