//! The server's settings, as flags and environment variables. An invalid value ends the process with status 2 and an
//! error that names the setting, before the server starts.

use crate::store::access::Files;
use crate::webhook::target::Target;
use clap::builder::{RangedI64ValueParser, RangedU64ValueParser};
use clap::{Args, value_parser};
use llm_rate_limit::config::Secret;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The settings; each field is a flag and an environment variable.
#[derive(Clone, Debug, Args)]
pub struct Settings {
    /// The address to listen on: host:port, or unix:/path for a unix socket
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: Listen,

    /// Permissions of the unix socket, in octal
    #[arg(long, env = "SOCKET_MODE", default_value = "660", value_parser = octal)]
    pub socket_mode: u32,

    /// The URL of Redis: redis://, rediss:// or unix://; several, separated by commas, for a cluster;
    /// redis+sentinel://host:port,host:port/service/db for sentinels
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub redis_url: Secret,

    /// A file with the certificates, in PEM, of the authorities that Redis's certificate must come from; by default the
    /// system's
    #[arg(long, env = "REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,

    /// A file with the certificate, in PEM, that the sidecar shows Redis
    #[arg(long, env = "REDIS_CERT", value_name = "FILE")]
    pub redis_cert: Option<PathBuf>,

    /// A file with the key, in PEM, of that certificate
    #[arg(long, env = "REDIS_KEY", value_name = "FILE")]
    pub redis_key: Option<PathBuf>,

    /// A file with Redis's password, for a URL without one
    #[arg(long, env = "REDIS_PASSWORD_FILE", value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,

    /// The token that calls to /v1 must send as `authorization: Bearer ...`. Unset or empty, they need none, and the
    /// sidecar starts only on a loopback address or a unix socket
    #[arg(long, env = "AUTH_TOKEN", hide_env_values = true)]
    pub auth_token: Option<Secret>,

    /// A file with that token, in place of it
    #[arg(long, env = "AUTH_TOKEN_FILE", value_name = "FILE", conflicts_with = "auth_token", value_parser = token_in)]
    pub auth_token_file: Option<Secret>,

    /// Start without a token on an address that others can reach. Whoever reaches it can spend and empty every counter
    #[arg(long, env = "ALLOW_ANYONE", value_parser = flag)]
    pub allow_anyone: bool,

    /// The time limit for a round trip to Redis, in milliseconds
    #[arg(long, env = "REDIS_TIMEOUT_MS", default_value = "1000", value_parser = timeout_ms())]
    pub redis_timeout_ms: u64,

    /// The time limit for opening a connection to Redis, in milliseconds
    #[arg(long, env = "REDIS_CONNECT_TIMEOUT_MS", default_value = "1000", value_parser = timeout_ms())]
    pub redis_connect_timeout_ms: u64,

    /// The maximum number of calls in flight; the sidecar answers one more with 503 at once
    #[arg(long, env = "MAX_QUEUE", default_value = "1024", value_parser = count())]
    pub max_queue: u32,

    /// The maximum size of a call's body, in bytes
    #[arg(long, env = "MAX_BODY_BYTES", default_value = "8388608", value_parser = value_parser!(u32).range(1..))]
    pub max_body_bytes: u32,

    /// The maximum size of the bodies of all calls that arrive or are worked on, in bytes. Beyond it, the call that
    /// began to arrive first is answered with 503
    #[arg(long, env = "MAX_BYTES_IN_FLIGHT", default_value = "33554432", value_parser = value_parser!(u32).range(1..))]
    pub max_bytes_in_flight: u32,

    /// The maximum number of connections; others wait until one closes
    #[arg(long, env = "MAX_CONNECTIONS", default_value = "8192", value_parser = count())]
    pub max_connections: u32,

    /// The threads that work on calls. One keeps one Redis busy, and takes a third less of the processor than two for
    /// the same calls; a Redis Cluster may need more
    #[arg(long, env = "WORKER_THREADS", default_value = "1", value_parser = value_parser!(u16).range(1..=256))]
    pub worker_threads: u16,

    /// The time limit for the head of a call, and how long a connection may be idle between two calls, in milliseconds
    #[arg(long, env = "IDLE_TIMEOUT_MS", default_value = "15000", value_parser = idle_ms())]
    pub idle_timeout_ms: u64,

    /// The time limit for finishing the calls in flight after SIGTERM or SIGINT, in milliseconds
    #[arg(long, env = "DRAIN_TIMEOUT_MS", default_value = "10000")]
    pub drain_timeout_ms: u64,

    /// The address of the status page, host:port; off without one. The page's password is AUTH_TOKEN
    #[arg(long, env = "STATUS_LISTEN", value_name = "ADDRESS", value_parser = page_address)]
    pub status_listen: Option<String>,

    /// The URL that gets a POST when a limit's `warn_at` is reached: once in its window's duration, for all sidecars on
    /// one Redis
    #[arg(long, env = "WEBHOOK_URL", hide_env_values = true, value_name = "URL")]
    pub webhook_url: Option<Secret>,

    /// The secret that signs it, as standardwebhooks.com says: a text, or whsec_ and a key in base64
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub webhook_secret: Option<Secret>,

    /// The level to log: error, warn, info, debug, trace, or a filter such as `info,redis=debug`
    #[arg(long, env = "LOG", default_value = "info", value_parser = filter)]
    pub log: String,

    /// The format of the log
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// The address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`.
    Tcp(String),
    /// A unix socket's path.
    Unix(PathBuf),
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// The token that calls must send. An empty one counts as unset, so that the variable may be left empty.
    pub fn token(&self) -> Option<&str> {
        let given = self.auth_token.as_ref().map(Secret::expose).filter(|token| !token.trim().is_empty());
        given.or_else(|| self.auth_token_file.as_ref().map(Secret::expose))
    }

    /// The address of the status page, if there is one.
    pub fn status_address(&self) -> Option<&str> {
        self.status_listen.as_deref().filter(|at| !at.is_empty())
    }

    /// Where warnings go, if anywhere.
    ///
    /// # Errors
    /// See [`Target::new`].
    pub fn webhook(&self) -> Result<Option<Target>, String> {
        Target::of_settings(self.webhook_url.as_ref(), self.webhook_secret.as_ref())
    }

    /// The files with what Redis asks for.
    pub fn redis_files(&self) -> Files {
        Files {
            ca: self.redis_ca.clone(),
            cert: self.redis_cert.clone(),
            key: self.redis_key.clone(),
            password: self.redis_password_file.clone(),
        }
    }

    /// The time limit for a round trip to Redis.
    pub const fn redis_timeout(&self) -> Duration {
        Duration::from_millis(self.redis_timeout_ms)
    }

    /// The time limit for opening a connection to Redis.
    pub const fn redis_connect_timeout(&self) -> Duration {
        Duration::from_millis(self.redis_connect_timeout_ms)
    }

    /// The time limit for the head of a call.
    pub const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// The time limit for finishing the calls in flight.
    pub const fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "expected host:port or unix:/path";
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(FORM) };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address of a page for browsers, which open no unix sockets. Empty, it is none.
fn page_address(text: &str) -> Result<String, &'static str> {
    match text.parse() {
        _ if text.is_empty() => Ok(String::new()),
        Ok(Listen::Tcp(at)) => Ok(at),
        _ => Err("expected host:port"),
    }
}

/// A variable that is set but empty, as compose files pass it, is not set.
fn flag(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "0" | "n" | "no" | "f" | "false" | "off" => Ok(false),
        "1" | "y" | "yes" | "t" | "true" | "on" => Ok(true),
        _ => Err("expected true or false"),
    }
}

/// A minute at most: longer than any filter waits.
fn timeout_ms() -> RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=60_000)
}

/// An hour at most.
fn idle_ms() -> RangedU64ValueParser<u64> {
    value_parser!(u64).range(100..=3_600_000)
}

fn count() -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=1_000_000)
}

/// The token in a file, without the end of its line.
fn token_in(path: &str) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("cannot read {path}: {why}"))?;
    match text.trim_end_matches(['\r', '\n']).parse::<Secret>() {
        Ok(token) if !token.expose().trim().is_empty() => Ok(token),
        _ => Err(format!("expected a token in {path}")),
    }
}

fn octal(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("expected permissions in octal, such as 660"),
    }
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Server {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(flags: &[&str]) -> Result<Settings, String> {
        let name = std::iter::once(&"sidecar");
        Server::try_parse_from(name.chain(flags)).map(|server| server.settings).map_err(|why| {
            assert_eq!(why.exit_code(), 2);
            why.to_string()
        })
    }

    #[test]
    fn a_bad_value_names_its_flag_and_what_was_expected() {
        for (flags, expected) in [
            (["--listen", "8081"], "expected host:port or unix:/path"),
            (["--listen", "unix:run/socket"], "expected host:port or unix:/path"),
            (["--listen", "localhost:99999"], "expected host:port or unix:/path"),
            (["--socket-mode", "9"], "expected permissions in octal"),
            (["--redis-timeout-ms", "0"], "0 is not in 1..=60000"),
            (["--max-queue", "many"], "invalid digit"),
            (["--status-listen", "unix:/run/s"], "expected host:port"),
            (["--log", "info,=="], "invalid filter directive"),
            (["--log-format", "xml"], "[possible values: text, json]"),
        ] {
            let why = parse(&flags).expect_err(flags[1]);
            assert!(why.contains(flags[0]) && why.contains(expected), "{flags:?}: {why}");
        }
    }

    #[test]
    fn no_message_shows_a_secret() {
        let settings = parse(&["--redis-url", "redis://:sesame@a", "--auth-token", "sesame"]).unwrap();
        assert!(!format!("{settings:?}").contains("sesame"));
        assert_eq!(settings.token(), Some("sesame"));
        assert_eq!(parse(&["--auth-token", ""]).unwrap().token(), None);
    }

    #[test]
    fn anyone_may_call_only_where_the_setting_says_so() {
        assert!(!parse(&[]).unwrap().allow_anyone);
        assert!(parse(&["--allow-anyone"]).unwrap().allow_anyone);
    }

    #[test]
    fn both_forms_of_listen_are_read() {
        assert_eq!(parse(&["--listen", "[::1]:80"]).unwrap().listen, Listen::Tcp("[::1]:80".to_owned()));
        assert_eq!(parse(&["--listen", "unix:/run/s"]).unwrap().listen, Listen::Unix("/run/s".into()));
    }
}
