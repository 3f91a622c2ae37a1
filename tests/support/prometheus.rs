//! A real Prometheus that scrapes the servers of a test.
//!
//! The environment variable `PROMETHEUS_BIN` chooses the binary; the default is where `make setup` leaves it.

use crate::process::{Process, free_port};
use crate::wasm;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to become ready, and a query to find what it looks for.
const WITHIN: Duration = Duration::from_secs(60);

/// A running Prometheus; killed when dropped.
#[derive(Debug)]
pub struct Prometheus {
    _process: Process,
    _directory: TempDir,
    base: String,
}

impl Prometheus {
    /// Starts one that scrapes each of `jobs`, a name and `host:port/path`, every second.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(jobs: &[(&str, String)]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        let job = |(name, target): &(&str, String)| {
            let (address, path) = target.split_once('/').unwrap();
            json!({
                "job_name": name,
                "metrics_path": format!("/{path}"),
                "static_configs": [{"targets": [address]}],
            })
        };
        let config = json!({
            "global": {"scrape_interval": "1s"},
            "scrape_configs": jobs.iter().map(job).collect::<Vec<_>>(),
        });
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary());
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let mut process = Process::start("prometheus", command);
        let base = format!("http://{address}");
        process.wait_until("ready", WITHIN, |_| get(&format!("{base}/-/ready")).is_ok());
        Self { _process: process, _directory: scratch, base }
    }

    /// The time series that `query` finds now, each with its labels and its value.
    ///
    /// # Panics
    /// If the query is no query.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let url = format!("{}/api/v1/query", self.base);
        let answer =
            ureq::get(&url).query("query", query).call().unwrap().body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let found = answer["data"]["result"].as_array().unwrap().iter();
        let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
        found.map(|one| (one["metric"].clone(), value(one))).collect()
    }

    /// Waits until `read` says yes.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub fn wait_until(&self, what: &str, mut read: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + WITHIN;
        while !read(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn get(url: &str) -> Result<String, ureq::Error> {
    ureq::get(url).call()?.body_mut().read_to_string()
}

/// Prometheus: `PROMETHEUS_BIN` if it is set, else where `make setup` leaves it.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("PROMETHEUS_BIN")
        .map_or_else(|| wasm::root().join(".tools/prometheus"), PathBuf::from);
    assert!(path.exists(), "no Prometheus at {}; run make setup", path.display());
    path
}
