//! When and where something was measured, and with which versions.

use llm_rate_limit_tests::envoy;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

/// The load of a machine on which figures mean little.
const BUSY: f64 = 1.0;

/// The date, the machine and the versions, as a table in Markdown.
///
/// # Panics
/// If Envoy, Redis or the compiler is not there.
pub fn description() -> String {
    let processor = first_value("/proc/cpuinfo", "model name");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory: f64 = first_value("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let envoy = output(&envoy::binary().to_string_lossy(), &["--version"]);
    // …/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    let envoy = envoy.split('/').find(|part| part.split('.').count() == 3).unwrap_or("of unknown version");
    let redis = std::env::var("REDIS_BIN").unwrap_or_else(|_| "redis-server".to_owned());
    let redis = output(&redis, &["--version"]);
    let redis =
        redis.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version");
    let rust = output("rustc", &["--version"]);
    let rust = rust.split_whitespace().nth(1).unwrap_or_default();
    let date = jiff::Timestamp::now().strftime("%d %B %Y, %H:%M UTC");
    let commit = output("git", &["rev-parse", "--short", "HEAD"]);
    let is_busy =
        load.split(' ').next().and_then(|load| load.parse().ok()).is_none_or(|load: f64| load > BUSY);
    let mut text = String::from("| | |\n|---|---|\n");
    for (what, value) in [
        ("date", date.to_string()),
        ("commit", commit.trim().to_owned()),
        ("machine", format!("{processor}, {processors} processors, {:.0} GiB", memory / f64::from(1 << 20))),
        ("load before", load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")),
        ("versions", format!("Envoy {envoy}, Redis {redis}, Rust {rust}, Linux {}", kernel.trim())),
    ] {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    if is_busy {
        text.push_str("\nProvisional: other work kept the machine busy.\n");
    }
    text
}

/// The value of the first line of a file that has this name before a colon.
fn first_value(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
