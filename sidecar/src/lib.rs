//! The sidecar: the only client of Redis. It runs the arithmetic of `lua/` for the filter, in batches over HTTP, and
//! keeps no policy: limits travel in each call.
//!
//! A batch comes in ([`app`]), is turned into script calls ([`call`], [`script`]), which are sent in one round trip
//! for each scope ([`store`], [`link`]) to a Redis of any form ([`topology`]). [`usage`] lists and resets an
//! identity's windows. [`command`] is what the binary does besides serving. [`settings`] and [`server`] are how it is started and stopped, [`metrics`] what it tells.
//! It is a library so that the tests can run the very scripts and calls that it sends.

pub mod app;
pub mod call;
pub mod command;
pub mod error;
pub mod link;
pub mod metrics;
pub mod script;
pub mod server;
pub mod settings;
pub mod store;
pub mod topology;
pub mod usage;
