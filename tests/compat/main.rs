//! Compatibility: the clients that people use play against a gateway, and the page shows what was played.
//!
//! `make compat` fetches the clients, runs [`clients`] and the core of the end-to-end suite on every Envoy and Redis
//! that `versions.json` names, and writes `results.json` and `docs/compatibility.md`.

mod clients;
mod page;
