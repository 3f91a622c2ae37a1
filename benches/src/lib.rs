//! What llm-rate-limit costs, measured beside the same Envoy without it.
//!
//! Absolute numbers depend on the machine and on whatever else it does. So all gateways are measured in turns, round
//! after round, and each is compared with its baseline of the same round; the result is the median of the rounds, with
//! the spread.
//!
//! - [`cases`]: what is measured, as tables of gateways under a load
//! - [`stacks`]: the gateways, each an Envoy and whatever counts for it
//! - [`upstream`], [`load`]: the server and the clients, which answer and send the same bytes again and again
//! - [`http`]: where a message ends
//! - [`processes`]: the time and memory of processes
//! - [`rounds`]: turns, rounds, and the figures of each
//! - [`statistics`]: medians and spreads
//! - [`beginnings`]: starts, and memory after them
//! - [`burst`]: what is admitted of a burst
//! - [`host_calls`]: calls between Envoy and filters
//! - [`pure`], [`instructions`]: the filter's own work, and the instructions that it takes
//! - [`redis_alone`]: Redis and the sidecar without Envoy
//! - [`growth`]: how cost grows with identities, windows, keys and workers; [`footprint`]: what each
//!   takes of memory; [`fleet`]: a simulation of many Envoys
//! - [`large_body`]: bodies of 20 MB, and small requests beside them
//! - [`peers`]: other gateways
//! - [`goals`]: what the figures should be
//! - [`report`], [`chart`], [`machine`]: what readers see

pub mod beginnings;
pub mod burst;
pub mod cases;
pub mod chart;
pub mod fleet;
pub mod footprint;
pub mod goals;
pub mod growth;
pub mod host_calls;
pub mod http;
pub mod instructions;
pub mod large_body;
pub mod load;
pub mod machine;
pub mod peers;
pub mod processes;
pub mod pure;
pub mod redis_alone;
pub mod report;
pub mod rounds;
pub mod stacks;
pub mod statistics;
pub mod upstream;
