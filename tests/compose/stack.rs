//! Services of the file as processes.

use crate::file::{compose, instruction, stage, words};
use llm_rate_limit_tests::envoy::binary as envoy_binary;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::{Process, free_port};
use llm_rate_limit_tests::{sidecar, wasm};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a service may take until its health check passes. Envoy compiles the filter.
pub const STARTS_WITHIN: Duration = Duration::from_secs(240);

/// The folders of a container that its files, mounts and secrets are in.
const FOLDERS: [&str; 5] = ["/etc/llm-rate-limit", "/run/", "/usr/local/bin", "/data", "/etc/prometheus"];

/// Services as processes.
pub struct Stack {
    compose: Value,
    scratch: TempDir,
    pub upstream: MockLlm,
    pub ports: RefCell<BTreeMap<String, u16>>,
}

impl Stack {
    pub fn new() -> Self {
        let upstream = MockLlm::start();
        let ports = BTreeMap::from([("mock-llm:8000".to_owned(), upstream.address().port())]);
        Self {
            compose: compose(),
            scratch: tempfile::tempdir().unwrap(),
            upstream,
            ports: RefCell::new(ports),
        }
    }

    pub fn service(&self, name: &str) -> &Value {
        &self.compose["services"][name]
    }

    /// The root of a service's container.
    pub fn root(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The loopback port for a port of a service.
    pub fn port(&self, name: &str, port: u16) -> u16 {
        *self.ports.borrow_mut().entry(format!("{name}:{port}")).or_insert_with(free_port)
    }

    pub fn secret(name: &str) -> String {
        format!("secret-of-{name}")
    }

    /// Makes the container's root: what the image copies, what is mounted, the secrets, and the tmpfs.
    pub fn create(&self, name: &str) {
        let (service, root) = (self.service(name), self.root(name));
        let bin = root.join("usr/local/bin");
        fs::create_dir_all(&bin).unwrap();
        if let Some(target) = service["build"]["target"].as_str() {
            for copied in stage(target).iter().filter_map(|line| line.strip_prefix("COPY ")) {
                copy(copied, &root);
            }
            symlink(envoy_binary().canonicalize().unwrap(), bin.join("envoy")).unwrap();
        }
        for volume in words(&service["volumes"]) {
            let (from, to) = volume.split_once(':').unwrap();
            let to = root.join(to.trim_end_matches(":ro").trim_start_matches('/'));
            fs::create_dir_all(&to).unwrap();
            let Some(folder) = from.strip_prefix("./") else { continue };
            for entry in fs::read_dir(wasm::root().join("envoy").join(folder)).unwrap() {
                let file = entry.unwrap().path();
                fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
            }
        }
        fs::create_dir_all(root.join("run/secrets")).unwrap();
        for secret in words(&service["secrets"]) {
            fs::write(root.join("run/secrets").join(&secret), Self::secret(&secret) + "\n").unwrap();
        }
        for tmpfs in words(&service["tmpfs"]) {
            fs::create_dir_all(root.join(&tmpfs.split(':').next().unwrap()[1..])).unwrap();
        }
    }

    /// `text` with the paths of the container and the addresses of services as they are here.
    pub fn here(&self, name: &str, text: &str) -> String {
        let mut text = text.to_owned();
        for folder in FOLDERS {
            let place = self.root(name).join(&folder[1..]).display().to_string();
            let place =
                if folder.ends_with('/') { format!("{}/", place.trim_end_matches('/')) } else { place };
            if text.starts_with(folder) || text.contains(&format!("={folder}")) {
                text = text.replacen(folder, &place, 1);
            }
        }
        for (service, port) in [
            ("sidecar", 8081),
            ("cluster-sidecar", 8081),
            ("redis", 6379),
            ("mock-llm", 8000),
            ("cluster-redis-1", 6379),
            ("cluster-redis-2", 6379),
            ("cluster-redis-3", 6379),
        ] {
            let known = format!("{service}:{port}");
            let begins = |at: usize| at == 0 || text[..at].ends_with(['/', ',']);
            let found: Vec<_> =
                text.match_indices(&known).map(|(at, _)| at).filter(|at| begins(*at)).collect();
            for at in found.into_iter().rev() {
                text.replace_range(at..at + known.len(), &format!("127.0.0.1:{}", self.port(service, port)));
            }
        }
        for port in [10000, 9901, 8081] {
            for host in ["0.0.0.0", "127.0.0.1"] {
                let known = format!("{host}:{port}");
                if text.split('/').any(|part| part == known) {
                    text = text.replace(&known, &format!("127.0.0.1:{}", self.port(name, port)));
                }
            }
        }
        text
    }

    /// A command in a service's container, with its environment.
    pub fn command(&self, name: &str, line: &[String]) -> Command {
        let line: Vec<String> = line.iter().map(|word| self.here(name, word)).collect();
        let root = self.root(name);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", root.join("usr/local/bin").display());
        let program = which(&path, &line[0]);
        let mut command = Command::new(program);
        command.args(&line[1..]).env_clear().env("PATH", path).env("PORT", self.port(name, 6379).to_string());
        for (variable, value) in self.service(name)["environment"].as_object().into_iter().flatten() {
            command.env(variable, self.here(name, &defaulted(value.as_str().unwrap())));
        }
        let data = root.join("data");
        command.current_dir(if data.exists() { data } else { root });
        command
    }

    /// What the engine would start for a service, with more arguments.
    pub fn start_line(&self, name: &str, more: &[&str]) -> Vec<String> {
        let service = self.service(name);
        let image = service["build"]["target"].as_str().map(stage).unwrap_or_default();
        let of = |field: &str, instead: &str| match &service[field] {
            Value::Null => instruction(&image, instead),
            words_of_it => words(words_of_it),
        };
        let mut line = [of("entrypoint", "ENTRYPOINT "), of("command", "CMD ")].concat();
        line.extend(more.iter().map(|&word| word.to_owned()));
        line
    }

    /// Starts a service.
    pub fn start(&self, name: &str, more: &[&str]) -> Process {
        self.create(name);
        Process::start(name, self.command(name, &self.start_line(name, more)))
    }

    /// Starts a service, and waits until its health check passes.
    pub fn up(&self, name: &str, more: &[&str]) -> Process {
        let mut process = self.start(name, more);
        let mut check = words(&self.service(name)["healthcheck"]["test"]);
        assert_eq!(check.remove(0), "CMD");
        process.wait_until("healthy", STARTS_WITHIN, |_| {
            self.command(name, &check).output().unwrap().status.success()
        });
        process
    }

    pub fn redis(&self, name: &str) -> Process {
        let port = self.port(name, 6379).to_string();
        self.up(name, &["--port", &port, "--bind", "127.0.0.1"])
    }

    pub fn connection(&self, name: &str, password: &str) -> redis::RedisResult<redis::Connection> {
        let url = format!("redis://{password}127.0.0.1:{}", self.port(name, 6379));
        redis::Client::open(url)?.get_connection()
    }

    /// The status of a request with the key `demo-key`.
    pub fn ask(&self, name: &str) -> u16 {
        let body = serde_json::json!({"model": "gpt-4o", "max_tokens": 1, "messages": []}).to_string();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://127.0.0.1:{}/v1/chat/completions", self.port(name, 10000));
        let request = agent.post(url).header("authorization", "Bearer demo-key");
        request.send(&body).unwrap().status().as_u16()
    }
}

/// Does what a `COPY` says below `root`. What other stages build is what the tests have built.
fn copy(arguments: &str, root: &Path) {
    let mut names: Vec<&str> = arguments.split_whitespace().filter(|word| !word.starts_with("--")).collect();
    let to = root.join(names.pop().unwrap().trim_start_matches('/'));
    fs::create_dir_all(&to).unwrap();
    for name in names {
        let place = to.join(Path::new(name).file_name().unwrap());
        let from = match name {
            "/out/llm-rate-limit" => sidecar::binary().to_owned(),
            "/out/llm_rate_limit.wasm" => wasm::filter(),
            "/out/mock-llm" | "/etc/ssl/certs/ca-certificates.crt" => continue,
            _ => wasm::root().join(name),
        };
        assert!(from.exists(), "the Dockerfile copies {name}");
        symlink(from.canonicalize().unwrap(), &place).unwrap();
        // A script is read where it is, so that it finds what is beside it.
        if name.starts_with("envoy/") {
            fs::remove_file(&place).unwrap();
            fs::copy(from, &place).unwrap();
        }
    }
}

/// Compose's own `${NAME:-default}`, for a `NAME` that is not set.
fn defaulted(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').unwrap();
    let (_, default) = variable.split_once(":-").unwrap();
    format!("{before}{default}{after}")
}

/// The program of this name in `path`.
fn which(path: &str, name: &str) -> PathBuf {
    let mut places = path.split(':').map(|folder| Path::new(folder).join(name));
    if name.starts_with('/') { name.into() } else { places.find(|place| place.exists()).unwrap() }
}
