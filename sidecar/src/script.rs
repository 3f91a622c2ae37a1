//! The scripts that run on Redis: their names, their sources and the hashes they are called by.
//!
//! A build joins each script with the files that all scripts share, so that the arithmetic is written once and the
//! sidecar reads no file at run time. Redis compiles a script once, whatever its length, and the sidecar sends a source
//! only if Redis does not know its hash.

use std::sync::LazyLock;

/// A script, ready to be called.
#[derive(Debug)]
pub struct Script {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// All of its Lua.
    pub source: &'static str,
    /// The SHA-1 of `source` in hexadecimal, by which Redis knows it.
    pub sha: String,
}

impl Script {
    fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, sha: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// A script with the shared files before it. Lua sees only what stands above, so each file comes after those it calls.
macro_rules! source {
    ($file:literal) => {
        concat!(
            include_str!("../../lua/stored.lua"),
            include_str!("../../lua/grants.lua"),
            include_str!("../../lua/window/sliding.lua"),
            include_str!("../../lua/window/period.lua"),
            include_str!("../../lua/window/fixed.lua"),
            include_str!("../../lua/window/bucket.lua"),
            include_str!("../../lua/window/leases.lua"),
            include_str!("../../lua/record.lua"),
            include_str!("../../lua/window/counter.lua"),
            include_str!("../../lua/index.lua"),
            include_str!("../../lua/prelude.lua"),
            include_str!(concat!("../../lua/", $file)),
        )
    };
}

/// Charges all windows or none.
pub static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new("reserve", source!("reserve.lua")));

/// Replaces what a reservation charged by its final cost, or brings a running reservation up to date.
pub static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new("settle", source!("settle.lua")));

/// Brings an open response and its usage together. It has no windows, and so nothing before it.
pub static BACKGROUND: LazyLock<Script> =
    LazyLock::new(|| Script::new("background", include_str!("../../lua/background.lua")));

/// Takes what answers have taught about the counts of prompts. It has no windows either.
pub static LEARN: LazyLock<Script> =
    LazyLock::new(|| Script::new("learn", include_str!("../../lua/learn.lua")));

/// Reports the state of windows and changes nothing.
pub static PEEK: LazyLock<Script> = LazyLock::new(|| Script::new("peek", source!("peek.lua")));

/// Raises a limit for a while, or gives units back by hand.
pub static GRANT: LazyLock<Script> = LazyLock::new(|| Script::new("grant", source!("grant.lua")));

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Script> {
    [&RESERVE, &SETTLE, &BACKGROUND, &PEEK, &LEARN, &GRANT].into_iter().map(|script| &**script)
}
