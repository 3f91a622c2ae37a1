//! What operators see: fields of the access log, and metrics. Both are values here; `proxy.rs` hands them to Envoy.

pub mod access_log;
pub mod stats;
