//! The upstream: a thread that answers every request at once with prepared bytes, so that the gateway is what is
//! measured.

use crate::http::Incoming;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The request header that chooses the answer: [`STREAM`] or [`HELD`]; without it, JSON.
pub const ANSWER: &str = "x-answer";

/// The answer in a stream of events, a few in a packet.
pub const STREAM: &str = "stream";

/// A stream whose end never comes.
pub const HELD: &str = "held";

/// Events of a stream with a word of the answer.
const WORDS: usize = 16;

/// Events of a packet. With one in each, the upstream would take longer than Envoy.
const EVENTS_OF_A_PACKET: usize = 5;

/// The text of an answer in JSON, about as many tokens.
const ANSWER_TEXT: &str = "Hello! How can I assist you today? I can answer questions.";

/// A running upstream; it ends with the process.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
}

impl Upstream {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream));
                    }
                }
            });
        });
        Self { address }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers the requests of one connection until Envoy closes it.
async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let packets = packets();
    let mut buffer = vec![0; 256 << 10];
    let mut incoming = Incoming::default();
    loop {
        match stream.read(&mut buffer).await {
            Ok(size) if size > 0 => {
                if !incoming.push(&buffer[..size]) {
                    continue;
                }
            }
            _ => return,
        }
        let written = match incoming.header(ANSWER) {
            None => stream.write_all(&json(prompt_tokens(&incoming))).await,
            Some(answer) => {
                let sent = if answer == HELD.as_bytes() { &packets[..1] } else { &packets[..] };
                let mut written = Ok(());
                for packet in sent {
                    written = written.and(stream.write_all(packet).await);
                }
                written
            }
        };
        if written.is_err() {
            return;
        }
        incoming.clear();
    }
}

/// The tokens of a prompt in a request of this size, about.
fn prompt_tokens(request: &Incoming) -> usize {
    let size = request.header("content-length").and_then(|value| std::str::from_utf8(value).ok());
    size.and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0) / 4
}

/// A chat completion, with its head.
fn json(prompt_tokens: usize) -> Vec<u8> {
    let body = json_body(prompt_tokens);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// A chat completion that reports so many tokens of the prompt.
pub fn json_body(prompt_tokens: usize) -> String {
    let total = prompt_tokens + WORDS;
    let message = format!(r#"{{"role":"assistant","content":"{ANSWER_TEXT}","refusal":null}}"#);
    let usage =
        format!(r#"{{"prompt_tokens":{prompt_tokens},"completion_tokens":{WORDS},"total_tokens":{total}}}"#);
    let choice = format!(r#"{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}"#);
    format!(
        r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,{}}}"#,
        format_args!(r#""model":"gpt-4o-2024-08-06","choices":[{choice}],"usage":{usage}"#)
    )
}

/// A stream's head and its events, each in a chunk of its own, in packets.
fn packets() -> Vec<Vec<u8>> {
    let texts = event_texts();
    let mut chunks: Vec<String> =
        texts.iter().map(|text| format!("{:x}\r\n{text}\r\n", text.len())).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    chunks[0].insert_str(0, head);
    chunks.last_mut().unwrap().push_str("0\r\n\r\n");
    chunks.chunks(EVENTS_OF_A_PACKET).map(|events| events.concat().into_bytes()).collect()
}

/// The events of a stream: the words of the answer, its end, its usage, and the end of the stream.
pub fn event_texts() -> Vec<String> {
    let event = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\
             \"created\":1741569952,\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        )
    };
    let word = r#"{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}"#;
    let stop = r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#;
    let total = 25 + WORDS;
    let usage = format!(r#"{{"prompt_tokens":25,"completion_tokens":{WORDS},"total_tokens":{total}}}"#);
    let mut texts = vec![event(word, "null"); WORDS];
    texts.extend([event(stop, "null"), event("", &usage), "data: [DONE]\n\n".to_owned()]);
    texts
}
