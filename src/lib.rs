//! The llm-rate-limit filter: pure logic, which compiles and is tested natively, and one file, `proxy.rs`, which speaks
//! to Envoy.
//!
//! The life of a request:
//!
//! 1. **Headers.** `proxy.rs` turns Envoy's callback into an event, and [`worker`] finds the request's [`session`].
//!    [`identity`] names the sender; [`config`] and [`policy`] find the limits that apply to the request.
//! 2. **Body.** [`request`] reads the prompt in the format of its API, [`tokens`] counts it by the rules in [`models`],
//!    and [`pricing`] weighs the tokens. The session reserves that cost.
//! 3. **Decision.** [`store`] admits or refuses the request, locally with the arithmetic of [`window`], or through the
//!    sidecar. The session forwards the request, makes it wait, or refuses it with an [`answer`].
//! 4. **Response.** [`usage`] reads the real cost while the response passes, and [`stream_edit`] edits streams that
//!    must be edited.
//! 5. **Settlement.** The session settles the reservation to the real cost, once, however the request ends.
//!
//! Three modules know nothing of requests and serve all others: [`quantity`] has numbers that saturate, [`codec`]
//! decodes bytes, and [`telemetry`] has log fields and metrics.

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
