//! A real Envoy with the real filter, from the very `envoy/envoy.yaml` that is shipped.
//!
//! [`Setup`] runs `envoy/configure.sh` for the test's ports and changes only the subject of the test: the filter's
//! configuration and its form. Envoy chooses free ports itself and reports them.

use crate::process::Process;
use crate::wasm;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long Envoy may take to become ready. It compiles the filter, for some seconds of processor time that a busy
/// machine may not give it for long. An Envoy that ends instead fails its test at once.
const STARTS_WITHIN: Duration = Duration::from_secs(240);

/// The name of the filter in `envoy.yaml`.
const FILTER: &str = "llm-rate-limit";

/// How `/proc/net/tcp` writes the states in which a server has not closed a connection: established, handshake not
/// complete, and closed by the client alone.
const OPEN_STATES: [&str; 3] = ["01", "03", "08"];

/// The name of the sidecar's cluster in `envoy.yaml`.
const SIDECAR: &str = "rate-limit-sidecar";

/// The configuration and flags that an Envoy starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    config: Value,
    concurrency: usize,
    reloadable: bool,
    environment: Vec<(String, String)>,
    /// How it stands to other Envoys of this machine.
    restart: Vec<String>,
}

impl Setup {
    /// The shipped configuration, store `local`, in front of `upstream`.
    pub fn new(upstream: SocketAddr) -> Self {
        Self::configured(&[("LLM_UPSTREAM", &format!("http://{upstream}"))])
    }

    /// The output of `configure.sh` for these settings, with the built filter and free ports by default.
    ///
    /// # Panics
    /// If it rejects them.
    pub fn configured(settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.arg(wasm::root().join("envoy/configure.sh"));
        command.envs([("LISTEN", "127.0.0.1:0"), ("ADMIN", "127.0.0.1:0")]).env("FILTER", wasm::filter());
        let output = command.envs(settings.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::from_yaml(&String::from_utf8(output.stdout).unwrap())
    }

    /// Any Envoy configuration with a filter named `llm-rate-limit`.
    ///
    /// # Panics
    /// If it is not YAML.
    pub fn from_yaml(text: &str) -> Self {
        Self {
            config: yaml_serde::from_str(text).unwrap(),
            concurrency: 2,
            reloadable: false,
            environment: Vec::new(),
            restart: vec!["--disable-hot-restart".to_owned()],
        }
    }

    /// Starts Envoy with more environment variables.
    #[must_use]
    pub fn environment(mut self, variables: Vec<(String, String)>) -> Self {
        self.environment = variables;
        self
    }

    /// Starts Envoy so that another one takes its place, or in the place of another: those of one `base` share their
    /// listeners, and the one of a later `epoch` takes them over.
    #[must_use]
    pub fn hot_restart(mut self, base: u32, epoch: u32) -> Self {
        self.restart = ["--base-id", &base.to_string(), "--restart-epoch", &epoch.to_string()]
            .map(str::to_owned)
            .to_vec();
        self
    }

    /// Sets the number of Envoy's workers; the default is 2.
    pub fn concurrency(mut self, workers: usize) -> Self {
        self.concurrency = workers;
        self
    }

    /// Sets the address of the sidecar.
    pub fn sidecar(self, address: SocketAddr) -> Self {
        self.sidecar_of(SIDECAR, address)
    }

    /// Sets the address of the sidecar in a cluster of another name.
    ///
    /// # Panics
    /// If there is no such cluster.
    pub fn sidecar_of(mut self, cluster: &str, address: SocketAddr) -> Self {
        let place = json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
        *self.endpoint(cluster) = place;
        self
    }

    /// Sets the unix socket of the sidecar.
    pub fn sidecar_socket(mut self, path: &Path) -> Self {
        *self.endpoint(SIDECAR) = json!({"pipe": {"path": path}});
        self.cluster(SIDECAR)["type"] = json!("STATIC");
        self
    }

    /// Sets the filter's configuration as a `StringValue`, as in `envoy.yaml`.
    pub fn filter(self, config: &Value) -> Self {
        self.filter_text(&config.to_string())
    }

    /// Sets the filter's configuration from text that need not be JSON.
    pub fn filter_text(mut self, text: &str) -> Self {
        self.plugin()["configuration"] = string_value(text);
        self
    }

    /// Sets the filter's configuration as a `google.protobuf.Struct`.
    pub fn filter_struct(mut self, config: &Value) -> Self {
        self.plugin()["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": config});
        self
    }

    /// Puts the filter into a file of its own that Envoy watches, so that [`Envoy::reload`] can change it.
    pub fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    /// Envoy's whole configuration, for changes that have no method here.
    pub fn config(&mut self) -> &mut Value {
        &mut self.config
    }

    /// The cluster of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn cluster(&mut self, name: &str) -> &mut Value {
        named(&mut self.config["static_resources"]["clusters"], name)
    }

    /// The filter's entry in the chain of HTTP filters.
    ///
    /// # Panics
    /// If the configuration has none.
    pub fn http_filter(&mut self) -> &mut Value {
        named(self.http_filters(), FILTER)
    }

    /// All HTTP filters, in order.
    pub fn http_filters(&mut self) -> &mut Value {
        &mut self.config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            ["http_filters"]
    }

    /// The `PluginConfig` of the filter.
    pub fn plugin(&mut self) -> &mut Value {
        &mut self.http_filter()["typed_config"]["config"]
    }

    /// The address of a cluster's one endpoint.
    fn endpoint(&mut self, cluster: &str) -> &mut Value {
        let assignment = &mut self.cluster(cluster)["load_assignment"];
        &mut assignment["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    }

    /// Lets Envoy validate the configuration, including the filter's.
    ///
    /// # Errors
    /// Envoy's messages if it rejects the configuration.
    pub fn validate(&self) -> Result<(), String> {
        let scratch = tempfile::tempdir().unwrap();
        let path = self.write(scratch.path());
        let mut command = Command::new(binary());
        command.args(["--mode", "validate", "--log-level", "warning", "-c"]).arg(path);
        let output = command.output().unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Starts Envoy and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready, with the end of its log.
    pub fn start(self) -> Envoy {
        let scratch = tempfile::Builder::new().prefix("llmrl-envoy-").tempdir().unwrap();
        let config = self.write(scratch.path());
        let admin_path = scratch.path().join("admin");
        let mut command = Command::new(binary());
        command.envs(self.environment.iter().cloned());
        command.args(&self.restart).args(["--log-level", "info", "--drain-time-s", "1"]);
        // Tests wait for lines of the access log, which Envoy buffers.
        command.args(["--file-flush-interval-msec", "50"]);
        command.arg("--concurrency").arg(self.concurrency.to_string());
        command.arg("--admin-address-path").arg(&admin_path).arg("-c").arg(config);
        let mut process = Process::start("envoy", command);
        let mut admin = String::new();
        process.wait_until("ready", STARTS_WITHIN, |_| {
            admin = fs::read_to_string(&admin_path).unwrap_or_default();
            !admin.is_empty() && get(&format!("http://{admin}/ready")).is_ok()
        });
        let mut envoy = Envoy { process, admin, address: ([127, 0, 0, 1], 0).into(), setup: self, scratch };
        envoy.address = envoy.listener();
        envoy
    }

    /// Writes Envoy's files into `directory`; returns the one to start it with.
    fn write(&self, directory: &Path) -> PathBuf {
        let mut setup = self.clone();
        if self.reloadable {
            let discovered = setup.http_filter().clone();
            replace_file(&directory.join("filter.json"), &discovery_response(discovered));
            *setup.http_filter() = json!({
                "name": FILTER,
                "config_discovery": {
                    "config_source": {
                        "path_config_source": {
                            "path": directory.join("filter.json"),
                            "watched_directory": {"path": directory},
                        },
                        "resource_api_version": "V3",
                    },
                    "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
                },
            });
        }
        let path = directory.join("envoy.json");
        replace_file(&path, &setup.config);
        path
    }
}

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: String,
    address: SocketAddr,
    setup: Setup,
    scratch: tempfile::TempDir,
}

impl Envoy {
    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of the admin interface.
    pub fn admin_address(&self) -> &str {
        &self.admin
    }

    /// The URL of `path` on the admin interface.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// The answer of the admin interface to `GET path`.
    pub fn admin(&self, path: &str) -> String {
        get(&format!("http://{}{path}", self.admin)).unwrap()
    }

    /// Sends `POST path` to the admin interface.
    ///
    /// # Panics
    /// If that fails.
    pub fn post(&self, path: &str) {
        agent().post(format!("http://{}{path}", self.admin)).send_empty().unwrap();
    }

    /// The value of a counter or gauge by its full name; `None` if Envoy has no such statistic.
    pub fn stat(&self, name: &str) -> Option<u64> {
        // The filter is a regular expression, in which a dot also matches a dot.
        let stats = self.admin(&format!("/stats?format=json&filter=%5E{name}%24"));
        let stats: Value = serde_json::from_str(&stats).unwrap();
        stats["stats"].as_array().unwrap().iter().find(|stat| stat["name"] == name)?["value"].as_u64()
    }

    /// The sum of the filter's time series of `family` (`llm_rate_limit_` comes before it) that have these labels, as
    /// Prometheus reads them.
    ///
    /// # Panics
    /// If a value is no number.
    pub fn metric(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let text = self.admin("/stats/prometheus?filter=llm_rate_limit");
        let name = format!("llm_rate_limit_{family}{{");
        let series = text.lines().filter_map(|line| line.strip_prefix(&name)?.rsplit_once("} "));
        let has = |found: &str, (label, value): &(&str, &str)| {
            format!(",{found}").contains(&format!(",{label}=\"{value}\""))
        };
        let of = series.filter(|(found, _)| labels.iter().all(|label| has(found, label)));
        of.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// How many TCP connections of clients Envoy has yet to accept, read or close. The kernel counts them, so a
    /// connection shows here before Envoy knows of it, and as long as Envoy has not read all that the client sent.
    ///
    /// # Panics
    /// If the kernel does not list them.
    pub fn connections(&self) -> usize {
        let local = format!(":{:04X}", self.address.port());
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
        let is_open = |socket: &&str| {
            let fields: Vec<&str> = socket.split_whitespace().collect();
            fields[1].ends_with(&local) && OPEN_STATES.contains(&fields[3])
        };
        sockets.lines().skip(1).filter(is_open).count()
    }

    /// The lines of the access log that are JSON.
    pub fn access_log(&self) -> Vec<Value> {
        let log = self.log();
        // The last line may not be complete yet.
        log.lines()
            .filter(|line| line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Everything that Envoy and the filter have logged, including the access log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The file with all of that.
    pub fn log_path(&self) -> PathBuf {
        self.process.log_path()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the log has `text`.
    ///
    /// # Panics
    /// If the text does not come within `limit`.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let what = format!("logging {text:?}");
        self.process.wait_until(&what, limit, |process| process.log().contains(text));
    }

    /// The peak of its memory, in MiB.
    ///
    /// # Panics
    /// If the kernel does not report it.
    pub fn peak_memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim_end_matches("kB").trim().parse::<u64>().unwrap() / 1024
    }

    /// The process, to send it signals or end it early.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Gives the filter another configuration, as a `StringValue`, and waits until Envoy's main thread has accepted or
    /// rejected it. The workers switch to it a little later, so wait for its effect.
    ///
    /// # Errors
    /// Envoy's log if it rejected the configuration; the old one stays in force.
    ///
    /// # Panics
    /// If the setup was not [`Setup::reloadable`], or Envoy notices nothing within a minute.
    pub fn reload(&mut self, text: &str) -> Result<(), String> {
        assert!(self.setup.reloadable, "only a reloadable setup reads its filter from a file");
        let mut filter = self.setup.http_filter().clone();
        filter["typed_config"]["config"]["configuration"] = string_value(text);
        let (accepted, rejected) = self.reloads();
        replace_file(&self.scratch.path().join("filter.json"), &discovery_response(filter));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match self.reloads() {
                (now, _) if now > accepted => return Ok(()),
                (_, now) if now > rejected => return Err(self.log()),
                _ => {
                    assert!(Instant::now() < deadline, "Envoy has not noticed the new file:\n{}", self.log())
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many filter configurations Envoy has accepted, and how many it has rejected.
    fn reloads(&self) -> (u64, u64) {
        let prefix = format!("extension_config_discovery.http_filter.{FILTER}");
        let stat = |name: &str| self.stat(&format!("{prefix}.{name}")).unwrap_or(0);
        (stat("update_success"), stat("update_rejected"))
    }

    fn listener(&self) -> SocketAddr {
        let listeners: Value = serde_json::from_str(&self.admin("/listeners?format=json")).unwrap();
        let place = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let (ip, port) = (place["address"].as_str().unwrap(), place["port_value"].as_u64().unwrap());
        SocketAddr::new(ip.parse().unwrap(), port.try_into().unwrap())
    }
}

/// Envoy: `ENVOY_BIN` if it is set, else where `make setup` leaves it.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("ENVOY_BIN").map_or_else(|| wasm::root().join(".tools/envoy"), PathBuf::from);
    assert!(path.exists(), "no Envoy at {}; run make setup", path.display());
    path
}

fn string_value(text: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": text})
}

fn named<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    let list = list.as_array_mut().unwrap();
    list.iter_mut().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("nothing is named {name}"))
}

/// The content of the file from which Envoy reads a discovered filter.
fn discovery_response(mut filter: Value) -> Value {
    filter["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    json!({"resources": [filter]})
}

/// Writes beside `path` and renames: Envoy must not read half a file, and notices only renames.
fn replace_file(path: &Path, content: &Value) {
    let draft = path.with_extension("draft");
    fs::write(&draft, content.to_string()).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// `GET url`; an error also if the status is one.
fn get(url: &str) -> Result<String, ureq::Error> {
    agent().get(url).call()?.body_mut().read_to_string()
}

/// The client for the admin interface.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).build().into()
}
