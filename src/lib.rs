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
//! The rooms:
//!
//! - [`answer`]: the headers and errors that clients see
//! - [`calendar`]: days, weeks, months and years in time zones
//! - [`codec`]: bytes decoded without knowing a limit: JSON, server-sent events, content codings, languages
//! - [`config`]: the configuration, from its document to checked values
//! - [`identity`]: the sender of a request
//! - [`models`]: every table of model names
//! - [`policy`]: the limits, their owners, and the requests that they apply to
//! - [`pricing`]: weights and prices of tokens
//! - `proxy`: Envoy's callbacks as events, and effects as Envoy's calls
//! - [`quantity`]: units, milliseconds and millionths, which saturate
//! - [`request`]: prompts, by API
//! - [`session`]: one request's phases, events and effects
//! - [`sort`]: sorting in little code
//! - [`store`]: reservations and settlements, in this Envoy or through the sidecar
//! - [`stream_edit`]: changes to streams on their way to the client
//! - [`telemetry`]: log fields and metrics
//! - [`tokens`]: counts of text
//! - [`usage`]: the real cost, read out of responses
//! - [`window`]: the arithmetic of windows, the twin of `lua/window/`
//! - [`worker`]: the requests of one worker, and its turns

pub mod answer;
pub mod calendar;
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
pub mod sort;
pub mod store;
pub mod stream_edit;
pub mod telemetry;
pub mod tokens;
pub mod usage;
pub mod window;
pub mod worker;
