//! The clients of a soak: they run errands at a steady rate and note what they have seen.

use crate::act::{NUMBER, Seen};
use crate::api::Api;
use crate::caller::{Caller, hello_with};
use crate::errand::{Errand, LARGE_WORDS, TIGHT_TOKENS, errand};
use crate::fleet::OnError;
use crate::routes::NOWHERE;
use llm_rate_limit_tests::mock_llm::MockLlm;
use mock_llm::journal::Ended;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Whoever has no answer after this long hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(60);

/// How many clients there are at most.
const CLIENTS: usize = 300;

/// How often the upstream's record of requests is read, which has only the last few thousand.
const JOURNAL_READ_EVERY: Duration = Duration::from_secs(2);

/// Connections to one Envoy, over HTTP/1.1 and over HTTP/2.
#[derive(Clone)]
pub struct Door {
    http: [Client; 2],
    url: String,
}

impl Door {
    /// New connections to `url`. Those who wait for a connection over HTTP/2 that somebody else opens have none if that
    /// one leaves: one is there before anybody does.
    pub async fn to(url: String) -> Self {
        // The errand's own time limit is shorter.
        let client = || Client::builder().timeout(2 * HANGS_AFTER);
        let http = [client().build().unwrap(), client().http2_prior_knowledge().build().unwrap()];
        for client in &http {
            client.get(format!("{url}{NOWHERE}/")).send().await.unwrap();
        }
        Self { http, url }
    }

    fn caller(&self, key: &str, http2: bool) -> Caller {
        Caller::by(self.http[usize::from(http2)].clone(), &self.url, key)
    }
}

/// An errand that is over.
#[derive(Debug)]
pub struct Run {
    /// What it was.
    pub errand: Errand,
    /// The Envoy that it went through.
    pub proxy: usize,
    /// What its client saw.
    pub seen: Seen,
    /// When its client sent it.
    pub sent: Instant,
    /// When its client had the whole answer, or left.
    pub ended: Instant,
    /// From when to when its client certainly held a slot.
    pub held: Option<(Instant, Instant)>,
    /// Whether its client waited in vain.
    pub hung: bool,
}

/// What the clients of an era have seen, and the upstream: by number of the request.
#[derive(Debug, Default)]
pub struct Runs {
    /// What the clients have seen.
    pub runs: HashMap<usize, Run>,
    /// How the last attempt of each request ended upstream.
    pub upstream: HashMap<usize, Option<Ended>>,
}

impl Runs {
    /// Reads the upstream's record.
    pub fn read_journal(&mut self, mock: &MockLlm) {
        for received in mock.received() {
            if let Some(number) =
                received.headers.get(NUMBER).and_then(|number| number.to_str().ok()?.parse().ok())
            {
                self.upstream.insert(number, received.ended);
            }
        }
    }
}

/// The traffic of an era.
pub struct Traffic {
    /// The Envoys.
    pub doors: [Door; 2],
    /// What the second Envoy does without the store's answer.
    pub on_error: OnError,
    /// The upstream.
    pub mock: Arc<MockLlm>,
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
    /// The number of the first request.
    pub first: usize,
}

impl Traffic {
    /// Sends requests that `random` chooses; returns when all clients are gone.
    pub async fn run(self, random: &mut TestRunner) -> Runs {
        let (errands, which) = (errand(), proptest::bool::ANY);
        let mut runs = Runs::default();
        let (mut tasks, places) = (JoinSet::new(), Arc::new(Semaphore::new(CLIENTS)));
        let mut clock = interval(Duration::from_secs_f64(1.0 / self.rate));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (began, mut journal_read) = (Instant::now(), Instant::now());
        let mut number = self.first;
        while began.elapsed() < self.lasts {
            clock.tick().await;
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let errand = errands.new_tree(random).unwrap().current();
            let second = which.new_tree(random).unwrap().current();
            // An Envoy that forwards without an answer does not keep a tight limit.
            let proxy = usize::from(second && (self.on_error == OnError::Deny || !errand.is_tight()));
            let (door, mock) = (self.doors[proxy].clone(), Arc::clone(&self.mock));
            tasks.spawn(async move {
                let run = run(errand, proxy, number, &door, &mock).await;
                drop(place);
                (number, run)
            });
            number += 1;
            while let Some(done) = tasks.try_join_next() {
                runs.runs.extend([done.unwrap()]);
            }
            if journal_read.elapsed() >= JOURNAL_READ_EVERY {
                runs.read_journal(&self.mock);
                journal_read = Instant::now();
            }
        }
        runs.runs.extend(tasks.join_all().await);
        runs
    }
}

async fn run(errand: Errand, proxy: usize, number: usize, door: &Door, mock: &MockLlm) -> Run {
    let sent = Instant::now();
    let mut held = None;
    let seen = timeout(HANGS_AFTER, play(&errand, number, door, mock, &mut held)).await;
    let hung = seen.is_err();
    Run { errand, proxy, seen: seen.unwrap_or_default(), sent, ended: Instant::now(), held, hung }
}

async fn play(
    errand: &Errand,
    number: usize,
    door: &Door,
    mock: &MockLlm,
    held: &mut Option<(Instant, Instant)>,
) -> Seen {
    let key = errand.key();
    if let Errand::Booked(_, act) = errand {
        let begun = sleep(Duration::from_millis(number as u64 % 50));
        return act.play(number, &door.caller(&key, act.http2), begun).await;
    }
    let caller = door.caller(&key, number.is_multiple_of(2));
    let chat = |members: Value| caller.chat(&hello_with(members)).header(NUMBER, number);
    let tiny = |words: u64| {
        chat(json!({"model": "tiny", "max_tokens": words}))
            .header("x-mock-prompt-tokens", Api::Chat.hello_tokens())
    };
    let request = match errand {
        Errand::Booked(..) => unreachable!("played above"),
        Errand::Slot(ms) => return slot(number, *ms, &caller, mock, held).await,
        Errand::TightTokens => tiny(TIGHT_TOKENS - Api::Chat.hello_tokens()),
        Errand::TightRequests | Errand::Patient | Errand::Invented(_) | Errand::Nothing => tiny(4),
        Errand::Broken(_) => caller
            .request(Method::POST, Api::Chat.path())
            .header(NUMBER, number)
            .header("content-type", "application/json")
            .body(r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hel"#),
        Errand::Rejected => {
            caller.request(Method::POST, "/rejected/path").header(NUMBER, number).json(&json!({}))
        }
        Errand::Large(_) => chat(json!({
            "messages": [{"role": "user", "content": "word ".repeat(LARGE_WORDS)}],
            "max_tokens": 16,
        })),
    };
    let Ok((status, _)) = whole(request).await else { return Seen::default() };
    Seen { status: Some(status), words: 0 }
}

/// The status and body of the answer.
async fn whole(request: RequestBuilder) -> reqwest::Result<(u16, String)> {
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// A stream that the upstream holds back as long as its client likes: so long it certainly takes a slot.
async fn slot(
    number: usize,
    ms: u64,
    caller: &Caller,
    mock: &MockLlm,
    held: &mut Option<(Instant, Instant)>,
) -> Seen {
    let gate = format!("slot-{number}");
    let body = hello_with(json!({"model": "tiny", "stream": true, "max_tokens": 3}));
    let request = caller.chat(&body).header(NUMBER, number).header("x-mock-gate", &gate);
    let Ok(answer) = request.send().await else { return Seen::default() };
    let status = answer.status().as_u16();
    if status == 200 {
        let from = Instant::now();
        sleep(Duration::from_millis(ms)).await;
        *held = Some((from, Instant::now()));
        mock.let_through(&gate, 100);
    }
    match answer.bytes().await {
        Ok(_) => Seen { status: Some(status), words: 0 },
        Err(_) => Seen::default(),
    }
}
