//! The sidecar's process: settings, log and runtime. With no subcommand it serves.
//!
//! Exit status: 0 after a signal, 1 if it cannot serve, 2 if a setting makes no sense.

use clap::Parser;
use llm_rate_limit_sidecar::server;
use llm_rate_limit_sidecar::settings::{LogFormat, Settings};
use llm_rate_limit_sidecar::topology::Topology;
use std::io;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

const CANNOT_SERVE: u8 = 1;
const BAD_SETTING: u8 = 2;

fn main() -> ExitCode {
    let settings = Settings::parse();
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
    log(&settings);
    let served = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(server::Failure::from)
        .and_then(|runtime| runtime.block_on(server::serve(&settings, topology)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tracing::error!(%why, "cannot serve");
            ExitCode::from(CANNOT_SERVE)
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
