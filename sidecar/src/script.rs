//! The scripts that run on Redis: their names, their sources and the hashes they are called by.
//!
//! What scripts share is put in front of each when the sidecar is compiled, so that the arithmetic is written once and
//! nothing has to be found at run time. Redis compiles a script once, whatever its length, and is sent it only if it
//! does not know the hash.

use std::sync::LazyLock;

/// A script, ready to be called.
#[derive(Debug)]
pub struct Script {
    /// What metrics and logs call it.
    pub name: &'static str,
    /// All of its Lua.
    pub source: &'static str,
    /// The SHA-1 of `source` in hexadecimal, which Redis knows it by.
    pub sha: String,
}

impl Script {
    fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, sha: redis::Script::new(source).get_hash().to_owned() }
    }
}

macro_rules! source {
    ($file:literal) => {
        concat!(
            include_str!("../../lua/window/sliding.lua"),
            include_str!("../../lua/window/fixed.lua"),
            include_str!("../../lua/window/bucket.lua"),
            include_str!("../../lua/window/leases.lua"),
            include_str!("../../lua/windows.lua"),
            include_str!(concat!("../../lua/", $file)),
        )
    };
}

/// Charges all windows or none.
pub static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new("reserve", source!("reserve.lua")));

/// Replaces what a reservation charged by what it really cost, or brings one that still runs up to date.
pub static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new("settle", source!("settle.lua")));

/// Says how windows stand and changes nothing.
pub static PEEK: LazyLock<Script> = LazyLock::new(|| Script::new("peek", source!("peek.lua")));
