//! Where counters live. `local` keeps them in this Envoy, `sidecar` asks the sidecar by group commit; both take the
//! same charges ([`charge::ScopeCharges`]) and answer the same states.

pub mod charge;
pub mod keys;
pub mod local;
pub mod shard;
pub mod sidecar;
pub mod wire;
