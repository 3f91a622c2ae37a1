//! The guides of migration: their files are what the pages show, each tool takes its own, and ours keep the limits that
//! the guides promise, in a real Envoy.

mod files;
mod moved;
