//! The sidecar or Redis is gone, stuck, or answers nonsense: requests are answered soon, as `on_error` says, and limits
//! hold again once the store is back.
//!
//! The durations here are bounds on Envoy's clock, which decides when the filter stops waiting for the store.

use crate::caller::{Answer, CHAT, Caller, hello};
use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit_tests::process::Process;
use llm_rate_limit_tests::sidecar::launch;
use nix::sys::signal::Signal;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long the filter waits for the store.
const TIMEOUT_MS: u64 = 300;

/// The longest that nearly all requests may take during an outage.
const SOON: Duration = Duration::from_secs(1);

/// The longest that any request may take on a busy machine. A request that hangs takes longer.
const LONGEST: Duration = Duration::from_secs(6);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Outage {
    RedisKilled,
    RedisStuck,
    SidecarKilled,
    SidecarStuck,
}

/// A gateway with a sidecar that a test can stop and replace.
struct Frail {
    gateway: Gateway,
    /// The sidecar that has replaced the gateway's first one.
    replacement: Option<Process>,
}

impl Frail {
    async fn start(on_error: Value) -> Self {
        let mut limits = json!({
            "keys": [
                {"key": "load", "rpm": 1_000_000},
                {"key": "ten", "rpm": 10, "output_tpm": 1_000_000},
            ],
            "default": {"rpm": 3},
            "output_reservation": {"mode": "declared"},
        });
        limits["store"] = json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": TIMEOUT_MS});
        limits["store"].as_object_mut().unwrap().extend(on_error.as_object().unwrap().clone());
        let gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
        Self { gateway, replacement: None }
    }

    fn begin(&mut self, outage: Outage) {
        let fleet = self.gateway.fleet.as_mut().unwrap();
        match outage {
            Outage::RedisKilled => fleet.redis.kill(),
            Outage::RedisStuck => fleet.redis.freeze(),
            Outage::SidecarKilled => self.sidecar().kill(),
            Outage::SidecarStuck => self.sidecar().signal(Signal::SIGSTOP),
        }
    }

    async fn end(&mut self, outage: Outage) {
        let fleet = self.gateway.fleet.as_mut().unwrap();
        match outage {
            Outage::RedisKilled => fleet.redis.restart(),
            Outage::RedisStuck => fleet.redis.thaw(),
            Outage::SidecarKilled => {
                self.replacement = Some(launch(fleet.sidecar.address(), &fleet.redis.url(), &[]));
            }
            Outage::SidecarStuck => self.sidecar().signal(Signal::SIGCONT),
        }
        let ready = format!("http://{}/readyz", self.gateway.fleet.as_ref().unwrap().address());
        eventually("the sidecar is ready", true, async || {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    fn sidecar(&mut self) -> &mut Process {
        let first = self.gateway.fleet.as_mut().unwrap().sidecar.process();
        self.replacement.as_mut().unwrap_or(first)
    }
}

/// Four clients that send one request after the other until they are stopped: the status and duration of each.
fn load(caller: &Caller) -> (tokio::sync::watch::Sender<bool>, JoinHandle<Vec<(u16, Duration)>>) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let caller = caller.clone();
    let clients = async move {
        let clients = (0..4).map(async |_| {
            let mut answers = Vec::new();
            while !*stopped.borrow() {
                let began = Instant::now();
                let status = caller.hello().await.status;
                answers.push((status, began.elapsed()));
            }
            answers
        });
        futures_util::future::join_all(clients).await.concat()
    };
    (stop, tokio::spawn(clients))
}

/// Waits until a stranger without any charge is refused its fourth request within a minute.
async fn limits_hold(frail: &Frail, when: &str) {
    let strangers = Cell::new(0);
    eventually(&format!("limits {when}"), true, async || {
        strangers.set(strangers.get() + 1);
        let caller = frail.gateway.caller(&format!("{when} {}", strangers.get()));
        for _ in 0..3 {
            caller.hello().await;
        }
        caller.hello().await.status == 429
    })
    .await;
}

#[tokio::test]
async fn allow_serves_every_request_and_limits_when_it_can() {
    let mut frail = Frail::start(json!({"on_error": "allow"})).await;
    let (stop, load) = load(&frail.gateway.caller("load"));
    for outage in [Outage::RedisKilled, Outage::RedisStuck, Outage::SidecarKilled, Outage::SidecarStuck] {
        limits_hold(&frail, &format!("before {outage:?}")).await;
        frail.begin(outage);
        let stranger = frail.gateway.caller(&format!("during {outage:?}"));
        for _ in 0..8 {
            let answer = stranger.hello().await;
            assert_eq!(answer.status, 200, "{outage:?}");
        }
        frail.end(outage).await;
        limits_hold(&frail, &format!("after {outage:?}")).await;
    }
    stop.send(true).unwrap();
    let answers = load.await.unwrap();
    assert!(answers.len() > 50, "{}", answers.len());
    assert!(answers.iter().all(|(status, _)| *status == 200));
    let longest = answers.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest < LONGEST, "a request took {longest:?}");
    let late = answers.iter().filter(|(_, took)| *took >= SOON).count();
    assert!(late * 20 <= answers.len(), "{late} of {} requests took {SOON:?} or more", answers.len());
    assert!(frail.gateway.envoy.log().contains("the store did not answer"));
    eventually("requests that were forwarded uncounted", true, async || {
        frail.gateway.envoy.metric("requests", &[("decision", "uncounted")]) >= 32
    })
    .await;
}

#[tokio::test]
async fn deny_answers_in_the_apis_shape_and_charges_nothing() {
    let mut frail = Frail::start(json!({"on_error": "deny"})).await;
    let caller = frail.gateway.caller("ten");
    for (at, outage) in
        [Outage::SidecarStuck, Outage::RedisStuck, Outage::SidecarKilled].into_iter().enumerate()
    {
        let outage_began = frail.gateway.mock.report().requests;
        frail.begin(outage);
        for _ in 0..3 {
            let began = Instant::now();
            let answer = caller.hello().await;
            assert!(began.elapsed() < LONGEST, "{outage:?}: {:?}", began.elapsed());
            assert_eq!(answer.status, 503);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.header("retry-after"), Some("1"));
            assert_eq!(answer.json()["error"]["code"], "rate_limit_unavailable");
            assert_eq!(answer.json()["error"]["type"], "server_error");
        }
        assert_eq!(frail.gateway.mock.report().requests, outage_began, "nothing was forwarded");
        frail.end(outage).await;
        let frail = &frail;
        eventually("requests are answered again", 200, async || {
            frail.gateway.caller("ten").hello().await.status
        })
        .await;
        // The refused reservations may have reached Redis late; the filter cancels them.
        let admitted = frail.gateway.mock.report().requests;
        assert_eq!(admitted, at as u64 + 1);
        eventually("only what was answered is charged", Some(admitted), async || {
            frail.gateway.used("ten", "requests").await
        })
        .await;
    }
}

#[rstest]
#[case(Outage::SidecarKilled)]
#[case(Outage::SidecarStuck)]
#[case(Outage::RedisStuck)]
#[tokio::test]
async fn local_enforces_this_envoys_share_and_charges_the_fleet_later(#[case] outage: Outage) {
    let mut frail = Frail::start(json!({"on_error": "local", "replicas": 2})).await;
    let caller = frail.gateway.caller("ten");
    assert_eq!(caller.hello().await.status, 200);
    eventually("one is charged", Some(1), async || frail.gateway.used("ten", "requests").await).await;
    frail.begin(outage);
    let mut answers = Vec::new();
    for _ in 0..8 {
        let began = Instant::now();
        answers.push(caller.hello().await);
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    let share = [200, 200, 200, 200, 429, 429, 429, 429];
    assert_eq!(statuses, share, "half of the ten, for one of two Envoys, of which it has had one");
    assert_eq!(answers.last().unwrap().number("x-ratelimit-remaining-requests"), 0);
    frail.end(outage).await;
    // Redis learns of the four requests, and that the other four were refused; from then on it decides again.
    eventually("all that was served is charged", Some(5), async || {
        frail.gateway.used("ten", "requests").await
    })
    .await;
    eventually("the fleet's limit", 5, async || {
        caller.too_large().await.number("x-ratelimit-remaining-requests")
    })
    .await;
    for left in (0..5).rev() {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, left));
    }
    assert_eq!(caller.hello().await.status, 429);
}

/// Whatever answers in the sidecar's place, no client waits for long, and `on_error` decides.
#[rstest]
#[case::allow("allow", 200)]
#[case::deny("deny", 503)]
#[case::local("local", 200)]
#[tokio::test]
async fn nonsense_from_the_sidecar_is_no_answer(#[case] on_error: &str, #[case] expected: u16) {
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": TIMEOUT_MS, "on_error": on_error},
        "default": {"rpm": 1000},
    });
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let nonsense = [
        ok(""),
        ok("hello"),
        ok("[]"),
        ok("{}"),
        ok("null"),
        ok(r#"[{"admitted": true, "windows": []}]"#),
        ok(r#"[{"admitted": "yes", "windows": [{"used": 1, "reset_ms": 1, "retry_after_ms": 0}]}]"#),
        ok(r#"[{"admitted": true, "windows": [{"used": -1, "reset_ms": 1e99, "retry_after_ms": 0}]}]"#),
        ok(r#"[{"error": "no", "unavailable": true}]"#),
        ok(&"[".repeat(1_000_000)),
        ok(&r#"[{"admitted": true, "windows": [{"used": 1, "reset_ms": 1, "retry_after_ms": 0}]}]"#
            .repeat(2)),
        "HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"adm".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        "\u{0}".repeat(100),
        String::new(),
    ];
    let count = nonsense.len();
    let impostor = Impostor::start(nonsense.into()).await;
    let gateway =
        Gateway::start_with(Store::Local, |setup| setup.sidecar(impostor.address).filter(&limits)).await;
    let caller = gateway.caller("anybody");
    for at in 0..count {
        let began = Instant::now();
        let answer = Answer::to(caller.request(Method::POST, CHAT).json(&hello())).await;
        assert!(began.elapsed() < LONGEST, "{at}: {:?}", began.elapsed());
        assert_eq!(answer.status, expected, "{at}: {}", answer.text());
        if expected == 503 {
            assert_eq!(answer.json()["error"]["code"], "rate_limit_unavailable", "{at}");
        }
    }
    assert_eq!(gateway.mock.report().requests, if expected == 200 { count as u64 } else { 0 });
    assert!(!gateway.envoy.log().contains("panicked"));
}

/// An answer that refuses a call, or refuses a request by a window in which it fits, is an answer: whoever can bring
/// one about must not pass every limit by it.
#[rstest]
#[case::allow("allow", 503)]
#[case::deny("deny", 503)]
#[case::local("local", 200)]
#[tokio::test]
async fn a_refusal_without_a_reason_is_no_outage(#[case] on_error: &str, #[case] if_refused_call: u16) {
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": TIMEOUT_MS, "on_error": on_error},
        "default": {"rpm": 1000},
    });
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let sentences = [
        ok(r#"[{"error": "no"}]"#),
        ok(r#"[{"admitted": false, "windows": [{"used": 1, "reset_ms": 1, "retry_after_ms": 0}]}]"#),
    ];
    let impostor = Impostor::start(sentences.into()).await;
    let gateway =
        Gateway::start_with(Store::Local, |setup| setup.sidecar(impostor.address).filter(&limits)).await;
    let caller = gateway.caller("anybody");
    assert_eq!([caller.hello().await.status, caller.hello().await.status], [if_refused_call, 503]);
}

/// Answers each reservation with the next of its sentences, and each settlement and probe with nothing.
pub struct Impostor {
    /// Its address.
    pub address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl Impostor {
    /// Starts one with these sentences.
    pub async fn start(sentences: Vec<String>) -> Self {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut sentences = sentences.into_iter();
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 64 * 1024];
                let length = connection.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]);
                let is_probe = request.contains(r#""id":"probe""#);
                let sentence = if request.starts_with("POST /v1/reserve") && !is_probe {
                    sentences.next().unwrap_or_default()
                } else {
                    String::new()
                };
                // The connection closes next, so a client that has gone does not matter.
                let _ = connection.write_all(sentence.as_bytes()).await;
            }
        });
        Self { address, task }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}
