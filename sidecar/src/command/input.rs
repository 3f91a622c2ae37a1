//! The inputs of commands: files, configurations and keys. `-` stands for standard input.

use super::Failure;
use super::deployment::documents;
use super::deployment::find::{Found, Given, find};
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

/// The filter configuration in `file`: all of it, or the only one in files of Envoy, Istio, Envoy Gateway or
/// Kubernetes; a failure lists every problem.
pub(super) fn configuration(file: &Path) -> Result<Config, Failure> {
    let bytes = contents(file)?;
    let name = file.display();
    let documents = documents::read(&bytes).unwrap_or_default();
    let found: Vec<_> = documents.iter().flat_map(find).collect();
    let config = match &found[..] {
        // The text of the file says more than its tree.
        [Found { configuration: Given::Whole(_), .. }] if documents.len() == 1 => Config::from_bytes(&bytes),
        [found] => Config::from_bytes(found.configuration.text().as_bytes()),
        [_, _, ..] => {
            return Err(Failure(format!("{name}: has {} configurations of the filter", found.len())));
        }
        [] if !documents.is_empty() => {
            return Err(Failure(format!("{name}: nothing of the filter is in it")));
        }
        _ => Config::from_bytes(&bytes),
    };
    config.map_err(|error| {
        let lines = error.problems().iter().map(|problem| format!("{name}: {problem}"));
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
