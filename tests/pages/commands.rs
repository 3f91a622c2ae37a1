//! Every command that a page shows is run: here, or by a test that is named here. A command that cannot run where there
//! is no cluster, no container engine or no signature is named with the reason, and with what checks the nearest to it.

use crate::page::{Page, commands};
use crate::scene::{Scene, Servers};
use llm_rate_limit_tests::wasm::root;
use std::fs;
use std::process::Command;
use std::rc::Rc;

/// What becomes of a command.
#[derive(Debug, PartialEq, Eq)]
enum Run {
    /// It runs in [`Scene`].
    Here,
    /// `make -n` shows that the target is there with all that it needs; the suite is made of the rest.
    DryMake,
    /// This test runs it: a file, and what stands in it.
    By(&'static str, &'static str),
    /// Why it cannot run, and what checks the nearest to it.
    Not(&'static str, &'static str, &'static str),
}

const NO_CLUSTER: &str = "no cluster is here";
const NO_ENGINE: &str = "no container engine is here";
const RELEASE: Run = Run::By("tests/release.rs", "fn the_pages_commands_are_all_it_takes");

/// What becomes of this command of this page, if anybody knows.
fn run_of(page: &str, command: &str) -> Option<Run> {
    let is_of_a_release = page == "docs/install.md"
        && ["sha256sum ", "tar ", "export ", "for ", "envoy ", "REDIS_URL=", "llm-rate-limit-0.1.0-"]
            .iter()
            .any(|one| command.starts_with(one))
        || command.contains("llm-rate-limit-0.1.0-deploy");
    Some(match command {
        _ if is_of_a_release => RELEASE,
        "make demo" => Run::By("tests/demo.rs", "fn demo("),
        "sha256sum -c SHA256SUMS" => Run::By("tests/release.rs", "fn every_file_has_its_checksum"),
        "make publish REGISTRY=ghcr.io/owner" | "make publish REGISTRY=registry.example" => {
            Run::By("tests/release.rs", "fn a_registry_gives_back_what_was_published_by_its_digest")
        }
        ".tools/envoy -c envoy/examples/retries.yaml" => {
            Run::By("tests/examples/retries.rs", "fn a_retried_request_is_charged_once")
        }
        // The sidecar and the gateways are in a cluster.
        _ if command.starts_with("kubectl ") || command.starts_with("helm ") => {
            Run::Not(NO_CLUSTER, "tests/kubernetes/pages.py", page.rsplit('/').next().map(page_of)?)
        }
        _ if command.starts_with("curl ") && matches!(page, "docs/istio.md" | "docs/envoy-gateway.md") => {
            Run::Not(NO_CLUSTER, "tests/deployment.rs", "fn answered_before_429")
        }
        _ if command.starts_with("docker ") => Run::Not(NO_ENGINE, "tests/compose/file.rs", "fn compose()"),
        _ if command.starts_with("skopeo ") => Run::Not(
            "no registry has this name here",
            "tests/release.rs",
            "fn a_registry_gives_back_what_was_published_by_its_digest",
        ),
        _ if command.starts_with("cosign ") => Run::Not(
            "nothing is signed here",
            ".github/workflows/release.yml",
            "--bundle dist/SHA256SUMS.sigstore.json",
        ),
        _ if command.starts_with("make ") => Run::DryMake,
        _ if command.contains("llm-rate-limit ")
            || command.contains("envoy/configure.sh")
            || command.contains("envoy/secrets.sh")
            || command.starts_with(".tools/envoy ")
            || command.starts_with("grep ") =>
        {
            Run::Here
        }
        _ => return None,
    })
}

/// How `tests/kubernetes/pages.py` names a page that it looks at.
fn page_of(file: &str) -> &'static str {
    match file {
        "kubernetes.md" => "\"kubernetes.md\"",
        "istio.md" => "\"istio.md\"",
        "envoy-gateway.md" => "\"envoy-gateway.md\"",
        "install.md" => "\"install.md\"",
        _ => "CHART / \"README.md\"",
    }
}

/// What pages show beside commands: the beginning of each block, and the test that makes it so, or the page that
/// explains it.
const SHOWN: [(&str, &str); 9] = [
    ("HTTP/1.1 429 Too Many Requests", "tests/demo.rs"),
    ("demo: log {", "tests/demo.rs"),
    ("plans.pro.rpm: expected", "tests/commands/check.rs"),
    ("llm_rate_limit_requests{", "tests/e2e/metrics.rs"),
    ("bytes ≤ max_identities", "docs/operations.md"),
    ("identities that are new in a second", "docs/operations.md"),
    ("Envoy = ", "docs/sizing.md"),
    ("Redis = ", "docs/sizing.md"),
    ("client ── Envoy", "docs/design.md"),
];

fn all_commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in Page::all() {
        for block in page.shown() {
            match commands(&block) {
                Some(commands) => {
                    found.extend(commands.into_iter().map(|command| (page.name.clone(), command)))
                }
                None => assert!(
                    SHOWN.iter().any(|(begin, _)| block[0].starts_with(begin)),
                    "{}: neither commands nor known: {block:#?}",
                    page.name
                ),
            }
        }
    }
    assert!(found.len() > 50, "{found:#?}");
    found
}

#[test]
fn every_command_has_its_test() {
    for (begin, file) in SHOWN {
        assert!(root().join(file).exists(), "{begin}: {file}");
    }
    for (page, command) in all_commands() {
        let run = run_of(&page, &command).unwrap_or_else(|| panic!("{page}: nothing runs `{command}`"));
        if let Run::By(file, text) | Run::Not(_, file, text) = run {
            let source = fs::read_to_string(root().join(file)).unwrap();
            assert!(source.contains(text), "{page}: `{command}`: {file} has no {text}");
        }
    }
}

#[test]
fn commands_of_the_command_line_do_what_pages_say() {
    let servers = Rc::<Servers>::default();
    let mut scene: Option<(String, Scene)> = None;
    for (page, command) in all_commands() {
        if run_of(&page, &command) != Some(Run::Here) {
            continue;
        }
        if scene.as_ref().is_none_or(|(of, _)| *of != page) {
            scene = Some((page.clone(), Scene::of(&Page::named(&page), Rc::clone(&servers))));
        }
        scene.as_ref().unwrap().1.run(&command);
    }
}

#[test]
fn every_make_target_is_there() {
    let mut seen = 0;
    for (page, command) in all_commands() {
        if run_of(&page, &command) == Some(Run::DryMake) {
            let mut dry = Command::new("make");
            dry.arg("-n").args(command.split(' ').skip(1)).current_dir(root());
            dry.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
            let output = dry.output().unwrap();
            assert!(
                output.status.success(),
                "{page}: {command}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen}");
}
