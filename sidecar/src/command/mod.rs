//! What the binary does besides serving: checking a filter configuration, saying what it means for a key, and showing
//! and resetting counters.
//!
//! Results go to standard output, as text or as JSON; why there is none goes to standard error. Exit status: 0 if all is
//! well, 1 if not, 2 if the command itself makes no sense.

mod check;
mod client;
mod counters;
mod explain;
mod table;

use crate::settings::Settings;
use clap::{Parser, Subcommand};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "llm-rate-limit-sidecar",
    version,
    about = "Counts requests and tokens on Redis for the llm-rate-limit filter; without a command it serves",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do besides serving.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Check filter configurations and print every problem with its place
    CheckConfig {
        /// JSON or YAML files; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the windows that a request would be charged to
    Explain(explain::Question),
    /// Print how the windows of a key, a group, a model or all requests stand
    Usage(counters::Selection),
    /// Start the windows of a key, a group, a model or all requests anew
    Reset(counters::Selection),
}

impl Command {
    /// Does it, and writes what there is to say to `out`. False if something is wrong with what was looked at.
    ///
    /// # Errors
    /// Why it could not be done.
    pub fn run(&self, out: &mut impl Write) -> Result<bool, Failure> {
        match self {
            Self::CheckConfig { files } => check::check(files, out),
            Self::Explain(question) => explain::explain(question, out),
            Self::Usage(selection) => counters::show(selection, out),
            Self::Reset(selection) => counters::reset(selection, out),
        }
    }
}

/// Why a command could not be done.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(why: io::Error) -> Self {
        Self(why.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(why: serde_json::Error) -> Self {
        Self(why.to_string())
    }
}

/// The contents of a file, or of standard input for `-`.
fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    read.map_err(|why| Failure(format!("{}: {why}", file.display())))
}

/// A key from the command line, where other processes can see it; `-` reads it from standard input.
fn key(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// A filter configuration from a file, or from standard input for `-`.
fn configuration(file: &Path) -> Result<llm_rate_limit::config::Config, Failure> {
    llm_rate_limit::config::Config::from_bytes(&contents(file)?).map_err(|error| {
        let lines = error.problems().iter().map(|problem| format!("{}: {problem}", file.display()));
        Failure(lines.collect::<Vec<_>>().join("\n"))
    })
}
