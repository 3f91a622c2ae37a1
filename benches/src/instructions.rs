//! Instructions that a piece of work takes, as valgrind counts them: the same on a busy machine as on a quiet one.
//!
//! The benchmark runs itself in valgrind, which does the work once more often in a second run; the difference is the
//! work alone. These are native instructions: V8 makes others of the filter's wasm, but more of one are more of the
//! other.

use crate::pure::CASES;
use std::fmt::Write as _;
use std::process::Command;

/// The variables that tell the run in valgrind what to do.
const CASE: &str = "BENCH_INSTRUCTIONS_OF";
const TIMES: &str = "BENCH_INSTRUCTIONS_TIMES";

/// How often the two runs do it: the first times may allocate what later ones find.
const RUNS: [u64; 2] = [20, 120];

/// Does a piece of work if this process is a run in valgrind; returns whether it is.
///
/// # Panics
/// If there is no such work.
pub fn run_if_asked() -> bool {
    let Ok(wanted) = std::env::var(CASE) else { return false };
    let times: u64 = std::env::var(TIMES).unwrap().parse().unwrap();
    let (_, prepare) = CASES.into_iter().find(|(name, _)| *name == wanted).unwrap();
    let mut work = prepare();
    for _ in 0..times {
        work();
    }
    true
}

/// The table of instructions, or a sentence if there is no valgrind.
///
/// # Panics
/// If valgrind does not count.
pub fn measure() -> String {
    let title = "## Instructions\n\n";
    if Command::new("valgrind").arg("--version").output().is_err() {
        return format!("{title}Not counted: valgrind is not installed.\n");
    }
    let mut text = format!(
        "{title}Of the filter's own work, compiled natively and without Envoy, as valgrind counts them; the same on \
         any machine of this architecture.\n\n| | instructions |\n|---|---|\n"
    );
    for (name, _) in CASES {
        let [few, many] = RUNS.map(|times| instructions(name, times));
        let each = (many - few) / (RUNS[1] - RUNS[0]);
        let _ = writeln!(text, "| {name} | {} |", with_separators(each));
    }
    text
}

/// Instructions of a process that does a piece of work so many times.
fn instructions(name: &str, times: u64) -> u64 {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap());
    let output = command.env(CASE, name).env(TIMES, times.to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // ==12345== Collected : 3453634
    let count = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind has not counted {name}:\n{text}"))
}

/// A whole number, with commas between thousands.
pub fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::with_separators;

    #[test]
    fn thousands_are_separated() {
        let shown = [0, 999, 1_000, 1_234_567].map(with_separators);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
