//! The server, `llm-rate-limit sidecar`: it listens, serves the filter, and stops without losing a call.
//!
//! On SIGTERM or SIGINT it accepts no more connections and answers the calls in flight; after the drain timeout it
//! drops the rest. `exposure` decides whether it may start without a token. [`routes`] has its HTTP calls, [`refusal`]
//! its errors, [`settings`] its flags. `connections`, `arrivals` and `batch` bound what callers may take of it.
//! [`crate::store`] talks to Redis.

mod arrivals;
pub mod batch;
mod connections;
mod exposure;
pub mod refusal;
pub mod routes;
pub mod settings;
mod socket;

pub use settings::{Listen, LogFormat, Settings};

use crate::metrics::Metrics;
use crate::status::StatusPage;
use crate::store::Store;
use crate::store::link::{Link, Timeouts};
use crate::store::topology::Topology;
use crate::webhook::Webhook;
use crate::webhook::target::Target;
use axum::serve::ListenerExt;
use connections::Limits;
use routes::{App, Bounds};
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

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
    /// Others can reach the status page, and no token is set that it could ask for.
    #[error(
        "STATUS_LISTEN is {at}, which others can reach, and AUTH_TOKEN is not set, which is the page's password: set \
         it, or listen on loopback"
    )]
    PageExposed {
        /// The address.
        at: String,
    },
    /// The system refuses to report signals, or closed the listener.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Serves until a signal stops it.
///
/// # Errors
/// See [`Failure`].
pub async fn serve(settings: &Settings, topology: Topology, webhook: Option<Target>) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let metrics = Arc::new(Metrics::new());
    let queue = size(settings.max_queue);
    let bounds =
        Bounds { queue, body: size(settings.max_body_bytes), bodies: size(settings.max_bytes_in_flight) };
    let limits = Limits {
        connections: size(settings.max_connections),
        idle: settings.idle_timeout(),
        silence: settings.idle_timeout() + settings.redis_timeout() * 4,
        drain: settings.drain_timeout(),
    };
    connections::raise_file_limit();
    let timeouts = Timeouts { answer: settings.redis_timeout(), connect: settings.redis_connect_timeout() };
    let listen_failure = |why| Failure::Listen { at: settings.listen.clone(), why };
    let status_page = match settings.status_address() {
        Some(at) => Some(exposure::bind_page(at, settings).await?),
        None => None,
    };
    let mut deliveries = None;
    let start = || {
        let link = Link::start(topology, timeouts, queue, Arc::clone(&metrics));
        let store = Arc::new(Store::new(link, Arc::clone(&metrics)));
        let webhook = webhook.map(|target| {
            let (webhook, task) = Webhook::start(target, Arc::clone(&store), Arc::clone(&metrics));
            deliveries = Some(task);
            webhook
        });
        if let Some(listener) = status_page {
            let page = StatusPage::new(Arc::clone(&store), settings.token().map(str::to_owned));
            tokio::spawn(async { axum::serve(listener, page.router()).await });
        }
        App::new(store, webhook, Arc::clone(&metrics), settings.token().map(str::to_owned), bounds).router()
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
            connections::serve(listener, start(), Arc::clone(&metrics), stop, limits).await;
        }
        Listen::Unix(path) => {
            let (listener, _file) =
                socket::listen(path, settings.socket_mode).await.map_err(listen_failure)?;
            tracing::info!(path = %path.display(), "listening");
            connections::serve(listener, start(), Arc::clone(&metrics), stop, limits).await;
        }
    }
    if let Some(deliveries) = deliveries {
        // Warnings that found no receiver in time are lost with the process.
        let _ = tokio::time::timeout(settings.drain_timeout(), deliveries).await;
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

fn size(setting: u32) -> usize {
    usize::try_from(setting).unwrap_or(usize::MAX)
}
