//! Listening, and stopping without losing what is under way: on SIGTERM or SIGINT nothing more is accepted, calls that
//! have come in are answered, and after a bounded time the rest is dropped.

use crate::app::{App, Bounds};
use crate::link::{Link, Times};
use crate::metrics::Metrics;
use crate::settings::{Listen, Settings};
use crate::store::Store;
use crate::topology::Topology;
use axum::Router;
use axum::serve::{Listener, ListenerExt};
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

/// Why the sidecar could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot listen where it was told to.
    #[error("cannot listen on {at}: {why}")]
    Listen {
        /// Where.
        at: Listen,
        /// Why.
        why: io::Error,
    },
    /// The system does not let it wait for signals, or took the listener away.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Serves until a signal ends it.
///
/// # Errors
/// See [`Failure`].
pub async fn serve(settings: &Settings, topology: Topology) -> Result<(), Failure> {
    let stop = stop_signal()?;
    let metrics = Arc::new(Metrics::new());
    let queue = usize::try_from(settings.max_queue).unwrap_or(usize::MAX);
    let body = usize::try_from(settings.max_body_bytes).unwrap_or(usize::MAX);
    let times = Times { answer: settings.redis_timeout(), connect: settings.redis_connect_timeout() };
    let listen_failure = |why| Failure::Listen { at: settings.listen.clone(), why };
    let start = || {
        let link = Link::start(topology, times, queue, Arc::clone(&metrics));
        let store = Store::new(link, Arc::clone(&metrics));
        App::new(store, Arc::clone(&metrics), settings.token().map(str::to_owned), Bounds { queue, body })
            .router()
    };
    match &settings.listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(listen_failure)?;
            tracing::info!(address = %listener.local_addr()?, "listening");
            let listener = listener.tap_io(|connection| {
                // Answers are small and awaited: never hold one back to fill a packet.
                let _ = connection.set_nodelay(true);
            });
            until(listener, start(), stop, settings.drain_timeout()).await?;
        }
        Listen::Unix(path) => {
            let (listener, _file) = listen_unix(path, settings.socket_mode).await.map_err(listen_failure)?;
            tracing::info!(path = %path.display(), "listening");
            until(listener, start(), stop, settings.drain_timeout()).await?;
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// A future that ends at the first SIGTERM or SIGINT from now on.
fn stop_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: answering what is under way");
    })
}

/// Serves `router` until `stop` ends, then for at most `drain` what is under way.
async fn until<L>(
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
            // An error means that the sender is gone, and the server with it.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(drain).await;
        } => {
            tracing::warn!(after_ms = drain.as_millis(), "what is still under way is dropped");
            Ok(())
        }
    }
}

/// The file of a unix socket, removed when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %why, "the socket's file stays");
        }
    }
}

/// Listens on a unix socket. A file that a crash has left is replaced, one that somebody listens on is not.
async fn listen_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there")),
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(path = %path.display(), "replacing the socket that a crash has left");
                fs::remove_file(path)?;
            }
            Err(why) => return Err(why),
        },
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(why),
    }
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((listener, file))
}
