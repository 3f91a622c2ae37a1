//! The commands of the real binary `llm-rate-limit`: their output and their exit status.

use crate::sidecar::binary;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;

/// The exit status and the output of a command.
#[derive(Debug)]
pub struct Run {
    /// The exit status.
    pub status: i32,
    /// Its output.
    pub out: String,
    /// Its errors.
    pub err: String,
}

/// The command with these arguments and no other environment than this.
pub fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command with this `input`.
///
/// # Panics
/// If it does not run, or prints what is not UTF-8.
pub fn run_with(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Run {
    let mut process = command(arguments, environment).spawn().unwrap();
    // A command that reads no input may have ended already.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    Run {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command.
pub fn run(arguments: &[&str]) -> Run {
    run_with(arguments, &[], "")
}

/// The path of a configuration in the filter's own tests.
pub fn data(name: &str) -> String {
    format!("{}/data/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A file with `json`.
///
/// # Panics
/// If it cannot be written.
pub fn file(json: &Value) -> NamedTempFile {
    text_file(&json.to_string())
}

/// A file with `text`.
///
/// # Panics
/// If it cannot be written.
pub fn text_file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

/// Its path.
///
/// # Panics
/// If that is not UTF-8.
pub fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}
