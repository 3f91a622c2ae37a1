//! Filters that limit nothing, for the benchmark. The configuration chooses one of three:
//!
//! - `{"mode": "empty"}`: what Envoy takes to enter a VM and leave it again;
//! - `{"mode": "floor"}`: the host calls that no filter can do without that reads requests and responses and reports on
//!   them. What the limiter costs beyond that is its own;
//! - `{"mode": "refuse", "headers": [["name", "value"], …], "body": "…"}`: reads the request's headers and answers 429.

#[cfg(target_family = "wasm")]
mod filter;
