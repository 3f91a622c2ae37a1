//! Real clients, a real Envoy with the real filter, the real sidecar on a real Redis, and a mock LLM behind them.
//!
//! What a client can see is tested, and what an operator can: answers, `/v1/usage`, Envoy's metrics and log. Most tests
//! share one gateway for each store, in which every test has keys of its own; those that break something, or need
//! another configuration, start their own. No test here looks into the filter: that is what its unit tests are for.

mod abuse;
mod accounting;
mod admission;
mod answers;
mod api;
mod bodies;
mod caller;
mod clients;
mod compression;
mod concurrency;
mod configuration;
mod endings;
mod endpoints;
mod gateway;
mod headers_first;
mod hostile;
mod identities;
mod metrics;
mod outages;
mod policy;
mod raw;
mod reload;
mod routes;
mod sidecars;
mod storm;
mod streams;
mod tokens;
