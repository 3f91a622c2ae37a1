//! A release: what `scripts/release/package` makes of a filter and a binary that are there, and what a registry gives
//! back of it. `make reproduce` shows that compiling it twice makes the same files, which takes too long for a test.

use flate2::read::GzDecoder;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::{Process, free_port};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::binary;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

/// The target that the binary of the tests is packed as.
const TARGET: &str = "x86_64-unknown-linux-musl";

const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// The release that most tests look at.
static RELEASE: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path()).unwrap();
    folder
});

fn release() -> &'static Path {
    RELEASE.path()
}

/// A script of `scripts/release`, by the Python that has what it needs.
fn script(name: &str) -> Command {
    let mut command = Command::new(wasm::root().join(".tools/venv/bin/python"));
    command.arg(wasm::root().join("scripts/release").join(name));
    command
}

/// Packs the filter and the binary of these tests.
fn pack(folder: &Path) -> Result<(), String> {
    let mut command = script("package");
    command.arg("--out").arg(folder).arg("--wasm").arg(wasm::filter());
    command.arg("--binary").arg(format!("{TARGET}={}", binary().display()));
    let output = command.env("SOURCE_DATE_EPOCH", "1795747643").output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
}

/// The version in the workspace's manifest, which the files' names have.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The bytes of `path` in a tar, which may be compressed.
fn file_in(tar: &[u8], path: &str) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), tar).unwrap();
    let output = Command::new("tar").arg("-xOf").arg(file.path()).arg(path).output().unwrap();
    assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_file_has_its_checksum() {
    let sums = fs::read_to_string(release().join("SHA256SUMS")).unwrap();
    let listed: Vec<&str> = sums.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    let mut files: Vec<String> = fs::read_dir(release())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "SHA256SUMS")
        .collect();
    files.sort();
    assert_eq!(listed, files);
    let mut check = Command::new("sha256sum");
    assert!(check.args(["--quiet", "-c", "SHA256SUMS"]).current_dir(release()).status().unwrap().success());
}

#[test]
fn the_same_sources_make_the_same_files() {
    let again = tempfile::tempdir().unwrap();
    // An earlier release in the folder gives way.
    for file in ["SHA256SUMS", "old.wasm"] {
        fs::write(again.path().join(file), "old").unwrap();
    }
    pack(again.path()).unwrap();
    assert!(!again.path().join("old.wasm").exists());
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(again.path()), sums(release()));
}

#[test]
fn packing_removes_nothing_but_an_earlier_release() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter"), "dear").unwrap();
    let why = pack(folder.path()).unwrap_err();
    assert!(why.contains("is neither empty nor an earlier release"), "{why}");
    assert_eq!(fs::read_to_string(folder.path().join("letter")).unwrap(), "dear");
}

#[test]
fn a_bill_of_materials_names_every_crate_with_its_licence() {
    for (file, crate_of_it, foreign) in [
        ("llm_rate_limit.wasm", "proxy-wasm", "redis"),
        (&format!("llm-rate-limit-{TARGET}"), "redis", "proxy-wasm"),
    ] {
        let bill = fs::read(release().join(format!("{file}.cdx.json"))).unwrap();
        let bill: Value = serde_json::from_slice(&bill).unwrap();
        assert_eq!(
            (&bill["bomFormat"], &bill["metadata"]["component"]["version"]),
            (&json!("CycloneDX"), &json!(VERSION))
        );
        let components = bill["components"].as_array().unwrap();
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        let known = named(crate_of_it).unwrap();
        assert_eq!(known["hashes"][0]["alg"], "SHA-256", "{known}");
        assert!(named(foreign).is_none(), "{file} has no {foreign}");
        let unlicensed: Vec<_> =
            components.iter().filter(|component| component.get("licenses").is_none()).collect();
        assert!(unlicensed.is_empty(), "{unlicensed:?}");
    }
}

/// The filter in the place and the form of a layout that was pushed to a registry, by the rules by which Istio's agent
/// takes it: an OCI manifest, whose last layer is a compressed tar with a file `plugin.wasm`.
fn module_of_image(manifest: &[u8], blob: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["annotations"]["module.wasm.image/variant"], "compat");
    let layer = manifest["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut tar = Vec::new();
    GzDecoder::new(&*blob(layer["digest"].as_str().unwrap())).read_to_end(&mut tar).unwrap();
    file_in(&tar, "plugin.wasm")
}

/// A registry of Debian's package, which keeps its blobs in a folder of its own.
struct Registry {
    process: Process,
    port: u16,
    // Dropped last: the process writes into the directory until it ends.
    _folder: TempDir,
}

impl Registry {
    fn start() -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let settings = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": folder.path().join("blobs")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        fs::write(&config, settings.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", command);
        process.wait_until("ready", STARTS_WITHIN, |_| {
            ureq::get(format!("http://127.0.0.1:{port}/v2/")).call().is_ok()
        });
        Self { process, port, _folder: folder }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it answers for a path below `/v2/`.
    fn get(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/{path}", self.address());
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let answer = ureq::get(&url).header("accept", accept).call();
        let mut answer = answer.unwrap_or_else(|why| panic!("{path}: {why}\n{}", self.process.log()));
        answer.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap()
    }
}

/// Publishes the release, and returns the digest of each image by its name.
fn published(registry: &Registry) -> BTreeMap<String, String> {
    let mut command = script("publish");
    command.arg(format!("http://{}/owner", registry.address())).arg("--from").arg(release());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let base = format!("{}/owner/", registry.address());
    let split = |line: &str| {
        let (name, digest) = line.strip_prefix(&base).unwrap().split_once('@').unwrap();
        (name.to_owned(), digest.to_owned())
    };
    String::from_utf8(output.stdout).unwrap().lines().map(split).collect()
}

#[test]
fn a_registry_gives_back_what_was_published_by_its_digest() {
    let registry = Registry::start();
    let images = published(&registry);
    let digest = &images["llm-rate-limit-filter"];
    let by_digest = registry.get(&format!("owner/llm-rate-limit-filter/manifests/{digest}"));
    let by_tag = registry.get(&format!("owner/llm-rate-limit-filter/manifests/{VERSION}"));
    assert_eq!(by_tag, by_digest);
    let module = module_of_image(&by_digest, |digest| {
        registry.get(&format!("owner/llm-rate-limit-filter/blobs/{digest}"))
    });
    assert!(module == fs::read(wasm::filter()).unwrap(), "the image has another filter");
    // Nothing is pushed twice, and the digests are the same.
    assert_eq!(published(&registry), images);
}

#[test]
fn the_image_of_the_command_starts_it_as_nobody() {
    let registry = Registry::start();
    let images = published(&registry);
    let get = |kind: &str, digest: &Value| {
        registry.get(&format!("owner/llm-rate-limit/{kind}/{}", digest.as_str().unwrap()))
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = json(&get("manifests", &json!(images["llm-rate-limit"])));
    let image = &index["manifests"][0];
    assert_eq!(image["platform"], json!({"architecture": "amd64", "os": "linux"}));
    let manifest = json(&get("manifests", &image["digest"]));
    let config = json(&get("blobs", &manifest["config"]["digest"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.licenses"], "Apache-2.0");
    let layer = get("blobs", &manifest["layers"][0]["digest"]);
    let entrypoint = config["config"]["Entrypoint"][0].as_str().unwrap();
    assert!(file_in(&layer, entrypoint.trim_start_matches('/')) == fs::read(binary()).unwrap());
    assert!(file_in(&layer, "etc/ssl/certs/ca-certificates.crt").starts_with(b"\n# Issuer"));
}

/// The commands of `docs/install.md` that are for the files of a release, in their order, and whether the text before
/// them says that they are for the first terminal, the one that has what was exported.
fn commands_of_the_page() -> Vec<(String, bool)> {
    let page = fs::read_to_string(wasm::root().join("docs/install.md")).unwrap();
    let (_, section) = page.split_once("\n## Release files and plain Envoy\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (mut commands, mut prose, mut is_first) = (Vec::new(), String::new(), true);
    for line in section.lines() {
        let Some(command) = line.strip_prefix("    ") else {
            prose += line;
            prose.push(' ');
            continue;
        };
        if prose.contains("other terminal") {
            is_first = false;
        } else if prose.contains("in its terminal") {
            is_first = true;
        }
        prose.clear();
        commands.push((command.to_owned(), is_first));
    }
    commands
}

/// A folder with nothing but the files of the release, and what its commands are run with.
struct Machine {
    folder: TempDir,
    /// Settings that the commands before have exported.
    exports: String,
    environment: Vec<(&'static str, String)>,
    envoy: Option<Process>,
    sidecar: Option<Process>,
}

impl Machine {
    fn new(settings: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(release()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        // Envoy as others have it, but for the sockets of its restarts, which all Envoys of a machine would share.
        let envoy = folder.path().join("bin/envoy");
        fs::create_dir(envoy.parent().unwrap()).unwrap();
        let real = llm_rate_limit_tests::envoy::binary();
        fs::write(&envoy, format!("#!/bin/sh\nexec {} --disable-hot-restart \"$@\"\n", real.display()))
            .unwrap();
        fs::set_permissions(&envoy, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", envoy.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut environment = settings;
        environment.push(("PATH", path));
        Self { folder, exports: String::new(), environment, envoy: None, sidecar: None }
    }

    /// A shell that runs `line`, in the first terminal after what was exported, with other addresses than those of the
    /// page.
    fn shell(&self, line: &str, is_first: bool, addresses: &[(&str, String)]) -> Command {
        let mut line = if is_first { format!("{}{line}", self.exports) } else { line.to_owned() };
        for (from, to) in addresses {
            line = line.replace(from, to);
        }
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &line]).current_dir(self.folder.path());
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[test]
fn the_pages_commands_are_all_it_takes() {
    let (redis, upstream) = (Redis::start(), MockLlm::start());
    let [listen, admin, port] = [(); 3].map(|()| format!("127.0.0.1:{}", free_port()));
    let addresses = [
        ("127.0.0.1:8000", upstream.address().to_string()),
        ("127.0.0.1:10000", listen.clone()),
        ("127.0.0.1:9901", admin.clone()),
        ("127.0.0.1:8081", port.clone()),
        ("redis://127.0.0.1:6379", redis.url()),
    ];
    let mut machine = Machine::new(vec![("ADMIN", admin.clone()), ("SIDECAR", port.clone())]);
    let is_ready = |address: &str| ureq::get(format!("http://{address}")).call().is_ok();
    let mut answers = Vec::new();
    let commands = commands_of_the_page();
    assert!(commands.len() > 12, "{commands:#?}");
    for (line, is_first) in commands {
        // configure.sh and the sidecar read the same name.
        let is_sidecar = line.contains("llm-rate-limit sidecar");
        let in_background = line.strip_suffix(" &");
        assert!(
            !is_sidecar || in_background.is_some(),
            "{line}: it would hold up what follows in its terminal"
        );
        let mut command = machine.shell(in_background.unwrap_or(&line), is_first, &addresses);
        command.env("LISTEN", if is_sidecar { &port } else { &listen });
        if line.starts_with("export ") {
            writeln!(machine.exports, "{line}").unwrap();
        } else if line.starts_with("envoy ") {
            machine.envoy = None;
            let mut envoy = Process::start("envoy", command);
            envoy.wait_until("ready", STARTS_WITHIN * 4, |_| is_ready(&format!("{admin}/ready")));
            machine.envoy = Some(envoy);
        } else if is_sidecar {
            let mut sidecar = Process::start("sidecar", command);
            sidecar.wait_until("ready", STARTS_WITHIN, |_| is_ready(&format!("{port}/readyz")));
            machine.sidecar = Some(sidecar);
        } else {
            let output = command.output().unwrap();
            // `doctor` finds that this Redis keeps nothing.
            let is_well =
                output.status.success() || line.contains(" doctor ") && output.status.code() == Some(1);
            assert!(is_well, "{line}: {output:#?}");
            if line.starts_with("for ") {
                answers.push(String::from_utf8(output.stdout).unwrap());
            }
        }
    }
    assert_eq!(answers, ["200\n200\n200\n429\n"]);
    let statuses = burst(&format!("http://{listen}/v1/chat/completions"), 50);
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    // Each reserves 1,000 of 10,000 tokens a minute. The shipped plan allows 20 requests, so it is not what refuses.
    assert_eq!((admitted, refused), (10, 40), "{}", machine.envoy.unwrap().log());
    assert!(!redis.ask::<Vec<String>>(&["KEYS", "llmrl:*"]).is_empty(), "the counters are in Redis");
}

/// The statuses of so many requests at once, by somebody who is not in the configuration. Each reserves 1,000 tokens of
/// output and uses them, so that nothing is given back.
fn burst(url: &str, requests: usize) -> Vec<u16> {
    let body =
        json!({"model": "gpt-4o", "max_tokens": 1000, "messages": [{"role": "user", "content": "Hi"}]})
            .to_string();
    std::thread::scope(|scope| {
        let sent: Vec<_> = (0..requests)
            .map(|_| {
                scope.spawn(|| {
                    let agent: ureq::Agent =
                        ureq::Agent::config_builder().http_status_as_error(false).build().into();
                    let request = agent.post(url).header("x-mock-completion-tokens", "1000");
                    request.send(&body).unwrap().status().as_u16()
                })
            })
            .collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect()
    })
}
