//! Real clients, a real Envoy with the real filter, the real sidecar on a real Redis, and a mock LLM behind them.
//!
//! The tests see what a client can see, and what an operator can: answers, `/v1/usage`, Envoy's metrics and its log.
//! Most share one gateway for each store, in which every test has keys of its own; those that break something, or need
//! another configuration, start their own. No test here looks into the filter: its unit tests do that.

#[macro_use]
mod modules;

modules! {
    abuse,
    accounting,
    act,
    admission,
    alone,
    answers,
    api,
    bodies,
    body,
    caller,
    caps_and_reservations,
    clients,
    clock,
    compression,
    concurrency,
    configuration,
    crowd,
    death,
    endings,
    endpoints,
    endpoints_and_upgrades,
    far_store,
    faults,
    floods,
    gateway,
    headers_first,
    host_calls,
    hostile,
    identities,
    inspect,
    learned_prompts,
    metrics,
    outages,
    overload,
    policy,
    raw,
    reload,
    routes,
    senders,
    settlements,
    sidecar_versions,
    sidecars,
    store_state,
    storm,
    streams,
    tokens,
    what_upstreams_say,
}
