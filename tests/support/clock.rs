//! A clock that a test sets back or forward, for one process that it starts: a library that is loaded before the C
//! library and reads by how much from a file (`clock.c`).

use crate::wasm;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The clock of the processes that are started with it.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
}

impl Clock {
    /// A clock that shows the machine's time. The C compiler builds it.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn new() -> Self {
        let clock = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(clock.path("step"), 0_i64.to_ne_bytes()).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(clock.path("clock.so"));
        let built = compiler.arg(wasm::root().join("tests/support/clock.c")).status().unwrap();
        assert!(built.success(), "cc: {built}");
        clock
    }

    /// The variables of a process that lives by this clock.
    ///
    /// # Panics
    /// Never.
    pub fn environment(&self) -> Vec<(String, String)> {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        vec![("LD_PRELOAD".to_owned(), path("clock.so")), ("CLOCK_STEP".to_owned(), path("step"))]
    }

    /// Shows `ms` since the epoch now, and goes on from there.
    ///
    /// # Panics
    /// If its file cannot be written.
    pub fn show(&self, ms: i64) {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.set(ms - i64::try_from(real.as_millis()).unwrap());
    }

    /// Shows the machine's time and `ms` more from now on, which may be negative.
    ///
    /// # Panics
    /// If its file is gone.
    pub fn set(&self, ms: i64) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(self.path("step")).unwrap();
        file.write_all_at(&ms.to_ne_bytes(), 0).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
