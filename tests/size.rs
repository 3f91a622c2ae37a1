//! What the filter takes wherever it runs does not grow unnoticed.

use llm_rate_limit_tests::wasm::{self, Size};

/// In bytes.
const MAX_FILE: usize = 6_000_000;

/// In bytes: what V8 compiles at every start of Envoy.
const MAX_CODE: usize = 2_200_000;

/// In bytes: a worker takes so much, and about twice as much again for what V8 keeps of a VM.
const MAX_MEMORY: usize = 4_500_000;

#[test]
fn the_filter_stays_small() {
    let size = wasm::size();
    let Size { file, code, memory } = size;
    assert!(file <= MAX_FILE && code <= MAX_CODE && memory <= MAX_MEMORY, "{size:?}");
    // Whoever measures nothing finds nothing too large.
    assert!(code > 100_000 && memory > 1_000_000 && file > code + memory / 2, "{size:?}");
}
