//! Where commands run: a folder with the files that pages name, and Redis, a sidecar and an Envoy at the addresses that
//! they name.

use crate::page::Page;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::{Sidecar, binary};
use llm_rate_limit_tests::wasm::root;
use serde_json::json;
use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use tempfile::TempDir;

/// How long a command may take that repeats until it is interrupted, and the status by which `timeout` says so.
const REPEATS_FOR: &str = "3";
const INTERRUPTED: i32 = 124;

/// The store of README's limits, and the one of a fleet.
const LOCAL: &str = r#"{"type": "local"}"#;
const IN_REDIS: &str = r#"{"type": "redis", "cluster": "rate-limit-sidecar"}"#;

/// A folder with the files that a page names.
pub struct Scene {
    folder: TempDir,
    servers: Rc<Servers>,
}

/// What runs, for all scenes; each server starts when the first command wants it.
#[derive(Default)]
pub struct Servers {
    redis: OnceCell<Redis>,
    sidecar: OnceCell<Sidecar>,
    envoy: OnceCell<(MockLlm, Envoy)>,
}

impl Servers {
    fn sidecar(&self) -> &str {
        let redis = self.redis.get_or_init(Redis::start);
        self.sidecar.get_or_init(|| Sidecar::start(&redis.url(), &[])).address()
    }

    fn envoy(&self) -> &Envoy {
        let start = || {
            let upstream = MockLlm::start();
            let store = json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000});
            let setup = Setup::new(upstream.address()).sidecar(self.sidecar().parse().unwrap());
            (upstream, setup.filter(&json!({"store": store, "default": {"rpm": 20}})).start())
        };
        &self.envoy.get_or_init(start).1
    }

    /// The command with the addresses of these servers.
    fn addressed(&self, command: &str) -> String {
        let mut command = command.to_owned();
        if command.contains("127.0.0.1:9901") {
            command = command.replace("127.0.0.1:10000", &self.envoy().address().to_string());
            command = command.replace("127.0.0.1:9901", self.envoy().admin_address());
        }
        if command.contains("127.0.0.1:8081") {
            command = command.replace("127.0.0.1:8081", self.sidecar());
        }
        command
    }
}

impl Scene {
    /// As this page has it: its first configuration, or else README's, is in `limits.yaml`.
    pub fn of(page: &Page, servers: Rc<Servers>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        for name in ["envoy", "deploy"] {
            copy(&root().join(name), &here(name));
        }
        for name in [".tools", "target", "docs"] {
            symlink(root().join(name), here(name)).unwrap();
        }
        fs::create_dir(here("bin")).unwrap();
        symlink(binary(), here("bin/llm-rate-limit")).unwrap();

        fs::write(here("limits.yaml"), limits(page)).unwrap();
        let configured = Command::new("sh").arg(root().join("envoy/configure.sh")).output().unwrap();
        fs::write(here("envoy.yaml"), configured.stdout).unwrap();
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]});
        fs::write(here("body.json"), body.to_string()).unwrap();
        let message = json!({"role": "assistant", "content": "Hello!"});
        let response = json!({
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        });
        fs::write(here("response.json"), response.to_string()).unwrap();
        Self { folder, servers }
    }

    /// Runs a command as a reader would who has these files and servers.
    pub fn run(&self, command: &str) {
        // This Envoy would listen on the ports of everybody's.
        let here =
            self.servers.addressed(command).replace(".tools/envoy -c", ".tools/envoy --mode validate -c");
        if command.contains("--live") {
            // The page says that the store is Redis then.
            let file = self.folder.path().join("limits.yaml");
            let limits = fs::read_to_string(&file).unwrap();
            fs::write(file, limits.replace(LOCAL, IN_REDIS)).unwrap();
        }
        let repeats = here.contains("--watch");
        let here = if repeats { format!("timeout {REPEATS_FOR} {here}") } else { here };
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &here]).current_dir(self.folder.path());
        shell.env("PATH", path);
        let asks = ["--live", " top", " usage ", " reset ", " grant ", " refund ", " grants "];
        if asks.iter().any(|word| command.contains(word)) {
            shell.env("SIDECAR_URL", format!("http://{}", self.servers.sidecar()));
        }
        let output = shell.output().unwrap();
        let status = output.status.code().unwrap();
        let is_well = match command.split(' ').nth(1) {
            // A finding is what it is for: this Redis keeps nothing.
            Some("doctor") => status == 0 || status == 1,
            _ => status == if repeats { INTERRUPTED } else { 0 },
        };
        assert!(is_well, "{command}: {output:#?}");
        if command.starts_with("grep -rl registry.example") {
            let mut left = Command::new("grep");
            left.args(["-r", "image: registry.example"]).arg(self.folder.path().join("deploy"));
            assert_eq!(left.output().unwrap().status.code(), Some(1), "{command} has replaced all");
        }
    }
}

/// The first configuration of the filter on a page, or README's.
fn limits(page: &Page) -> String {
    let readme = Page::named("README.md");
    let first = |page: &Page, language| page.fenced(language).first().map(|block| (*block).to_owned());
    let is_configuration = |block: &String| block.contains("plans:");
    first(page, "json")
        .filter(|_| page.name == readme.name)
        .or_else(|| first(page, "yaml").filter(is_configuration))
        .or_else(|| first(&readme, "json"))
        .unwrap()
}

/// Copies the files of a folder that are the repository's.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name == "secrets" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
