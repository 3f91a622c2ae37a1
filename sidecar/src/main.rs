//! The sidecar: the only client of Redis.

fn main() {}
