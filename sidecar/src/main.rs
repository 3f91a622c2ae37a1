//! The process: it parses the command line, runs the command and chooses the exit status.
//!
//! Exit status: 0 for success, and for a server that a signal stopped; 1 if a command finds a problem or fails; 2 if
//! the command line or a setting is invalid, or if somebody does not answer `doctor`.

use llm_rate_limit_cli::command::{Command, CommandLine, Task, Verdict};
use llm_rate_limit_cli::serve::{self, LogFormat, Settings};
use llm_rate_limit_cli::store::topology::Topology;
use std::io::{self, StdoutLock, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

const FAILED: u8 = 1;
const INVALID_SETTING: u8 = 2;
const UNREACHED: u8 = 2;

fn main() -> ExitCode {
    match CommandLine::of_process().command {
        Command::Sidecar(settings) => serve(&settings),
        Command::Task(task) => run(&task),
    }
}

fn run(task: &Task) -> ExitCode {
    let mut out = Output { out: io::stdout().lock(), is_closed: false };
    match task.run(&mut out) {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Problem) => ExitCode::from(FAILED),
        Ok(Verdict::Unreached) => ExitCode::from(UNREACHED),
        // Whoever reads it has read enough, as `head` does.
        Err(_) if out.is_closed => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(FAILED)
        }
    }
}

/// Standard output, and whether its reader has gone.
struct Output {
    out: StdoutLock<'static>,
    is_closed: bool,
}

impl Output {
    fn heed<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        self.is_closed |= outcome.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::BrokenPipe);
        outcome
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.out.write(bytes);
        self.heed(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.out.flush();
        self.heed(outcome)
    }
}

fn serve(settings: &Settings) -> ExitCode {
    // An error means that a provider is already installed, and that one works as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let access = match settings.redis_files().read() {
        Ok(access) => access,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(INVALID_SETTING);
        }
    };
    let topology = Topology::open(
        settings.redis_url.expose(),
        access,
        settings.redis_timeout(),
        settings.redis_connect_timeout(),
    );
    let topology = match topology {
        Ok(topology) => topology,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(INVALID_SETTING);
        }
    };
    let webhook = match settings.webhook() {
        Ok(webhook) => webhook,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(INVALID_SETTING);
        }
    };
    start_log(settings);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(settings.worker_threads))
        .enable_all()
        .build()
        .map_err(serve::Failure::from)
        .and_then(|runtime| runtime.block_on(serve::serve(settings, topology, webhook)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why @ (serve::Failure::Exposed { .. } | serve::Failure::PageExposed { .. })) => {
            eprintln!("error: {why}");
            ExitCode::from(INVALID_SETTING)
        }
        Err(why) => {
            tracing::error!(%why, "cannot serve");
            ExitCode::from(FAILED)
        }
    }
}

fn start_log(settings: &Settings) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&settings.log))
        .with_writer(io::stderr)
        .with_target(false);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
