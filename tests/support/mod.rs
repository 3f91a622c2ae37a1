//! The building blocks of the end-to-end tests: one file for each kind of process that they start, and
//! `native` for a worker without any.

pub mod calls;
pub mod charges;
pub mod chat;
pub mod chromium;
pub mod clock;
pub mod command;
pub mod envoy;
pub mod far;
pub mod jwt;
pub mod mock_llm;
pub mod native;
pub mod process;
pub mod prometheus;
pub mod recipe;
pub mod redis;
pub mod scripts;
pub mod sidecar;
pub mod tls;
pub mod trailing;
pub mod wasm;
