//! A server that is far away: a proxy before a real one, which delays every byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// A proxy on a port of its own, in a thread of its own; it ends when it is dropped.
#[derive(Debug)]
pub struct Far {
    address: SocketAddr,
    one_way_us: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Far {
    /// A proxy before the server on `port`, at this distance: half of it in each direction.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn from(port: u16, round_trip: Duration) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, address) = std::sync::mpsc::channel();
        let one_way_us = Arc::new(AtomicU64::new(0));
        let delay = Arc::clone(&one_way_us);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                listening.send(listener.local_addr().unwrap()).unwrap();
                let serve = async {
                    while let Ok((near, _)) = listener.accept().await {
                        tokio::spawn(relay(near, port, Arc::clone(&delay)));
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = serve => {}
                }
            });
        });
        let far = Self { address: address.recv().unwrap(), one_way_us, _stop: stop };
        far.set_round_trip(round_trip);
        far
    }

    /// Moves the server: what arrives from now on takes this long.
    pub fn set_round_trip(&self, round_trip: Duration) {
        let one_way = u64::try_from((round_trip / 2).as_micros()).unwrap();
        self.one_way_us.store(one_way, Ordering::Relaxed);
    }

    /// The proxy's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn relay(near: TcpStream, port: u16, delay: Arc<AtomicU64>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::join!(carry(from_near, to_far, &delay), carry(from_far, to_near, &delay));
}

/// Carries bytes in one direction, each as long after it came as the distance says.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_micros(delay.load(Ordering::Relaxed));
            if send.send((due, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receive.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
