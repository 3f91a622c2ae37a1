//! The inputs of commands: files, configurations and keys. `-` stands for standard input.

use super::Failure;
use llm_rate_limit::config::Config;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// The contents of `file`.
pub(super) fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    read.map_err(|why| Failure(format!("{}: {why}", file.display())))
}

/// The filter configuration in `file`; a failure lists every problem.
pub(super) fn configuration(file: &Path) -> Result<Config, Failure> {
    Config::from_bytes(&contents(file)?).map_err(|error| {
        let lines = error.problems().iter().map(|problem| format!("{}: {problem}", file.display()));
        Failure(lines.collect::<Vec<_>>().join("\n"))
    })
}

/// An API key. Other processes can see the command line, so `-` reads the key from standard input instead.
pub(super) fn key(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
