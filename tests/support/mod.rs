//! What the end-to-end tests are built from, one file per process that they start.

pub mod process;
