//! The clients: connections that send one request after the other, all on one thread.
//!
//! They write prepared bytes and look for no more in an answer than its status and its end, so that they take a small
//! part of the time that Envoy takes.

use crate::http::Incoming;
use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// The share of answers that may have another status: of those whose limit is over, one in a window is admitted.
const OTHER_ANSWERS: f64 = 0.01;

/// The least answers to measure, and how often the duration is extended for them: a busy machine, or one with much to
/// do for each request, gives few.
const LEAST_ANSWERS: usize = 10;
const MOST_TURNS: usize = 20;

/// What clients send.
#[derive(Clone, Debug)]
pub struct Load {
    /// How many connections, each with one request at a time.
    pub connections: usize,
    /// The requests, byte by byte. Together the connections send all of them in turn.
    pub requests: Rc<[Vec<u8>]>,
    /// The status of the answers.
    pub status: u16,
}

/// What happened while it was measured.
#[derive(Debug)]
pub struct Measured<T> {
    /// The snapshots at the beginning and at the end.
    pub snapshots: [T; 2],
    /// How long it took.
    pub seconds: f64,
    /// How long each request took from its first byte to the last of its answer, in microseconds; in ascending order.
    pub micros: Vec<f64>,
}

/// What the connections share.
struct Shared {
    load: Load,
    is_measuring: Cell<bool>,
    micros: RefCell<Vec<f64>>,
    others: Cell<usize>,
}

impl Load {
    /// Sends to `address`: for `warm_up` without measuring, then for `duration`, or longer if there are few answers,
    /// between two snapshots.
    ///
    /// # Panics
    /// If a connection breaks, or answers have another status than they should.
    pub fn run<T>(
        &self,
        address: SocketAddr,
        warm_up: Duration,
        duration: Duration,
        snapshot: impl Fn() -> T,
    ) -> Measured<T> {
        let shared = Shared::new(self);
        let runtime = runtime();
        let (snapshots, seconds) = LocalSet::new().block_on(&runtime, async {
            for first in 0..self.connections {
                tokio::task::spawn_local(connection(Rc::clone(&shared), address, first, usize::MAX));
            }
            tokio::time::sleep(warm_up).await;
            let before = snapshot();
            let begin = Instant::now();
            shared.is_measuring.set(true);
            for _ in 0..MOST_TURNS {
                tokio::time::sleep(duration).await;
                if shared.micros.borrow().len() >= LEAST_ANSWERS {
                    break;
                }
            }
            shared.is_measuring.set(false);
            let seconds = begin.elapsed().as_secs_f64();
            ([before, snapshot()], seconds)
        });
        drop(runtime);
        let mut micros = shared.micros.take();
        let others = shared.others.get();
        assert!(!micros.is_empty(), "no answer within {seconds} s");
        let expected = self.status;
        assert!(
            others as f64 <= OTHER_ANSWERS * micros.len() as f64 + 2.0,
            "{others} of {} answers have not status {expected}",
            micros.len()
        );
        micros.sort_by(f64::total_cmp);
        Measured { snapshots, seconds, micros }
    }

    /// Sends so many requests on each connection, and waits for all answers.
    ///
    /// # Panics
    /// If a connection breaks.
    pub fn send(&self, address: SocketAddr, requests: usize) {
        let shared = Shared::new(self);
        LocalSet::new().block_on(&runtime(), async {
            let clients = (0..self.connections).map(|first| {
                tokio::task::spawn_local(connection(Rc::clone(&shared), address, first, requests))
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.unwrap();
            }
        });
    }
}

/// Streams whose answer has begun and does not end; dropped, their clients leave.
#[derive(Debug)]
pub struct Held(Vec<std::net::TcpStream>);

impl Held {
    /// Sends `request` on so many connections, and waits until each has the beginning of its answer.
    ///
    /// # Panics
    /// If one has none.
    pub fn open(address: SocketAddr, request: &[u8], streams: usize) -> Self {
        let open = || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.write_all(request).unwrap();
            let mut beginning = [0; 4096];
            assert_ne!(stream.read(&mut beginning).unwrap(), 0, "Envoy closes the connection");
            assert!(beginning.starts_with(b"HTTP/1.1 200"), "{}", beginning.escape_ascii());
            stream
        };
        Self((0..streams).map(|_| open()).collect())
    }

    /// How many they are.
    pub fn streams(&self) -> usize {
        self.0.len()
    }
}

impl Shared {
    fn new(load: &Load) -> Rc<Self> {
        Rc::new(Self {
            load: load.clone(),
            is_measuring: Cell::new(false),
            micros: RefCell::new(Vec::with_capacity(100_000)),
            others: Cell::new(0),
        })
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One client, which sends so many requests. It ends with the runtime before that.
async fn connection(shared: Rc<Shared>, address: SocketAddr, first: usize, requests: usize) {
    let mut stream = connect(address).await;
    let mut buffer = vec![0; 64 << 10];
    let mut incoming = Incoming::default();
    for at in (first..).step_by(shared.load.connections).take(requests) {
        let request = &shared.load.requests[at % shared.load.requests.len()];
        let begin = Instant::now();
        // Envoy closes a connection on which it has answered before it had read the whole request.
        if incoming.header("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")) {
            stream = connect(address).await;
        }
        incoming.clear();
        stream.write_all(request).await.unwrap();
        loop {
            let size = stream.read(&mut buffer).await.unwrap();
            assert_ne!(size, 0, "Envoy closes the connection: {}", incoming.head().escape_ascii());
            if incoming.push(&buffer[..size]) {
                break;
            }
        }
        if shared.is_measuring.get() {
            shared.micros.borrow_mut().push(begin.elapsed().as_secs_f64() * 1e6);
            if incoming.status() != shared.load.status {
                shared.others.set(shared.others.get() + 1);
            }
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
