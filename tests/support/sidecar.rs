//! The real binary `llm-rate-limit`, its sidecar, and an HTTP client for that.
//!
//! The environment variable `SIDECAR_BIN` chooses the binary. Without it, the first test that needs the binary builds
//! it, in the profile of the tests.

use crate::process::Process;
use llm_rate_limit::store::wire::{Reserve, Reserved, Settle, Settled};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The time limit for it to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The time limit for an answer; the sidecar's own timeouts are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A running sidecar. Dropping it kills the process.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    client: Client,
    base: String,
}

impl Sidecar {
    /// Starts it on a free port, with `redis_url` and more settings as environment variables, and waits until it
    /// listens.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(redis_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut process = launch("127.0.0.1:0", redis_url, settings);
        let client = Client::builder().timeout(ANSWER_TIMEOUT).build().unwrap();
        let address = listening(&mut process, "address=");
        Self { process, client, base: format!("http://{address}") }
    }

    /// Starts it as [`Sidecar::start`] does, but on a unix socket.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_unix(socket: &Path, redis_url: &str, settings: &[(&str, &str)]) -> Self {
        let mut process = launch(&format!("unix:{}", socket.display()), redis_url, settings);
        let client = Client::builder().timeout(ANSWER_TIMEOUT).unix_socket(socket).build().unwrap();
        listening(&mut process, "path=");
        Self { process, client, base: "http://sidecar".to_owned() }
    }

    /// `host:port`, for an Envoy cluster.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// A request to `path`, which the caller sends.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// The status and body of the answer to `GET path`.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn get(&self, path: &str) -> (u16, String) {
        answer(self.request(Method::GET, path)).await.unwrap()
    }

    /// The status and body of the answer to `POST path` with `body`.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        answer(self.request(Method::POST, path).body(body)).await.unwrap()
    }

    /// Waits until `/readyz` answers with this status.
    ///
    /// # Panics
    /// If it does not within 20 seconds.
    pub async fn wait_until_ready_is(&self, status: u16) {
        let ready = async {
            while self.get("/readyz").await.0 != status {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(START_TIMEOUT, ready).await;
        assert!(waited.is_ok(), "/readyz does not answer {status}:\n{}", self.process.log());
    }

    /// Reserves a batch.
    ///
    /// # Panics
    /// If the status is not 200.
    pub async fn reserve(&self, batch: &[Reserve]) -> Vec<Reserved> {
        let (status, body) = self.post("/v1/reserve", serde_json::to_vec(batch).unwrap()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Settles a batch.
    ///
    /// # Panics
    /// If the status is not 200.
    pub async fn settle(&self, batch: &[Settle]) -> Vec<Settled> {
        let (status, body) = self.post("/v1/settle", serde_json::to_vec(batch).unwrap()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The answer to `method` on `/v1/usage` with this query.
    ///
    /// # Panics
    /// If the status is not 200.
    pub async fn usage(&self, method: Method, query: &str) -> Value {
        let (status, body) = answer(self.request(method, &format!("/v1/usage?{query}"))).await.unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The value of the metric `name`, with its labels as Prometheus writes them; 0 if there is none yet.
    ///
    /// # Panics
    /// If `/metrics` does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Sends a request and returns the status and body of the answer.
///
/// # Errors
/// There is no answer.
pub async fn answer(request: RequestBuilder) -> reqwest::Result<(u16, String)> {
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// Starts a sidecar and waits for nothing.
///
/// # Panics
/// If there is no binary.
pub fn launch(listen: &str, redis_url: &str, settings: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary());
    command.arg("sidecar").env_clear().env("LISTEN", listen).env("REDIS_URL", redis_url);
    command.envs(settings.iter().copied());
    Process::start("sidecar", command)
}

/// Waits for the log line with the address that it listens on, and returns the text after `field`.
fn listening(process: &mut Process, field: &str) -> String {
    let find = |log: &str| {
        let line = log.lines().find(|line| line.contains("listening") && line.contains(field))?;
        Some(line.split_once(field)?.1.to_owned())
    };
    process.wait_until("listening", START_TIMEOUT, |process| find(&process.log()).is_some());
    find(&process.log()).unwrap()
}

/// The binary's path. The first call builds it.
///
/// # Panics
/// If it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("SIDECAR_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// Builds the binary next to the tests, whose place is `<target>/<profile>/deps/<this test>`.
fn build() -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.ancestors().find(|path| path.ends_with("deps")).and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "llm-rate-limit-cli", "--target-dir"]);
    cargo.arg(profile.parent().unwrap()).stdin(Stdio::null());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    // Cargo's variables about the test's own package would make some build scripts run again each time.
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success(), "llm-rate-limit does not build");
    profile.join("llm-rate-limit")
}
