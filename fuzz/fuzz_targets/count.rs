//! Texts: each has as many tokens as tiktoken-rs makes of it, in every encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use token_count::{CL100K_BASE, O200K_BASE, P50K_BASE, R50K_BASE};

fuzz_target!(|text: &str| {
    for (encoding, reference) in [
        (&O200K_BASE, tiktoken_rs::o200k_base_singleton()),
        (&CL100K_BASE, tiktoken_rs::cl100k_base_singleton()),
        (&P50K_BASE, tiktoken_rs::p50k_base_singleton()),
        (&R50K_BASE, tiktoken_rs::r50k_base_singleton()),
    ] {
        assert_eq!(encoding.count(text), reference.count_ordinary(text) as u64);
    }
});
