//! What the filter takes wherever it runs does not grow unnoticed.

use llm_rate_limit_tests::wasm::{self, Size};

/// In bytes: 5.5 MB are there, and another version of Rust makes others.
const MAX_FILE: usize = 6_000_000;

/// In bytes, of which 2.4 MB are there: V8 compiles them whenever Envoy starts, and that is most of the start's time.
const MAX_CODE: usize = 2_500_000;

/// In bytes, of which 3.9 MB are there: each worker has them.
const MAX_MEMORY: usize = 4_500_000;

#[test]
fn the_filter_stays_small() {
    let size = wasm::size();
    let Size { file, code, memory } = size;
    assert!(file <= MAX_FILE && code <= MAX_CODE && memory <= MAX_MEMORY, "{size:?}");
    // Whoever measures nothing finds nothing too large.
    assert!(code > 100_000 && memory > 1_000_000 && file > code + memory / 2, "{size:?}");
}
