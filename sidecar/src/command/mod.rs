//! The command line `llm-rate-limit`, and its tasks: every command but the server.
//!
//! `check`, `explain` and `count` read files and connect to nothing. `usage` and `reset` ask a running sidecar.
//! Results go to standard output, as text or as JSON; errors go to standard error.

mod check;
mod client;
mod count;
mod counters;
mod explain;
mod input;
mod table;

use crate::serve::Settings;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::{fmt, io};

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "llm-rate-limit",
    version,
    about = "Rate limits for LLM APIs: the sidecar, and commands for its limits"
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the filter: count requests and tokens on Redis
    Sidecar(Box<Settings>),
    /// A command that ends by itself.
    #[command(flatten)]
    Task(Task),
}

/// A command that ends by itself.
#[derive(Clone, Debug, Subcommand)]
pub enum Task {
    /// Check filter configurations and print every problem with its place
    Check {
        /// JSON or YAML files; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the windows that a request would be charged to
    Explain(explain::Question),
    /// Print what a request would be charged, and what its response settles it to
    Count(count::Requests),
    /// Print the usage of a key, a group, a model or all requests
    Usage(Box<counters::Selection>),
    /// Reset the usage of a key, a group, a model or all requests to zero
    Reset(Box<counters::Selection>),
}

impl Task {
    /// Runs the task and writes its result to `out`. Returns false if it found a problem in what it checked.
    ///
    /// # Errors
    /// The task could not be done.
    pub fn run(&self, out: &mut impl io::Write) -> Result<bool, Failure> {
        match self {
            Self::Check { files } => check::check(files, out),
            Self::Explain(question) => explain::explain(question, out),
            Self::Count(requests) => count::count(requests, out),
            Self::Usage(selection) => counters::show(selection, out),
            Self::Reset(selection) => counters::reset(selection, out),
        }
    }
}

/// Why a task could not be done.
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
