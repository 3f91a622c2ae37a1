//! `make demo` keeps README's promise: it prints a command, the command shows a 200 and then a 429, the demo shows the
//! lines of Envoy's log and the address of a page, and it leaves nothing behind when it stops.

use llm_rate_limit_tests::process::Process;
use llm_rate_limit_tests::wasm;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The time limit for a start that first builds the mock LLM and the sidecar.
const START_TIMEOUT: Duration = Duration::from_secs(600);

fn demo(store: &str) -> Process {
    let mut command = Command::new("make");
    command.args(["demo", &format!("STORE={store}")]).current_dir(wasm::root());
    // The demo is a make of its own, even if make runs this test.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("MFLAGS");
    // A time limit, in case nothing stops it.
    command.env("DEMO_SECONDS", "300");
    let mut demo = Process::start("demo", command);
    demo.wait_until("ready", START_TIMEOUT, |demo| demo.log().contains("demo: stopping in"));
    demo
}

/// The command that the demo prints for a user to copy.
fn printed(demo: &Process) -> String {
    let log = demo.log();
    let mut commands = log.lines().filter_map(|line| line.strip_prefix("  for ").map(|_| line.trim()));
    let command = commands.next().expect("the demo prints a command").to_owned();
    assert_eq!(commands.next(), None);
    command
}

/// The answers to the printed command, each with its status line, headers and body.
fn answers(command: &str) -> Vec<String> {
    let output = Command::new("bash").args(["-c", command]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("HTTP/1.1 ").skip(1).map(str::to_lowercase).collect()
}

/// The processes with `text` in their command line.
fn processes_with(text: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| {
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(text)
    })
    .collect()
}

/// The page at the address that the demo prints.
fn page(demo: &Process) -> String {
    let log = demo.log();
    let mut addresses = log.lines().filter_map(|line| Some(line.split_once(": http://")?.1));
    let address = addresses.next().expect("the demo prints an address");
    assert_eq!(addresses.next(), None);
    ureq::get(format!("http://{address}")).call().unwrap().body_mut().read_to_string().unwrap()
}

/// How soon Envoy's log has a request, whose answer the client has.
const LOG_TIMEOUT: Duration = Duration::from_secs(30);

fn shows_200_and_then_429(store: &str, on_the_page: &str) {
    let mut demo = demo(store);
    let log = demo.log();
    let scratch = log.split("logs to ").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert!(!processes_with(&scratch).is_empty(), "Envoy reads its configuration from {scratch}");

    let answers = answers(&printed(&demo));
    let statuses: Vec<&str> = answers.iter().map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "200", "429"], "{answers:#?}");
    for answer in &answers {
        assert!(answer.contains("\nx-ratelimit-limit-requests: 3\r\n"), "{answer}");
        assert!(answer.contains("\nx-ratelimit-remaining-requests: "), "{answer}");
        assert!(answer.contains("\nx-ratelimit-reset-requests: "), "{answer}");
    }
    assert!(answers[3].contains("\nretry-after: "), "{}", answers[3]);
    assert!(answers[3].contains(r#""code":"rate_limit_exceeded""#), "{}", answers[3]);

    let refused = |line: &str| {
        let line = line.strip_prefix("demo: log ").map(|line| serde_json::from_str::<Value>(line).unwrap());
        line.is_some_and(|line| line["decision"] == "over_limit" && line["name"] == "demo")
    };
    demo.wait_until("logging", LOG_TIMEOUT, |demo| demo.log().lines().any(refused));
    // A worker hands its metrics to Envoy now and then.
    demo.wait_until("showing the page", LOG_TIMEOUT, |demo| page(demo).contains(on_the_page));

    // The same signal as Ctrl-C, to the same processes.
    demo.signal(Signal::SIGINT);
    assert!(demo.wait(Duration::from_secs(30)).is_some(), "the demo still runs:\n{}", demo.log());
    assert!(demo.log().contains("demo: stopping mock-llm"), "{}", demo.log());
    assert_eq!(processes_with(&scratch), Vec::<PathBuf>::new());
    assert!(!PathBuf::from(&scratch).exists(), "{scratch} is still there");
}

#[test]
fn with_the_local_store() {
    shows_200_and_then_429("local", "decision=.=over_limit;.;");
}

#[test]
fn with_redis() {
    shows_200_and_then_429("redis", "Redis answers");
}
