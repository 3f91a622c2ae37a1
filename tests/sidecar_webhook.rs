//! Warnings to a webhook: on a real Redis, by two real sidecars, to a receiver that verifies what it gets.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use llm_rate_limit::quantity::Units;
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges, Settle};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

const SECRET: &str = "a-secret-of-the-test";

/// A message that the receiver got.
struct Message {
    headers: HeaderMap,
    body: String,
}

/// A webhook that answers with statuses one after the other, the last of them for good.
struct Receiver {
    url: String,
    messages: UnboundedReceiver<Message>,
}

struct Answers {
    statuses: std::sync::Mutex<Vec<u16>>,
    messages: UnboundedSender<Message>,
}

impl Receiver {
    async fn start(statuses: &[u16]) -> Self {
        let (sender, messages) = unbounded_channel();
        let statuses = std::sync::Mutex::new(statuses.iter().rev().copied().collect());
        let answers = Arc::new(Answers { statuses, messages: sender });
        let router = Router::new().route("/hook", post(receive)).with_state(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { url, messages }
    }

    async fn next(&mut self) -> Message {
        timeout(Duration::from_secs(30), self.messages.recv()).await.expect("a message").unwrap()
    }
}

async fn receive(State(answers): State<Arc<Answers>>, headers: HeaderMap, body: String) -> StatusCode {
    let mut statuses = answers.statuses.lock().unwrap();
    let status = if statuses.len() > 1 { statuses.pop() } else { statuses.last().copied() };
    answers.messages.send(Message { headers, body }).unwrap();
    StatusCode::from_u16(status.unwrap()).unwrap()
}

impl Message {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn data(&self) -> Value {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["type"], "rate_limit.warning");
        body["data"].clone()
    }

    /// Computes the signature with `openssl`, which shares no code with the sidecar.
    async fn verify(&self) {
        let signed =
            format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let script = format!("openssl dgst -sha256 -hmac {SECRET} -binary | base64 -w0");
        let mut openssl = tokio::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = openssl.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, signed.as_bytes()).await.unwrap();
        drop(stdin);
        let output = openssl.wait_with_output().await.unwrap();
        let expected = format!("v1,{}", String::from_utf8(output.stdout).unwrap());
        assert_eq!(self.header("webhook-signature"), expected);
    }
}

async fn sidecar(redis: &Redis, receiver: &Receiver) -> Sidecar {
    let settings = [("WEBHOOK_URL", receiver.url.as_str()), ("WEBHOOK_SECRET", SECRET)];
    let sidecar = Sidecar::start(&redis.url(), &settings);
    sidecar.wait_until_ready_is(200).await;
    sidecar
}

/// A reservation of one request of `owner`, of ten in an hour, that warns from the eighth on.
fn one_of_ten(owner: &str, id: impl ToString) -> Reserve {
    let ScopeCharges { scope, charges } = hourly(owner, "requests", 10, 1);
    let charges = charges.into_iter().map(|charge| Charge { warn_at: Some(Units::new(8)), ..charge });
    let charges = vec![ScopeCharges { scope, charges: charges.collect() }];
    Reserve { id: format!("{owner}-{}", id.to_string()), charges, ..Reserve::default() }
}

async fn spend(sidecar: &Sidecar, owner: &str, ids: std::ops::Range<u32>) -> Vec<Reserved> {
    let batch: Vec<_> = ids.map(|id| one_of_ten(owner, id)).collect();
    sidecar.reserve(&batch).await
}

#[tokio::test]
async fn the_fleet_reports_a_limit_once() {
    let redis = Redis::start();
    let mut receiver = Receiver::start(&[200]).await;
    let (first, second) = (sidecar(&redis, &receiver).await, sidecar(&redis, &receiver).await);
    spend(&first, "me", 0..7).await;
    spend(&first, "me", 7..8).await;
    let message = receiver.next().await;
    message.verify().await;
    let data = message.data();
    assert!(data["reset_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 3_660_000), "{data}");
    let expected = json!({
        "namespace": "", "scope": "me", "identity": "me", "limit": "requests", "window": "1h",
        "used": 8, "reserved": false, "limit_amount": 10, "warn_at": 8, "reset_ms": data["reset_ms"],
    });
    assert_eq!(data, expected);
    // The same limit is reported already, whoever finds it; that of somebody else is not.
    spend(&first, "me", 8..9).await;
    spend(&second, "me", 9..12).await;
    spend(&second, "other", 0..9).await;
    assert_eq!(receiver.next().await.data()["identity"], "other");
    let by_another = "llm_rate_limit_sidecar_webhooks_total{outcome=\"reported_by_another\"}";
    while second.metric(by_another).await < 1.0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(receiver.messages.try_recv().is_err());
}

/// A reservation of `cost` tokens of `owner`, of 1,000 in an hour, that warns from 800 on.
fn tokens(owner: &str, id: u32, cost: u64) -> Reserve {
    let ScopeCharges { scope, charges } = hourly(owner, "total_tokens", 1_000, cost);
    let charges = charges.into_iter().map(|charge| Charge { warn_at: Some(Units::new(800)), ..charge });
    let charges = vec![ScopeCharges { scope, charges: charges.collect() }];
    Reserve { id: format!("{owner}-{id}"), charges, ..Reserve::default() }
}

/// The settlement of `one` to `cost` tokens.
fn spent(one: &Reserve, cost: u64) -> Settle {
    let charges = ScopeCharges::changed(&one.charges, |charge| charge.cost = Units::new(cost));
    Settle { id: one.id.clone(), charges, ..Settle::default() }
}

#[tokio::test]
async fn tokens_are_reported_when_they_are_used_and_reserved_ones_when_they_refuse() {
    let redis = Redis::start();
    let mut receiver = Receiver::start(&[200]).await;
    let sidecar = sidecar(&redis, &receiver).await;
    let [first, refused, second, third] =
        [(1, 900), (2, 200), (3, 600), (4, 100)].map(|(id, cost)| tokens("me", id, cost));
    // What is reserved is no news until somebody is refused for it, and takes no news away.
    sidecar.reserve(std::slice::from_ref(&first)).await;
    sidecar.reserve(&[refused]).await;
    let message = receiver.next().await.data();
    assert_eq!((&message["used"], &message["reserved"]), (&json!(900), &json!(true)));
    sidecar.settle(&[spent(&first, 300)]).await;
    sidecar.reserve(std::slice::from_ref(&second)).await;
    sidecar.settle(&[spent(&second, 500)]).await;
    let message = receiver.next().await.data();
    assert_eq!((&message["used"], &message["reserved"]), (&json!(800), &json!(false)));
    sidecar.reserve(&[third.clone(), tokens("me", 5, 500)]).await;
    sidecar.settle(&[spent(&third, 90)]).await;
    // Where use comes first, nothing is left to say of what is reserved.
    let only = tokens("other", 1, 900);
    sidecar.reserve(std::slice::from_ref(&only)).await;
    sidecar.settle(&[spent(&only, 850)]).await;
    sidecar.reserve(&[tokens("other", 2, 200)]).await;
    let message = receiver.next().await.data();
    assert_eq!((&message["identity"], &message["reserved"]), (&json!("other"), &json!(false)));
    spend(&sidecar, "last", 0..8).await;
    assert_eq!(receiver.next().await.data()["identity"], "last");
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_message_again() {
    let redis = Redis::start();
    let mut receiver = Receiver::start(&[500, 200]).await;
    let sidecar = sidecar(&redis, &receiver).await;
    spend(&sidecar, "me", 0..8).await;
    let (failed, again) = (receiver.next().await, receiver.next().await);
    assert_eq!(failed.header("webhook-id"), again.header("webhook-id"));
    assert_eq!(failed.body, again.body);
    again.verify().await;
}

#[tokio::test]
async fn what_a_stopping_sidecar_has_found_is_delivered() {
    let redis = Redis::start();
    let mut receiver = Receiver::start(&[500, 200]).await;
    let mut sidecar = sidecar(&redis, &receiver).await;
    spend(&sidecar, "me", 0..8).await;
    receiver.next().await;
    sidecar.process().signal(Signal::SIGTERM);
    receiver.next().await;
}

#[tokio::test]
async fn nobody_waits_for_a_receiver_that_does_not_answer() {
    let redis = Redis::start();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver {
        url: format!("http://{}/", silent.local_addr().unwrap()),
        ..Receiver::start(&[200]).await
    };
    let sidecar = sidecar(&redis, &receiver).await;
    for owner in 0..40 {
        let answers = timeout(Duration::from_secs(4), spend(&sidecar, &format!("owner-{owner}"), 0..9)).await;
        assert!(
            answers.expect("an answer").iter().all(|a| matches!(a, Reserved::Decided { admitted: true, .. }))
        );
    }
}
