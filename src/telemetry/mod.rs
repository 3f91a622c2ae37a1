//! Fields of the access log, and metrics. Both are values here; `proxy.rs` passes them to Envoy.

pub mod access_log;
mod basis;
pub mod series;
pub mod stats;

pub use basis::Basis;
