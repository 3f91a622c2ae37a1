//! The mock LLM inside the test's process, on its own runtime, so that a test that blocks does not stall its upstream.

use mock_llm::gates::Gates;
use mock_llm::journal::{Journal, Received, Report};
use std::net::{self, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// A running mock. Dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct MockLlm {
    address: SocketAddr,
    journal: Arc<Journal>,
    gates: Arc<Gates>,
    runtime: Option<Runtime>,
}

impl MockLlm {
    /// Starts one on a free loopback port.
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let journal = Arc::<Journal>::default();
        let gates = Arc::<Gates>::default();
        let router = mock_llm::router(Arc::clone(&journal), Arc::clone(&gates));
        // `block_on` is not allowed on the thread of an asynchronous test.
        runtime.spawn(async move { mock_llm::serve(TcpListener::from_std(listener).unwrap(), router).await });
        Self { address, journal, gates, runtime: Some(runtime) }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counts of requests and answers.
    pub fn report(&self) -> Report {
        self.journal.report()
    }

    /// The last requests, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.journal.received()
    }

    /// The last requests that have `authorization: Bearer <key>`, oldest first. Other requests may have no such header.
    pub fn received_from(&self, key: &str) -> Vec<Received> {
        let mut received = self.received();
        let value = format!("Bearer {key}");
        received.retain(|request| request.headers.get("authorization").is_some_and(|found| *found == value));
        received
    }

    /// Lets this many more pieces of answers through the gate `name` (`x-mock-gate`).
    pub fn let_through(&self, name: &str, pieces: usize) {
        self.gates.open(name, pieces);
    }

    /// Makes `body` the answer to requests with `x-mock-answer: <name>`.
    ///
    /// # Panics
    /// If the mock does not take it.
    pub async fn give(&self, name: &str, content_type: &str, body: impl Into<reqwest::Body>) {
        let url = format!("http://{}/mock/answers/{name}", self.address);
        let put = reqwest::Client::new().put(url).header("content-type", content_type).body(body);
        assert_eq!(put.send().await.unwrap().status(), 204);
    }

    /// Sets its counts to zero.
    pub fn forget(&self) {
        self.journal.forget();
    }
}

impl Drop for MockLlm {
    fn drop(&mut self) {
        // Dropping a runtime inside a task of another would panic; this is allowed anywhere.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
