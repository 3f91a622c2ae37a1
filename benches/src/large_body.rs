//! A body of 20 MB, of images in base64 or of text: its duration, the delay of other requests, and its memory. Then
//! small requests beside one such prompt a second.

use crate::stacks::{Kind, Stacks};
use crate::statistics::{self, Spread};
use llm_rate_limit_tests::envoy::Envoy;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Turns of each case; odd, so that there is a median.
const TURNS: usize = 3;

/// Text of which one copy is about seventy bytes.
const PROSE: &str = "The quick brown fox jumps over the lazy dog while the band plays on. ";

/// A key with limits on requests and tokens, and one with a limit that a body of 20 MB of text is too large for.
const LIMITED: &str = "limited";
const BOUNDED: &str = "bounded";

/// The connections on which small requests come beside large prompts, and the time between two requests of each.
const CONNECTIONS_BESIDE: u32 = 16;
const PERIOD: Duration = Duration::from_millis(80);

/// How long they are measured.
const MEASURED: Duration = Duration::from_secs(5);

/// The durations of one Envoy in one turn.
struct Turn {
    /// The median duration from the first byte of a large request to the last byte of its answer.
    large: Duration,
    /// The slowest small request on another connection to the same worker.
    slowest_small: Duration,
}

/// The tables of bare Envoy and of the filter, in turns.
pub fn measure(stacks: &Stacks) -> String {
    let bare = stacks.start_with(Kind::Bare, stacks.of_kind(Kind::Bare, 1, false));
    let limits = json!({"keys": [
        {"key": LIMITED, "rpm": 100_000_000, "tpm": 100_000_000_000_u64, "rpd": 1_000_000_000},
        {"key": BOUNDED, "input_tpm": 1_000_000},
    ]});
    let filter = stacks.limiter(Kind::Local, 1, limits);
    let (bare, filter) = (&bare.envoy, &filter.envoy);
    let picture =
        format!("data:image/png;base64,{}", "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB".repeat(27_000));
    let part = json!({"type": "image_url", "image_url": {"url": picture}});
    let mut text = String::from("## Large bodies\n\n| | bare Envoy | filter | ratio |\n|---|---|---|---|\n");
    alone(&mut text, [bare, filter], "images in base64", LIMITED, &chat(&Value::Array(vec![part; 20])));
    alone(
        &mut text,
        [bare, filter],
        "text that is far too much",
        BOUNDED,
        &chat(&json!(PROSE.repeat(300_000))),
    );
    beside(&mut text, bare, filter);
    text
}

/// Text of so many bytes in which no word comes often, so that each takes its time to be counted.
fn various_text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 20);
    let mut state = 1_u64;
    while text.len() < bytes {
        // Knuth's generator: the same text in each run.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (mut letters, length) = (state >> 24, 2 + (state >> 60) % 9);
        for _ in 0..length {
            text.push(char::from(b'a' + (letters % 26) as u8));
            letters /= 26;
        }
        text.push(' ');
    }
    text
}

/// The duration of small requests beside one large prompt a second, which all limits admit.
fn beside(text: &mut String, bare: &Envoy, filter: &Envoy) {
    let prompt = chat(&json!(various_text(20_000_000)));
    let turns: Vec<_> =
        (0..TURNS).map(|_| (small_beside(bare, &prompt), small_beside(filter, &prompt))).collect();
    for (case, share) in [("median", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let of = |durations: &Vec<f64>| statistics::at(durations, share) * 1e3;
        let baseline = Spread::of(turns.iter().map(|(bare, _)| of(bare))).median;
        let filtered = Spread::of(turns.iter().map(|(_, filter)| of(filter))).median;
        let _ = writeln!(
            text,
            "| small requests beside a prompt of {:.1} MB a second, {case} | {baseline:.1} ms | {filtered:.1} ms | |",
            prompt.len() as f64 / 1e6
        );
    }
}

/// The durations of small requests in seconds, from the shortest to the longest, beside large prompts. The first prompt
/// is not measured.
///
/// Small requests begin at their times whether others have been answered or not, as those of many clients do, and their
/// durations count from these times. Otherwise a worker that stands still would delay no more than one of them.
fn small_beside(envoy: &Envoy, prompt: &str) -> Vec<f64> {
    let (prompts, small) = (Client::of(envoy, LIMITED), chat(&json!("Hello!")));
    prompts.ask(prompt, 200);
    let begin = Instant::now() + Duration::from_millis(50);
    let sleep_until = |time: Instant| std::thread::sleep(time.saturating_duration_since(Instant::now()));
    let ask_in_time = |connection: u32| {
        let client = Client::of(envoy, LIMITED);
        let offset = PERIOD * connection / CONNECTIONS_BESIDE;
        let times = (0..).map(|n| begin + offset + PERIOD * n).take_while(|time| *time < begin + MEASURED);
        let durations = times.map(|time| {
            sleep_until(time);
            client.ask(&small, 200);
            time.elapsed().as_secs_f64()
        });
        durations.collect::<Vec<_>>()
    };
    let ask_in_time = &ask_in_time;
    let mut durations: Vec<f64> = std::thread::scope(|scope| {
        let beside: Vec<_> = (0..CONNECTIONS_BESIDE).map(|n| scope.spawn(move || ask_in_time(n))).collect();
        for second in 0..MEASURED.as_secs() {
            sleep_until(begin + Duration::from_secs(second));
            prompts.ask(prompt, 200);
        }
        beside.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    durations.sort_by(f64::total_cmp);
    durations
}

/// The duration of one large body at a time, of small requests beside it, and the memory that it takes.
fn alone(text: &mut String, [bare, filter]: [&Envoy; 2], what: &str, key: &str, body: &str) {
    let what = format!("{:.1} MB of {what}", body.len() as f64 / 1e6);
    let memory = || [bare.peak_memory_mib(), filter.peak_memory_mib()];
    let before = memory();
    let status = if key == BOUNDED { 429 } else { 200 };
    let turns: Vec<_> =
        (0..TURNS).map(|_| (turn(bare, key, body, 200), turn(filter, key, body, status))).collect();
    let mut row = |case: &str, of: fn(&Turn) -> Duration| {
        let ms = |turn: &Turn| of(turn).as_secs_f64() * 1e3;
        let baseline = Spread::of(turns.iter().map(|(bare, _)| ms(bare))).median;
        let filtered = Spread::of(turns.iter().map(|(_, filter)| ms(filter))).median;
        let ratio = Spread::of(turns.iter().map(|(bare, filter)| ms(filter) / ms(bare))).median;
        let _ = writeln!(text, "| {what}{case} | {baseline:.0} ms | {filtered:.0} ms | {ratio:.2} |");
    };
    row("", |turn| turn.large);
    row(": the slowest of small requests beside it", |turn| turn.slowest_small);
    let [bare, filter] = [0, 1].map(|of| memory()[of] - before[of]);
    let _ = writeln!(text, "| {what}: memory that Envoy needs for it | {bare} MiB | {filter} MiB | |");
}

fn turn(envoy: &Envoy, key: &str, body: &str, status: u16) -> Turn {
    let small = chat(&json!("Hello!"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let client = Client::of(envoy, LIMITED);
            let mut slowest = Duration::ZERO;
            client.ask(&small, 200);
            while !over.load(Ordering::Relaxed) {
                slowest = slowest.max(timed(|| client.ask(&small, 200)));
            }
            slowest
        });
        let client = Client::of(envoy, key);
        let large: Vec<f64> = (0..10).map(|_| timed(|| client.ask(body, status)).as_secs_f64()).collect();
        over.store(true, Ordering::Relaxed);
        Turn {
            large: Duration::from_secs_f64(Spread::of(large).median),
            slowest_small: beside.join().unwrap(),
        }
    })
}

fn timed(run: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    run();
    begin.elapsed()
}

fn chat(content: &Value) -> String {
    json!({"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": content}]})
        .to_string()
}

/// A connection to an Envoy.
struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Client {
    fn of(envoy: &Envoy, key: &str) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, url: envoy.url("/v1/chat/completions"), authorization: format!("Bearer {key}") }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// If that does not have this status.
    fn ask(&self, body: &str, status: u16) {
        let request = self.agent.post(&self.url).content_type("application/json");
        let mut answer = request.header("authorization", &self.authorization).send(body).unwrap();
        assert_eq!(answer.status().as_u16(), status);
        answer.body_mut().read_to_string().unwrap();
    }
}
