//! The llm-rate-limit filter: pure logic that compiles and is tested natively, and one file, `proxy.rs`, that
//! speaks to Envoy.
//!
//! A request is read ([`config`], [`identity`], [`request`]), priced ([`tokens`], [`pricing`], [`policy`]) and entered into an
//! account ([`account`]), reserved in a store ([`store`], [`window`], and [`wire`] on the way to the sidecar), and
//! forwarded or refused ([`refusal`], [`answer`]). When its response has told what it really cost ([`usage`],
//! [`sse`]), the account is closed. [`worker`] drives requests through their phases ([`session`]).

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
