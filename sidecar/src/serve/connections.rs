//! Connections: how many there are, and how long one may stay without sending or taking anything.
//!
//! A connection that has nothing to say costs a file and a buffer for as long as its client likes, so it has none of
//! that for long: a head must arrive within the idle timeout of the connection's start or of its last answer, and a
//! client must take its answers. Bodies have a time limit of their own, in [`super::arrivals`].

use crate::metrics::Metrics;
use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_io_timeout::TimeoutStream;

/// The time limit for a client to take some of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a request's head, and of what a connection reads ahead, in bytes. hyper's own is 400 KiB, which
/// many connections would make a lot.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The maximum number of calls at a time on a connection of HTTP/2.
const MAX_STREAMS: u32 = 128;

/// The limits on connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The maximum number of connections. Beyond it, the system queues a few, and refuses the others.
    pub(super) connections: usize,
    /// The time limit for the head of a call, from the start of the connection or the end of the call before.
    pub(super) idle: Duration,
    /// The time limit for a client to send anything. It is longer than a call takes, because a client that waits for
    /// its answer sends nothing.
    pub(super) silence: Duration,
    /// The time limit for finishing the calls in flight when the server stops.
    pub(super) drain: Duration,
}

/// Serves `router` until `stop` completes, and then finishes the calls in flight for at most the drain timeout.
pub(super) async fn serve<L>(
    mut listener: L,
    router: Router,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
    limits: Limits,
) where
    L: Listener,
{
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(MAX_HEAD_BYTES);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await.0)
        };
        let (place, io) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let mut io = TimeoutStream::new(io);
        io.set_read_timeout(Some(limits.silence));
        io.set_write_timeout(Some(WRITE_TIMEOUT));
        let service = TowerToHyperService::new(router.clone());
        let connection = server.serve_connection(TokioIo::new(Box::pin(io)), service).into_owned();
        let connection = open.watch(connection);
        let metrics = Arc::clone(&metrics);
        metrics.opened();
        tokio::spawn(async move {
            if let Err(why) = connection.await {
                tracing::debug!(%why, "a connection ended early");
            }
            metrics.closed();
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = open.shutdown() => {}
        () = sleep(limits.drain) => {
            tracing::warn!(after_ms = limits.drain.as_millis(), "dropping the calls still in flight");
        }
    }
}

/// Raises the number of files that the process may open as far as the system lets it: each connection is one.
pub(super) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(why) = raised {
        tracing::warn!(%why, "cannot raise the number of files that may be open");
    }
}
