//! The command `llm-rate-limit`: the sidecar, and commands to check a configuration and to read counters.
//!
//! - [`command`] is the command line and every command but the server.
//! - [`serve`] is the server, `llm-rate-limit sidecar`: settings, HTTP routes, shutdown.
//! - [`store`] is the only code that talks to Redis, and [`script`] the Lua that runs there.
//! - [`status`] is the status page, for people, and [`webhook`] reports limits that are nearly used.
//! - [`metrics`] is what the server reports to Prometheus, and [`top`] who is busy and who is near a limit.
//!
//! The sidecar runs the arithmetic of `lua/` for the filter, in batches over HTTP. It keeps no policy: limits travel in
//! each call. A batch arrives at [`serve::routes`]; [`store::call`] turns it into script calls; [`store::link`] sends
//! them to Redis in one round trip for each scope.
//!
//! This is a library so that the tests can run the same scripts and calls as the sidecar.

mod cause;
mod clock;
pub mod command;
#[cfg(test)]
mod examples;
pub mod metrics;
pub mod script;
pub mod serve;
pub mod status;
pub mod store;
pub mod top;
pub mod webhook;
