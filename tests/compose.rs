//! `envoy/compose.yaml` without a container engine: each service's command runs as a process, with its environment, its
//! mounts, its secrets and its health check, in a folder that has the files of its image and stands for its root. Ports
//! are free ones on loopback, and names of services are addresses.
//!
//! What only an engine does is not shown here: networks, users, dropped rights, read-only roots, limits on memory, and
//! whether the Dockerfile builds. The first test holds the file to them; `make check` validates both files.

use llm_rate_limit_tests::envoy::binary as envoy_binary;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::{Process, free_port};
use llm_rate_limit_tests::{sidecar, wasm};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a service may take until its health check passes. Envoy compiles the filter.
const STARTS_WITHIN: Duration = Duration::from_secs(240);

/// The folders of a container that its files, mounts and secrets are in.
const FOLDERS: [&str; 5] = ["/etc/llm-rate-limit", "/run/", "/usr/local/bin", "/data", "/etc/prometheus"];

/// The file, with its merges done.
fn compose() -> Value {
    let text = fs::read_to_string(wasm::root().join("envoy/compose.yaml")).unwrap();
    let mut value: yaml_serde::Value = yaml_serde::from_str(&text).unwrap();
    // A merge of what has a merge itself takes another turn.
    for _ in 0..3 {
        value.apply_merge().unwrap();
    }
    serde_json::to_value(value).unwrap()
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service))
}

fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The instructions of a target of the Dockerfile, one a line.
fn stage(target: &str) -> Vec<String> {
    let text = fs::read_to_string(wasm::root().join("envoy/Dockerfile")).unwrap().replace("\\\n", "");
    let (_, stage) =
        text.split_once(&format!(" AS {target}\n")).unwrap_or_else(|| panic!("no target {target}"));
    let stage = stage.split("\nFROM ").next().unwrap();
    stage.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The words of an instruction in its JSON form.
fn instruction(stage: &[String], name: &str) -> Vec<String> {
    let line = stage.iter().find_map(|line| line.strip_prefix(name));
    line.map(|json| words(&serde_json::from_str(json).unwrap())).unwrap_or_default()
}

/// Services as processes.
struct Stack {
    compose: Value,
    scratch: TempDir,
    upstream: MockLlm,
    ports: RefCell<BTreeMap<String, u16>>,
}

impl Stack {
    fn new() -> Self {
        let upstream = MockLlm::start();
        let ports = BTreeMap::from([("mock-llm:8000".to_owned(), upstream.address().port())]);
        Self {
            compose: compose(),
            scratch: tempfile::tempdir().unwrap(),
            upstream,
            ports: RefCell::new(ports),
        }
    }

    fn service(&self, name: &str) -> &Value {
        &self.compose["services"][name]
    }

    /// The root of a service's container.
    fn root(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The loopback port for a port of a service.
    fn port(&self, name: &str, port: u16) -> u16 {
        *self.ports.borrow_mut().entry(format!("{name}:{port}")).or_insert_with(free_port)
    }

    fn secret(name: &str) -> String {
        format!("secret-of-{name}")
    }

    /// Makes the container's root: what the image copies, what is mounted, the secrets, and the tmpfs.
    fn create(&self, name: &str) {
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
    fn here(&self, name: &str, text: &str) -> String {
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
    fn command(&self, name: &str, line: &[String]) -> Command {
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
    fn start_line(&self, name: &str, more: &[&str]) -> Vec<String> {
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
    fn start(&self, name: &str, more: &[&str]) -> Process {
        self.create(name);
        Process::start(name, self.command(name, &self.start_line(name, more)))
    }

    /// Starts a service, and waits until its health check passes.
    fn up(&self, name: &str, more: &[&str]) -> Process {
        let mut process = self.start(name, more);
        let mut check = words(&self.service(name)["healthcheck"]["test"]);
        assert_eq!(check.remove(0), "CMD");
        process.wait_until("healthy", STARTS_WITHIN, |_| {
            self.command(name, &check).output().unwrap().status.success()
        });
        process
    }

    fn redis(&self, name: &str) -> Process {
        let port = self.port(name, 6379).to_string();
        self.up(name, &["--port", &port, "--bind", "127.0.0.1"])
    }

    fn connection(&self, name: &str, password: &str) -> redis::RedisResult<redis::Connection> {
        let url = format!("redis://{password}127.0.0.1:{}", self.port(name, 6379));
        redis::Client::open(url)?.get_connection()
    }

    /// The status of a request with the key `demo-key`.
    fn ask(&self, name: &str) -> u16 {
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

#[test]
fn every_service_has_no_more_rights_than_it_needs() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let user = service["user"].as_str().unwrap();
        let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() == 2 && ids[0] > 0, "{name}: {user}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_number(), "{name}");
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none(), "{name}");
        assert!(words(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        // What publishes nothing has no way out either.
        let networks = words(&service["networks"]);
        assert_eq!(networks.contains(&"outside".to_owned()), service.get("ports").is_some(), "{name}");
        if let Some(image) = service["image"].as_str() {
            assert!(image.contains(":") && image.contains("@sha256:"), "{name}: {image}");
        }
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
}

#[test]
fn nothing_but_clients_and_prometheus_is_published() {
    let compose = compose();
    let published: Vec<String> =
        services(&compose).flat_map(|(_, service)| words(&service["ports"])).collect();
    let expected =
        ["127.0.0.1:10002:10000", "127.0.0.1:10000:10000", "127.0.0.1:9090:9090", "127.0.0.1:10001:10000"];
    let expected = [&expected[..], &["127.0.0.1:3000:3000"]].concat();
    assert_eq!(
        published.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        expected.into_iter().collect::<std::collections::BTreeSet<_>>()
    );
}

/// Grafana itself does not run here.
#[test]
fn grafana_has_the_dashboard_and_its_source_from_the_start() {
    let compose = compose();
    let read = |name: &str| -> Value {
        yaml_serde::from_str(&fs::read_to_string(wasm::root().join("envoy/grafana").join(name)).unwrap())
            .unwrap()
    };
    let (sources, dashboards) = (read("datasources/prometheus.yaml"), read("dashboards/llm-rate-limit.yaml"));
    assert_eq!((&sources["apiVersion"], &dashboards["apiVersion"]), (&1.into(), &1.into()));
    let source = &sources["datasources"][0];
    assert_eq!((&source["type"], &source["isDefault"]), (&"prometheus".into(), &true.into()));
    assert_eq!(source["url"], "http://prometheus:9090");
    assert!(compose["services"]["prometheus"].is_object());
    let grafana = &compose["services"]["grafana"];
    let folder = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = words(&grafana["volumes"]);
    assert!(mounts.contains(&format!("../deploy/observability:{folder}:ro")), "{mounts:?}");
    assert!(mounts.contains(&"./grafana:/etc/grafana/provisioning:ro".to_owned()), "{mounts:?}");
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let home = home.strip_prefix(folder).unwrap();
    let text = fs::read_to_string(wasm::root().join(format!("deploy/observability{home}"))).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    // Its variable takes the source that is the default.
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    assert_eq!(dashboard["templating"]["list"][0]["query"], source["type"]);
}

#[test]
fn no_secret_is_in_the_files() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let environment = service["environment"].as_object().into_iter().flatten();
        for (variable, value) in environment {
            let is_secret = variable.contains("TOKEN") || variable.contains("PASSWORD");
            assert!(!is_secret || value.as_str().unwrap().starts_with("/run/secrets/"), "{name}: {variable}");
        }
    }
    let limits = fs::read_to_string(wasm::root().join("envoy/limits/limits.yaml")).unwrap();
    assert!(limits.contains("auth_token: ${AUTH_TOKEN}\n"));
    for list in [".gitignore", ".dockerignore"] {
        let list = fs::read_to_string(wasm::root().join(list)).unwrap();
        assert!(list.lines().any(|line| line.trim_start_matches('/') == "envoy/secrets"));
    }
}

#[test]
fn what_compose_builds_and_mounts_is_there() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let build = &service["build"];
        if let Some(target) = build["target"].as_str() {
            let labels = stage(target).join(" ");
            assert!(labels.contains("org.opencontainers.image.licenses=\"Apache-2.0\""), "{target}");
            assert!(labels.contains("COPY LICENSE "), "{target}");
            let context = wasm::root().join("envoy").join(build["context"].as_str().unwrap());
            assert!(context.join(build["dockerfile"].as_str().unwrap()).exists());
        }
        for volume in words(&service["volumes"]) {
            let (from, to) = volume.split_once(':').unwrap();
            if from.starts_with('.') {
                assert!(wasm::root().join("envoy").join(from).is_dir(), "{name}: {volume}");
                assert!(to.ends_with(":ro"), "{name}: {volume}");
            } else {
                assert!(compose["volumes"].get(from).is_some(), "{name}: {volume}");
            }
        }
    }
    let prometheus = fs::read_to_string(wasm::root().join("envoy/prometheus/prometheus.yml")).unwrap();
    assert!(prometheus.contains("rule_files: [/etc/prometheus/rules/alerts.yaml]"));
    let mounts = words(&compose["services"]["prometheus"]["volumes"]);
    assert!(mounts.contains(&"../deploy/observability:/etc/prometheus/rules:ro".to_owned()));
    assert!(wasm::root().join("deploy/observability/alerts.yaml").is_file());
    let root = fs::read_to_string(wasm::root().join("compose.yaml")).unwrap();
    assert!(root.contains("include: [envoy/compose.yaml]"));
}

/// The first step of the image's build, in a folder that has only what the Dockerfile has copied by then. A Python of
/// ours stands for the downloads; its `-m venv` makes an environment of the same, as the real one would.
#[test]
fn the_image_fetches_its_tools_into_an_empty_folder() {
    const PYTHON: &str = r#"#!/bin/sh
case "$1 $2" in
"-m venv")
    for place; do :; done
    mkdir -p "$place/bin"
    cp "$0" "$place/bin/python"
    cp "$0" "$place/bin/pip"
    ;;
"-m pip") echo "$*" >>pip.log ;;
esac
"#;
    let build = stage("build");
    let until = build.iter().position(|line| line.starts_with("RUN ")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for copied in build[..until].iter().filter_map(|line| line.strip_prefix("COPY ")) {
        let (from, to) = copied.split_once(' ').unwrap();
        let to = root.join(to);
        fs::create_dir_all(&to).unwrap();
        fs::copy(wasm::root().join(from), to.join(Path::new(from).file_name().unwrap())).unwrap();
    }
    let bin = root.join("bin");
    fs::create_dir(&bin).unwrap();
    let program = |name: &str, text: &str| {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("python3", PYTHON);
    // It has the library of every target.
    fs::write(root.join("libstd-0.rlib"), "").unwrap();
    program("rustc", &format!("#!/bin/sh\necho {}\n", root.display()));
    let step = build[until].strip_prefix("RUN ").unwrap().replace("mkdir /out", "mkdir out");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &step])
        .current_dir(root)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let fetched = fs::read_to_string(root.join("pip.log")).unwrap();
    assert!(fetched.contains("cargo-zigbuild"), "{fetched}");
    assert_eq!(fs::read_to_string(root.join(".tools/release")).unwrap(), "rustup\n");
    assert!(root.join("out").is_dir());
}

#[test]
fn the_services_limit_in_redis_and_follow_the_file_of_limits() {
    let stack = Stack::new();
    let _redis = stack.redis("redis");
    let _sidecar = stack.up("sidecar", &[]);
    let envoy = stack.up("envoy", &["--disable-hot-restart", "--concurrency", "1"]);
    let statuses: Vec<u16> = (0..4).map(|_| stack.ask("envoy")).collect();
    assert_eq!(statuses, [200, 200, 200, 429], "{}", envoy.log());
    assert_eq!(stack.upstream.report().requests, 3);

    let password = Stack::secret("redis_password");
    let mut connection = stack.connection("redis", &format!(":{password}@")).unwrap();
    let mut reply = |line: &str| -> Vec<String> {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>()).query(&mut connection).unwrap()
    };
    assert!(!reply("KEYS llmrl:*").is_empty(), "the counters are in Redis");
    for (setting, value) in
        [("maxmemory", "268435456"), ("maxmemory-policy", "noeviction"), ("appendonly", "yes")]
    {
        assert_eq!(reply(&format!("CONFIG GET {setting}")), [setting, value]);
    }
    let keys = redis::cmd("KEYS").arg("*").query::<Vec<String>>(&mut stack.connection("redis", "").unwrap());
    assert!(keys.is_err(), "Redis answers who has no password");

    // The configuration with the token is the container's alone.
    let run = stack.root("envoy").join("run/llm-rate-limit");
    let written = run.join("filter.yaml");
    assert!(fs::read_to_string(&written).unwrap().contains(&Stack::secret("auth_token")));
    assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o077, 0);

    let limits = stack.root("envoy").join("etc/llm-rate-limit/limits/limits.yaml");
    let text = fs::read_to_string(&limits).unwrap();
    fs::write(&limits, text.replace("demo: {rpm: 3}", "demo: {rpm: 5}")).unwrap();
    let deadline = Instant::now() + STARTS_WITHIN;
    while stack.ask("envoy") != 200 {
        assert!(Instant::now() < deadline, "the new limit is not in force:\n{}", envoy.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!([stack.ask("envoy"), stack.ask("envoy")], [200, 429], "the usage before the change counts");

    let mut envoy = envoy;
    fs::write(&limits, text.replace("rpm: 3", "rpn: 3")).unwrap();
    envoy.wait_until("refused", STARTS_WITHIN, |envoy| envoy.log().contains("the limits stay as they were"));
    assert!(envoy.log().contains("plans.demo.rpn: unknown field"), "{}", envoy.log());
    assert!(!envoy.log().contains(&Stack::secret("auth_token")));
    assert_eq!(stack.ask("envoy"), 429);
}

#[test]
fn the_services_of_a_cluster_count_on_three_servers() {
    let stack = Stack::new();
    let nodes = ["cluster-redis-1", "cluster-redis-2", "cluster-redis-3"];
    let _nodes = nodes.map(|node| stack.redis(node));
    stack.create("cluster-setup");
    let setup = |expected: &str| {
        let output =
            stack.command("cluster-setup", &stack.start_line("cluster-setup", &[])).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && text.contains(expected),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    setup("All 16384 slots covered");
    let _sidecar = stack.up("cluster-sidecar", &[]);
    // The engine runs it again at each start.
    setup("is in a cluster already");
}

/// Ports stand for addresses, which the engine gives anew.
#[test]
fn a_cluster_whose_servers_have_other_addresses_after_a_restart_counts_on() {
    let stack = Stack::new();
    let nodes = ["cluster-redis-1", "cluster-redis-2", "cluster-redis-3"];
    stack.create("cluster-setup");
    let setup = || stack.command("cluster-setup", &stack.start_line("cluster-setup", &[])).output().unwrap();
    let first = nodes.map(|node| stack.redis(node));
    assert!(setup().status.success());
    drop(first);
    stack.ports.borrow_mut().retain(|name, _| !name.starts_with("cluster-redis"));
    let _again = nodes.map(|node| stack.redis(node));
    let output = setup();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("is in a cluster already"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let _sidecar = stack.up("cluster-sidecar", &[]);
    let password = Stack::secret("redis_password");
    for node in nodes {
        let mut connection = stack.connection(node, &format!(":{password}@")).unwrap();
        let slots: String = redis::cmd("CLUSTER").arg("NODES").query(&mut connection).unwrap();
        for other in nodes {
            let place = format!("127.0.0.1:{}@", stack.port(other, 6379));
            assert!(slots.contains(&place), "{node} does not know {place}:\n{slots}");
        }
    }
}

#[test]
fn a_server_of_the_cluster_without_an_address_is_named() {
    let stack = Stack::new();
    stack.create("cluster-setup");
    let mut line = stack.start_line("cluster-setup", &[]);
    line.truncate(line.len() - 3);
    line.extend(["127.0.0.1:1", "nobody.invalid:6379"].map(str::to_owned));
    let output = stack.command("cluster-setup", &line).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("nobody.invalid has no address"), "{text}");
}

#[test]
fn a_real_provider_is_asked_over_tls() {
    let stack = Stack::new();
    let mut process = stack.start("provider", &["--mode", "validate", "--disable-hot-restart"]);
    let status = process.wait(STARTS_WITHIN).unwrap();
    assert!(status.success(), "{}", process.log());
    let run = stack.root("provider").join("run/llm-rate-limit/envoy.yaml");
    let config = fs::read_to_string(run).unwrap();
    assert!(config.contains("{address: api.openai.com, port_value: 443}"));
    assert!(config.contains("\n    transport_socket:\n"));
}

#[test]
fn envoy_does_not_start_with_a_mistake() {
    for (file, text, expected) in [
        ("run/secrets/auth_token", "\n", "AUTH_TOKEN_FILE: expected letters, digits and ._~+/=- only"),
        ("run/secrets/auth_token", "a \"b\"", "AUTH_TOKEN_FILE: expected letters, digits and ._~+/=- only"),
        ("etc/llm-rate-limit/limits/limits.yaml", "plans: {a: {rpm: x}}", "plans.a.rpm: expected"),
    ] {
        let stack = Stack::new();
        stack.create("envoy");
        fs::write(stack.root("envoy").join(file), text).unwrap();
        let mut process = Process::start("envoy", stack.command("envoy", &stack.start_line("envoy", &[])));
        let status = process.wait(STARTS_WITHIN).unwrap();
        assert!(!status.success() && process.log().contains(expected), "{}", process.log());
    }
}

#[test]
fn secrets_are_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("secrets.sh");
    fs::copy(wasm::root().join("envoy/secrets.sh"), &script).unwrap();
    let run = || {
        assert!(Command::new("sh").arg(&script).status().unwrap().success());
        ["auth_token", "redis_password", "grafana_password"]
            .map(|name| fs::read_to_string(folder.path().join("secrets").join(name)).unwrap())
    };
    let made = run();
    assert!(made.iter().all(|secret| secret.len() == 48 && secret.bytes().all(|b| b.is_ascii_hexdigit())));
    assert_ne!(made[0], made[1]);
    assert_eq!(run(), made);
}
