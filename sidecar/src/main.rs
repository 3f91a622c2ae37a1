//! The sidecar's process: settings, log and runtime. Without a command it serves.
//!
//! Exit status: 0 after a signal or if a command finds all well, 1 if not, 2 if a setting makes no sense.

use clap::Parser;
use llm_rate_limit_sidecar::command::{Command, CommandLine};
use llm_rate_limit_sidecar::server;
use llm_rate_limit_sidecar::settings::{LogFormat, Settings};
use llm_rate_limit_sidecar::topology::Topology;
use std::io;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

const NOT_WELL: u8 = 1;
const BAD_SETTING: u8 = 2;

fn main() -> ExitCode {
    let CommandLine { command, settings } = CommandLine::parse();
    match command {
        Some(command) => run(&command),
        None => serve(&settings),
    }
}

fn run(command: &Command) -> ExitCode {
    match command.run(&mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_WELL),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(NOT_WELL)
        }
    }
}

fn serve(settings: &Settings) -> ExitCode {
    // Fails only if a provider is installed already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let topology = Topology::parse(
        settings.redis_url.expose(),
        settings.redis_timeout(),
        settings.redis_connect_timeout(),
    );
    let topology = match topology {
        Ok(topology) => topology,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(BAD_SETTING);
        }
    };
    log(settings);
    let served = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(server::Failure::from)
        .and_then(|runtime| runtime.block_on(server::serve(settings, topology)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!(%why, "cannot serve");
            ExitCode::from(NOT_WELL)
        }
    }
}

fn log(settings: &Settings) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&settings.log))
        .with_writer(io::stderr)
        .with_target(false);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
