//! The location of the built filter.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The filter: `WASM_PATH` if it is set, else where `make wasm` leaves it.
///
/// # Panics
/// If there is none; the message says how to build it. Only the Makefile knows which Rust can do that.
pub fn filter() -> PathBuf {
    let path = std::env::var_os("WASM_PATH")
        .map_or_else(|| root().join("target/wasm32-wasip1/release/llm_rate_limit.wasm"), PathBuf::from);
    path.canonicalize().unwrap_or_else(|why| panic!("no filter at {}: {why}; run make wasm", path.display()))
}
