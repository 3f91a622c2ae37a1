//! Recipes keep what they promise: each file of `envoy/recipes/` configures the filter in a real Envoy.

mod agents;
mod budgets;
mod models;
mod observing;
mod over_limits;
mod page;
mod recipe;
mod senders;
mod slots;
mod teams;
