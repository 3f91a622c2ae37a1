//! A connection on which a test sends any bytes it likes, including those that an HTTP client would not send.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP/1.1 connection. Dropping it closes it.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer as it was sent.
#[derive(Debug)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// Body, chunks joined.
    pub body: String,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends bytes to a peer that may have closed the connection.
    ///
    /// # Errors
    /// If it has closed it.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Closes the sending half of the connection; answers can still be read.
    pub async fn close_half(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Sends the head of `POST path` with these header lines besides `host`.
    pub async fn post(&mut self, path: &str, headers: &[&str]) {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: gateway\r\n");
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        self.send(head + "\r\n").await;
    }

    /// Reads up to and including `end`.
    ///
    /// # Panics
    /// If the connection ends first, or nothing comes within [`PATIENCE`].
    pub async fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                let rest = self.received.split_off(at + end.len());
                return std::mem::replace(&mut self.received, rest);
            }
            let mut buffer = [0; 16 * 1024];
            let length = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("no answer").unwrap();
            let text = || String::from_utf8_lossy(&self.received).into_owned();
            assert!(length > 0, "the connection ended after {:?}", text());
            self.received.extend_from_slice(&buffer[..length]);
        }
    }

    /// Reads an answer to its end.
    pub async fn answer(&mut self) -> RawAnswer {
        let head = String::from_utf8(self.read_until(b"\r\n\r\n").await).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = Vec::new();
        if field("transfer-encoding:") == Some("chunked") {
            loop {
                let size = self.read_until(b"\r\n").await;
                let size = std::str::from_utf8(&size).unwrap().trim();
                let chunk = self.read_exactly(usize::from_str_radix(size, 16).unwrap() + 2).await;
                if chunk == b"\r\n" {
                    break;
                }
                body.extend_from_slice(&chunk[..chunk.len() - 2]);
            }
        } else if let Some(length) = field("content-length:") {
            body = self.read_exactly(length.parse().unwrap()).await;
        }
        RawAnswer { status, head, body: String::from_utf8(body).unwrap() }
    }

    async fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            let mut buffer = [0; 16 * 1024];
            let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("no answer").unwrap();
            assert!(read > 0, "the connection ended in a body");
            self.received.extend_from_slice(&buffer[..read]);
        }
        let rest = self.received.split_off(length);
        std::mem::replace(&mut self.received, rest)
    }
}
