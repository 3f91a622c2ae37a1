//! Recipes keep what they promise: each file of `envoy/recipes/` configures the filter in a real Envoy.
//!
//! A recipe is the filter's configuration. The few lines of Envoy that it needs, if any, are at its end, behind
//! `#envoy`: members of the HTTP connection manager.

mod agents;
mod budgets;
mod observing;
mod page;
mod recipe;
mod senders;
mod slots;
