//! What the end-to-end tests are built from, one file per process that they start.

pub mod charges;
pub mod envoy;
pub mod mock_llm;
pub mod process;
pub mod redis;
pub mod scripts;
pub mod sidecar;
pub mod wasm;
