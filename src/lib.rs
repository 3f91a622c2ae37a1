//! The llm-rate-limit filter: pure logic that compiles and is tested natively, and one file, `proxy.rs`, that
//! speaks to Envoy.
//!
//! A request is read ([`config`], [`identity`], [`request`]), priced ([`tokens`], [`limits`]), reserved in a store
//! ([`window`], [`local_store`], or the sidecar by way of [`wire`]), answered ([`headers`], [`rejection`]) and,
//! when its response has told what it really cost ([`usage`], [`sse`]), settled.

pub mod config;
pub mod identity;
pub mod lenient;
pub mod limits;
pub mod pattern;
pub mod policy;
pub mod request;
pub mod sse;
pub mod tokens;
pub mod usage;
pub mod window;
pub mod wire;
