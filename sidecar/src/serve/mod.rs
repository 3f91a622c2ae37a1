//! The server, `llm-rate-limit sidecar`: it listens, serves the filter, and stops without losing a call.
//!
//! On SIGTERM or SIGINT it accepts no more connections and answers the calls in flight; after the drain timeout it
//! drops the rest. `exposure` decides whether it may start without a token. [`routes`] has its HTTP calls, [`refusal`]
//! its errors, [`settings`] its flags. [`crate::store`] talks to Redis.

mod exposure;
pub mod refusal;
pub mod routes;
pub mod settings;
mod socket;

pub use settings::{Listen, LogFormat, Settings};

use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::link::{Link, Timeouts};
use crate::store::topology::Topology;
use axum::Router;
use axum::serve::{Listener, ListenerExt};
use routes::{App, Bounds};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// Why the sidecar cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot listen on its address.
    #[error("cannot listen on {at}: {why}")]
    Listen {
        /// The address.
        at: Listen,
        /// The system's error.
        why: io::Error,
    },
    /// Others can reach its address, and no token is set.
    #[error(
        "LISTEN is {at}, which others can reach, and AUTH_TOKEN is not set: they could empty counters. \
         Set AUTH_TOKEN, or listen on loopback or a unix socket, or allow it with --allow-anyone"
    )]
    Exposed {
        /// The address.
        at: Listen,
    },
    /// The system refuses to report signals, or closed the listener.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Serves until a signal stops it.
///
/// # Errors
/// See [`Failure`].
pub async fn serve(settings: &Settings, topology: Topology) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let metrics = Arc::new(Metrics::new());
    let queue = usize::try_from(settings.max_queue).unwrap_or(usize::MAX);
    let body = usize::try_from(settings.max_body_bytes).unwrap_or(usize::MAX);
    let timeouts = Timeouts { answer: settings.redis_timeout(), connect: settings.redis_connect_timeout() };
    let listen_failure = |why| Failure::Listen { at: settings.listen.clone(), why };
    let start = || {
        let link = Link::start(topology, timeouts, queue, Arc::clone(&metrics));
        let store = Store::new(link, Arc::clone(&metrics));
        App::new(store, Arc::clone(&metrics), settings.token().map(str::to_owned), Bounds { queue, body })
            .router()
    };
    match &settings.listen {
        Listen::Tcp(at) => {
            let addresses = exposure::addresses(at, settings).await?;
            let listener = TcpListener::bind(&*addresses).await.map_err(listen_failure)?;
            tracing::info!(address = %listener.local_addr()?, "listening");
            let listener = listener.tap_io(|connection| {
                // Answers are small and the filter waits for them: never delay one to fill a packet.
                let _ = connection.set_nodelay(true);
            });
            serve_until(listener, start(), stop, settings.drain_timeout()).await?;
        }
        Listen::Unix(path) => {
            let (listener, _file) =
                socket::listen(path, settings.socket_mode).await.map_err(listen_failure)?;
            tracing::info!(path = %path.display(), "listening");
            serve_until(listener, start(), stop, settings.drain_timeout()).await?;
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// A future that completes at the first SIGTERM or SIGINT from now on.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: answering the calls in flight");
    })
}

/// Serves `router` until `stop` completes, and then finishes the calls in flight for at most `drain`.
async fn serve_until<L>(
    listener: L,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let (stopping, mut stopped) = watch::channel(false);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        stop.await;
        stopping.send_replace(true);
    });
    tokio::select! {
        outcome = async { server.await } => outcome,
        () = async {
            // An error means that the sender is gone, and so is the server.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(drain).await;
        } => {
            tracing::warn!(after_ms = drain.as_millis(), "dropping the calls still in flight");
            Ok(())
        }
    }
}
