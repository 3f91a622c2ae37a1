//! The command line `llm-rate-limit`, and its tasks: every command but the server.
//!
//! `check`, `explain` and `count` read files and connect to nothing. `usage`, `reset`, `grant`, `refund`, `grants`,
//! `top`, `healthcheck`, `doctor` and `explain --live` ask running servers. Results go to standard output, as text or
//! as JSON; errors go to standard error.

mod check;
mod claims;
mod client;
mod count;
mod counters;
mod deployment;
mod doctor;
mod explain;
mod foreseen;
mod granted_limit;
mod grants;
mod healthcheck;
mod http;
mod input;
mod live;
mod nothing_found;
mod presented;
mod shell;
mod table;
mod top;
mod watch;

use crate::serve::Settings;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
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

impl CommandLine {
    /// The command line of this process, which ends with status 2 if it is invalid.
    pub fn of_process() -> Self {
        let line = Self::parse();
        if let Command::Task(Task::Explain(question)) = &line.command
            && let Err(why) = question.check()
        {
            Self::command().error(ErrorKind::ArgumentConflict, why).exit();
        }
        line
    }
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
    /// Check filter configurations, alone or in those of Envoy, Istio, Envoy Gateway and Kubernetes
    ///
    /// Prints every problem with its place, and hints. All files are one deployment: a cluster may be in another file
    /// than the filter. The exit status is 1 if there is a problem, or if no file has the filter.
    Check {
        /// JSON or YAML files: the filter's configuration, Envoy's, an EnvoyFilter, WasmPlugin, TrafficExtension,
        /// EnvoyExtensionPolicy or ConfigMap; - is standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the windows that a request would be charged to
    Explain(Box<explain::Question>),
    /// Print what a request would be charged, and what its response settles it to
    Count(count::Requests),
    /// Print the usage of a key, a group, a model or all requests
    Usage(Box<counters::Shown>),
    /// Reset the usage of a key, a group, a model or all requests to zero
    Reset(Box<counters::Selection>),
    /// Raise a limit of a key, a group, a model or all requests for a while
    ///
    /// What is granted adds to the limit until it ends, and grants add up. No single request becomes larger by it than
    /// the configured limit. `usage` shows grants, `grants` shows who made them and why.
    Grant(Box<grants::Grant>),
    /// Give back used units of a limit by hand, the newest first
    Refund(Box<grants::Refund>),
    /// Print who has granted and refunded what
    Grants(Box<counters::Selection>),
    /// Print the busiest identities and those closest to a limit, as a sidecar has seen them lately
    Top(top::Asked),
    /// Say whether the filter of a running Envoy limits as it should
    ///
    /// Asks the filter itself (--inspect), Envoy's admin interface and a sidecar, whatever is given, and changes
    /// nothing. The exit status is 0 if nothing is wrong, 1 if something is, and 2 if somebody does not answer.
    Doctor(Box<doctor::Asked>),
    /// Ask the sidecar, or any server, whether it is well: for the health checks of containers
    Healthcheck(healthcheck::Question),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// What a task has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Something is.
    Problem,
    /// Somebody does not answer.
    Unreached,
}

impl From<bool> for Verdict {
    fn from(is_fine: bool) -> Self {
        if is_fine { Self::Fine } else { Self::Problem }
    }
}

impl Task {
    /// Runs the task and writes its result to `out`. Returns what it has found.
    ///
    /// # Errors
    /// The task could not be done.
    pub fn run(&self, out: &mut impl io::Write) -> Result<Verdict, Failure> {
        let is_fine = match self {
            Self::Check { files } => check::check(files, out),
            Self::Explain(question) => explain::explain(question, out),
            Self::Count(requests) => count::count(requests, out),
            Self::Usage(shown) => counters::show(shown, out),
            Self::Reset(selection) => counters::reset(selection, out),
            Self::Grant(grant) => grants::grant(grant, out),
            Self::Refund(refund) => grants::refund(refund, out),
            Self::Grants(selection) => grants::audit(selection, out),
            Self::Top(asked) => top::top(asked, out),
            Self::Doctor(asked) => return doctor::doctor(asked, out),
            Self::Healthcheck(question) => healthcheck::healthcheck(question, out),
            Self::Completions { shell } => shell::completions(*shell, out),
            Self::Man => shell::man(out),
        };
        is_fine.map(Verdict::from)
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
