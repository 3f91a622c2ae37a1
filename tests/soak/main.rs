//! `make soak MINUTES=60`: all kinds of traffic at a steady rate, while Redis, the sidecars and the configuration go
//! wrong at random; then the books are compared ([`books`]) and memory is ([`memory`]). It exits with 1 if anything
//! does not balance.
//!
//! A soak is a sequence of eras. In each, the second of two Envoys does something else without the store's answer, and
//! in one of four Redis loses its data. After each, everything comes to rest and the books are compared.
//!
//! `SOAK_MINUTES` is how long the clients send, `SOAK_RATE` how many requests a second, and `SOAK_SEED` repeats the
//! choices of a soak: what is sent, what goes wrong, and when. Without `SOAK_MINUTES` it is short: that is a part of
//! `make test`, so that it does not rot.
//!
//! Left out: responses in the background and WebSockets, whose charges come in other requests' lines of the log; the
//! local store, in which nothing can go wrong but the Envoy.

#[path = "../e2e/act.rs"]
#[allow(dead_code, reason = "the storm uses more of it")]
mod act;
#[path = "../e2e/api.rs"]
mod api;
mod books;
#[path = "../e2e/caller.rs"]
#[allow(dead_code, reason = "the end-to-end tests use more of it")]
mod caller;
mod clients;
mod errand;
mod faults;
mod fleet;
mod log;
mod memory;
#[path = "../e2e/routes.rs"]
mod routes;
mod summary;

use books::{Books, Era};
use clients::{Door, Traffic};
use faults::Plan;
use fleet::{Fleet, OnError};
use memory::Watch;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::env;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};
use summary::Summary;

/// Requests a second, unless `SOAK_RATE` says otherwise.
const RATE: f64 = 100.0;

/// How long a soak without `SOAK_MINUTES` sends.
const SHORT: Duration = Duration::from_secs(12);

/// The longest era.
const LONGEST_ERA: Duration = Duration::from_secs(75);

/// What the second Envoy does without the store's answer, era by era. In the last of them Redis loses its data.
const ERAS: [OnError; 4] = [OnError::Deny, OnError::Local, OnError::Allow, OnError::Local];

fn main() -> ExitCode {
    // As a test among others, it runs unless others are asked for.
    let mut arguments = env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if env::args().any(|argument| argument == "--list")
        || arguments.next().is_some_and(|name| !"soak".contains(&name))
    {
        return ExitCode::SUCCESS;
    }
    let minutes = setting::<f64>("SOAK_MINUTES").map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let lasts = minutes.unwrap_or(SHORT);
    let seed = setting("SOAK_SEED").unwrap_or_else(|| UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    let rate = setting("SOAK_RATE").unwrap_or(RATE);
    println!("SOAK_SEED={seed}: {lasts:?} at {rate} requests a second");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let summary = runtime.block_on(soak(lasts, seed, rate));
    println!("{summary}");
    if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The value of an environment variable, if it is set.
fn setting<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number")))
}

/// Choices that depend on the seed, and on the part of the soak that makes them.
fn random(seed: u64, part: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&part.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

async fn soak(lasts: Duration, seed: u64, rate: f64) -> Summary {
    let mut fleet = Fleet::start();
    let watch = Arc::new(Watch::start(&["Envoy 1", "Envoy 2", "sidecar 1", "sidecar 2", "Redis"]));
    let eras = lasts.div_duration_f64(LONGEST_ERA).ceil().max(ERAS.len() as f64) as u32;
    let mut books = Books::open(&fleet);
    let (began, processor_before) = (Instant::now(), memory::processor_time(&fleet.ids()));
    let (mut sent, mut faults) = (0, std::collections::BTreeMap::new());
    for number in 0..eras as usize {
        let on_error = ERAS[number % ERAS.len()];
        fleet = tokio::task::spawn_blocking(move || {
            fleet.proxies[1].configure(on_error);
            fleet.proxies[1].wait_for_configuration();
            fleet
        })
        .await
        .unwrap();
        let plan = Plan {
            lasts: lasts / eras,
            loses_data: number % ERAS.len() == ERAS.len() - 1,
            may_kill_second: began.elapsed() < lasts / memory::WARM_UP / 2,
        };
        let [first, second] = &fleet.proxies;
        let traffic = Traffic {
            doors: [Door::to(first.envoy.url("")).await, Door::to(second.envoy.url("")).await],
            on_error,
            mock: Arc::clone(&fleet.mock),
            rate,
            lasts: plan.lasts,
            first: sent,
        };
        let watched = Arc::clone(&watch);
        let part = 2 * number as u64;
        let injector = tokio::task::spawn_blocking(move || {
            let watch = |fleet: &Fleet| watched.are(&fleet.ids());
            watch(&fleet);
            let faults = faults::inject(&mut fleet, plan, &watch, &mut random(seed, part));
            (fleet, faults)
        });
        let runs = traffic.run(&mut random(seed, part + 1)).await;
        let happened;
        (fleet, happened) = injector.await.unwrap();
        sent += runs.runs.len();
        for (fault, times) in &happened.counts {
            *faults.entry(*fault).or_insert(0) += times;
        }
        let era = Era { number, on_error, runs, faults: happened };
        (fleet, books) = tokio::task::spawn_blocking(move || {
            books.close(era, &fleet);
            (fleet, books)
        })
        .await
        .unwrap();
    }
    let ended = Instant::now();
    let processor = memory::processor_time(&fleet.ids()) - processor_before;
    let memory = Arc::into_inner(watch).expect("no era is left").end(began, ended);
    Summary { seed, lasts, took: ended - began, processor, sent, faults, books, memory }
}
