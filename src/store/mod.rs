//! Where counters live. `local` keeps them in this Envoy, `batch` asks the sidecar by group commit; both take the
//! same charges ([`crate::wire::Charge`]) and answer the same states.

pub mod batch;
pub mod bucket;
pub mod local;
