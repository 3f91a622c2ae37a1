//! The llm-rate-limit filter: pure logic that compiles and is tested natively, and one file, `proxy.rs`, that speaks to
//! Envoy.
//!
//! The life of a request:
//!
//! 1. **Headers.** `proxy.rs` turns Envoy's callback into an event, [`worker`] finds the request's [`session`].
//!    [`identity`] names the sender, [`config`] and [`policy`] the limits that apply to it.
//! 2. **Body.** [`request`] reads the prompt in the terms of its API, [`tokens`] counts it as [`models`] says, and
//!    [`pricing`] weighs the tokens. The session reserves that cost.
//! 3. **Decision.** [`store`] admits or refuses, here with the arithmetic of [`window`] or through the sidecar. The
//!    request is forwarded, waits, or is refused by [`answer`].
//! 4. **Response.** [`usage`] reads the real cost while the response passes, and [`stream_edit`] changes streams that
//!    must be changed.
//! 5. **Settlement.** The session settles the reservation to the real cost, once, however the request ends.
//!
//! The rooms, from those that know the least: [`quantity`] has numbers that saturate; [`codec`] turns bytes into
//! meaning;
//! [`telemetry`] has log fields and metrics.

pub mod answer;
pub mod codec;
pub mod config;
pub mod identity;
pub mod models;
pub mod policy;
pub mod pricing;
#[cfg(target_family = "wasm")]
mod proxy;
pub mod quantity;
pub mod request;
pub mod session;
pub mod store;
pub mod stream_edit;
pub mod telemetry;
pub mod tokens;
pub mod usage;
pub mod window;
pub mod worker;
