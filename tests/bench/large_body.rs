//! A body of 20 MB, of images in base64 or of text: its duration, the delay of other requests, and its memory.

use crate::{BOUNDED, Client, LIMITED, PROSE, TURNS, chat, median};
use llm_rate_limit_tests::envoy::Envoy;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The durations of one Envoy in one turn.
struct Turn {
    /// The median duration from the first byte of a large request to the last byte of its answer.
    large: Duration,
    /// The slowest small request on another connection to the same worker.
    slowest_small: Duration,
}

/// Measures both Envoys in turns and prints the results.
pub fn compare(bare: &Envoy, filter: &Envoy) {
    let picture =
        format!("data:image/png;base64,{}", "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB".repeat(27_000));
    let part = json!({"type": "image_url", "image_url": {"url": picture}});
    of(bare, filter, "images in base64", LIMITED, &chat(&Value::Array(vec![part; 20])));
    of(bare, filter, "text that is far too much", BOUNDED, &chat(&json!(PROSE.repeat(300_000))));
}

fn of(bare: &Envoy, filter: &Envoy, what: &str, key: &str, body: &str) {
    println!();
    println!("a body of {:.1} MB, {what}, one at a time", body.len() as f64 / 1e6);
    println!("{:<44}{:>12}{:>12}{:>8}", "case", "bare Envoy", "filter", "ratio");
    let memory = || [bare.peak_memory_mib(), filter.peak_memory_mib()];
    let before = memory();
    let status = if key == BOUNDED { 429 } else { 200 };
    let turns: Vec<_> =
        (0..TURNS).map(|_| (turn(bare, key, body, 200), turn(filter, key, body, status))).collect();
    let print = |case: &str, of: fn(&Turn) -> Duration| {
        let ms = |turn: &Turn| of(turn).as_secs_f64() * 1e3;
        let baseline = median(turns.iter().map(|(bare, _)| ms(bare)).collect());
        let filtered = median(turns.iter().map(|(_, filter)| ms(filter)).collect());
        let ratio = median(turns.iter().map(|(bare, filter)| ms(filter) / ms(bare)).collect());
        println!("{case:<44}{baseline:>9.0} ms{filtered:>9.0} ms{ratio:>8.2}");
    };
    print("the request itself", |turn| turn.large);
    print("the slowest of small requests beside it", |turn| turn.slowest_small);
    let [bare, filter] = [0, 1].map(|of| memory()[of] - before[of]);
    println!("{:<44}{bare:>8} MiB{filter:>8} MiB", "memory that Envoy needs for it");
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
        let large = (0..20).map(|_| timed(|| client.ask(body, status)).as_secs_f64()).collect();
        over.store(true, Ordering::Relaxed);
        Turn { large: Duration::from_secs_f64(median(large)), slowest_small: beside.join().unwrap() }
    })
}

fn timed(run: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    run();
    begin.elapsed()
}
