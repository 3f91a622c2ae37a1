//! What the tests of counting share: the tokenizer as its library gives it, and texts that are hard to split.

use super::Encoding;
use proptest::prelude::*;
use tiktoken_rs::CoreBPE;

/// tiktoken-rs by itself, for every encoding.
pub fn plain() -> [(Encoding, &'static CoreBPE); 4] {
    [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
        (Encoding::P50kBase, tiktoken_rs::p50k_base_singleton()),
        (Encoding::R50kBase, tiktoken_rs::r50k_base_singleton()),
    ]
}

/// Texts of fragments where the expressions of the encodings have their special cases: contractions and what folds
/// to one, marks, white space of all kinds, line ends, digits, scripts with and without case, emoji.
pub fn text() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "the",
            " quick",
            "Brown",
            "HTTPServer",
            "don't",
            "'s",
            "'S",
            "'\u{17F}",
            "'LL",
            "'",
            "\"",
            " ",
            "   ",
            "\t",
            "\n",
            "\r\n",
            "\n\n  ",
            "\u{A0}",
            "\u{3000}",
            "\u{2028}",
            "\u{200B}",
            "1",
            "1234567",
            "٣",
            "½",
            "é",
            "e\u{301}",
            "\u{301}",
            "ß",
            "ǅ",
            "ʰ",
            "您好",
            "，",
            "。",
            "こんにちは",
            "한국어",
            "привет",
            "नमस्ते",
            "👩‍👩‍👧",
            "🇨🇳",
            "Ⓐ",
            "/",
            "//",
            "{\"a\":",
            "}",
            "...",
            "<|endoftext|>",
            "\0",
            "\u{FEFF}",
            "x=1;",
            "_",
            "-",
        ])
        .prop_map(str::to_owned),
        "\\PC{1,4}",
        "[a-zA-Z']{1,8}",
        "\\s{1,5}",
    ];
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
}
