//! The services, run.

use crate::stack::{STARTS_WITHIN, Stack};
use llm_rate_limit_tests::process::Process;
use llm_rate_limit_tests::wasm;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

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
