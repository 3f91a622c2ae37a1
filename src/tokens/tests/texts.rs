//! Shared by the tests of counting: the reference tokenizers, and texts that are hard to split.

use crate::tokens::Encoding;
use proptest::prelude::*;
use tiktoken_rs::CoreBPE;

/// Every encoding with its tokenizer of tiktoken-rs.
pub fn plain() -> [(Encoding, &'static CoreBPE); 4] {
    [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
        (Encoding::P50kBase, tiktoken_rs::p50k_base_singleton()),
        (Encoding::R50kBase, tiktoken_rs::r50k_base_singleton()),
    ]
}

/// Texts of fragments that are special cases of the encodings' expressions: contractions and characters that fold to
/// them, marks, white space of all kinds, line ends, digits, scripts with and without case, emoji.
pub fn text() -> impl Strategy<Value = String> {
    let special: Vec<String> =
        serde_json::from_str(include_str!("../../../token-count/tests/fragments.json")).unwrap();
    let fragment = prop_oneof![prop::sample::select(special), "\\PC{1,4}", "[a-zA-Z']{1,8}", "\\s{1,5}"];
    prop::collection::vec(fragment, 0..12).prop_map(|parts| parts.concat())
}
