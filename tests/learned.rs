//! What a fleet learns about the counts of prompts: the script on a real Redis against its twin in Rust, and the
//! sidecar between Redis and filters.

use llm_rate_limit::store::corrections::{HEADER, Told};
use llm_rate_limit::store::wire::{Reserve, Settle};
use llm_rate_limit::tokens::PromptKind;
use llm_rate_limit::usage::learned_prompt::{Cell, Factors, Lesson, MAX_CELLS, MAX_VOTERS, Votes};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::{Cluster, Redis};
use llm_rate_limit_tests::scripts::Scripts;
use llm_rate_limit_tests::sidecar::Sidecar;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;
use std::time::{Duration, Instant};

fn cell(model: u64) -> Cell {
    Cell::new(&format!("model-{model}"), PromptKind::Tools)
}

fn lesson(model: u64, voter: u64, permille: u16) -> Lesson {
    let counted = Lesson::new(cell(model), &voter.to_string(), 1_000, permille.into());
    counted.unwrap()
}

#[test]
fn the_script_and_its_twin_learn_the_same() {
    let scripts = Scripts::start();
    let history = vec(vec((0..3_u64, 0..5_u64, 1..=10_000_u16), 0..60), 1..6);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history, |batches| {
        let _: () = scripts.redis.ask(&["FLUSHALL"]);
        let mut votes = Votes::default();
        for batch in batches {
            let lessons: Vec<Lesson> = batch.iter().map(|(m, v, share)| lesson(*m, *v, *share)).collect();
            lessons.iter().for_each(|lesson| votes.teach(lesson));
            prop_assert_eq!(scripts.learn(&lessons).unwrap(), votes.factors());
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Few cells fit, so that new ones push out others all the time.
#[test]
fn the_script_and_its_twin_let_the_same_make_room() {
    let scripts = Scripts::start();
    let mut votes = Votes::default();
    for batch in 0..12_u64 {
        let lessons: Vec<Lesson> = (0..40)
            .map(|n| {
                let turn = batch * 40 + n;
                // One sender invents models, and others share a few.
                let (model, voter) = if turn % 3 == 0 { (turn, 9) } else { (turn % 50, turn * 7 % 5) };
                lesson(model, voter, 1_000 + (turn % 400) as u16)
            })
            .collect();
        lessons.iter().for_each(|lesson| votes.teach(lesson));
        assert_eq!(scripts.learn(&lessons).unwrap(), votes.factors(), "{batch}");
    }
    let known: Vec<String> = scripts.redis.ask(&["ZRANGE", "llmrl:3::{prompts}:recent", "0", "-1"]);
    assert_eq!(known.len(), MAX_CELLS);
    assert_eq!(known, votes.cells().map(|cell| cell.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_script_keeps_as_many_models_and_senders_as_its_twin() {
    let scripts = Scripts::start();
    let mut votes = Votes::default();
    // Each model is taught in turn, so that those that are taught last stay.
    for round in 0..2 {
        for model in 0..MAX_CELLS as u64 + 20 {
            let voters = (0..MAX_VOTERS as u64 + 10).map(|voter| lesson(model, voter, 900 + voter as u16));
            let lessons: Vec<Lesson> = voters.collect();
            lessons.iter().for_each(|lesson| votes.teach(lesson));
            assert_eq!(scripts.learn(&lessons).unwrap(), votes.factors(), "{round} {model}");
        }
    }
    let fields: Vec<i64> = ["votes", "factors"]
        .map(|key| scripts.redis.ask(&["HLEN", &format!("llmrl:3::{{prompts}}:{key}")]))
        .into();
    assert_eq!(fields, [MAX_CELLS as i64; 2]);
    let recent: i64 = scripts.redis.ask(&["ZCARD", "llmrl:3::{prompts}:recent"]);
    assert_eq!(recent, MAX_CELLS as i64);
    for key in scripts.keys() {
        let left: i64 = scripts.redis.ask(&["PTTL", &key]);
        assert!(left > 0, "{key} never expires");
        let size: Option<i64> = scripts.redis.ask(&["MEMORY", "USAGE", &key]);
        assert!(size.unwrap() < 1 << 20, "{key}");
    }
}

#[test]
fn what_the_script_did_not_write_counts_as_nothing() {
    let scripts = Scripts::start();
    let votes = "llmrl:3::{prompts}:votes";
    for garbage in ["", "x", "99999 zz:1", "20 ab:,,", "20 ab:99999999999999999999", &"1 ".repeat(10_000)] {
        let name = cell(1).to_string();
        let _: () = scripts.redis.ask(&["HSET", votes, &name, garbage]);
        assert!(scripts.learn(&[lesson(1, 1, 1_200)]).is_ok(), "{garbage}");
    }
    let _: () = scripts.redis.ask(&["SET", votes, "a text"]);
    assert!(scripts.learn(&[lesson(1, 1, 1_200)]).is_err());
}

/// Sends elements and the header with a version, and returns the status and the header of the answer.
async fn call(sidecar: &Sidecar, path: &str, body: Vec<u8>, asked: Option<&str>) -> (u16, Option<Told>) {
    let mut request = sidecar.request(Method::POST, path).body(body);
    if let Some(asked) = asked {
        request = request.header(HEADER, asked);
    }
    let answer = request.send().await.unwrap();
    let told = answer.headers().get(HEADER).map(|value| Told::parse(value.to_str().unwrap()).unwrap());
    (answer.status().as_u16(), told)
}

async fn probe(sidecar: &Sidecar, namespace: &str, asked: Option<&str>) -> Option<Told> {
    let probe = Reserve { id: "probe".to_owned(), namespace: namespace.into(), ..Reserve::default() };
    let (status, told) = call(sidecar, "/v1/reserve", serde_json::to_vec(&[probe]).unwrap(), asked).await;
    assert_eq!(status, 200);
    told
}

/// Settles nothing, with lessons.
async fn teach(sidecar: &Sidecar, namespace: &str, lessons: &[Lesson]) -> Option<Told> {
    let settle = |(at, lesson): (usize, &Lesson)| Settle {
        id: format!("{at}"),
        namespace: namespace.into(),
        lesson: Some(*lesson),
        charges: vec![hourly("me", "requests", 5, 1)],
        ..Settle::default()
    };
    let batch: Vec<Settle> = lessons.iter().enumerate().map(settle).collect();
    let (status, told) = call(sidecar, "/v1/settle", serde_json::to_vec(&batch).unwrap(), Some("0")).await;
    assert_eq!(status, 200);
    told
}

/// Sends lessons and asks, again and again, until the factors are as expected: a machine that is busy loses some.
async fn learns(sidecar: &Sidecar, namespace: &str, lessons: &[Lesson], expected: u16) -> Told {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if !lessons.is_empty() {
            teach(sidecar, namespace, lessons).await;
        }
        let told = probe(sidecar, namespace, Some("0")).await.unwrap();
        if permille(told.factors.clone()) == expected {
            return told;
        }
        assert!(Instant::now() < deadline, "still {told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn thirty_percent_more() -> Vec<Lesson> {
    (0..20).map(|n| lesson(1, n % 4, 1_300)).collect()
}

fn permille(factors: Option<Factors>) -> u16 {
    factors.unwrap_or_default().of(cell(1)).permille()
}

#[tokio::test]
async fn settlements_teach_and_a_new_sidecar_knows_what_the_fleet_does() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    assert_eq!(probe(&sidecar, "a", None).await, None, "nobody asked");
    assert_eq!(permille(probe(&sidecar, "a", Some("0")).await.unwrap().factors), 1_000);
    let told = learns(&sidecar, "a", &thirty_percent_more(), 1_300).await;
    assert_eq!(permille(probe(&sidecar, "b", Some("0")).await.unwrap().factors), 1_000);
    let again = probe(&sidecar, "a", Some(&format!("{:x}", told.version))).await.unwrap();
    assert_eq!(again, Told { version: told.version, factors: None }, "it has them already");

    let fresh = Sidecar::start(&redis.url(), &[]);
    fresh.wait_until_ready_is(200).await;
    assert_eq!(learns(&fresh, "a", &[], 1_300).await.version, told.version);
}

#[tokio::test]
async fn a_cluster_keeps_what_is_learned_in_a_slot_of_its_own() {
    let cluster = Cluster::start();
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    learns(&sidecar, "", &thirty_percent_more(), 1_300).await;
}

#[tokio::test]
async fn a_failure_to_learn_fails_nothing_else() {
    let redis = Redis::start();
    for key in ["votes", "recent", "factors"] {
        let _: () = redis.ask(&["SET", &format!("llmrl:3::{{prompts}}:{key}"), "a text"]);
    }
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let charges = vec![hourly("me", "requests", 5, 1)];
    let one = Reserve { id: "a".to_owned(), charges: charges.clone(), ..Reserve::default() };
    let body = serde_json::to_vec(&[one]).unwrap();
    let (status, told) = call(&sidecar, "/v1/reserve", body, Some("7")).await;
    assert_eq!((status, told), (200, Some(Told { version: 7, factors: None })));
    let lesson = Some(lesson(1, 1, 1_200));
    let settled =
        sidecar.settle(&[Settle { id: "a".to_owned(), charges, lesson, ..Settle::default() }]).await;
    assert_eq!(serde_json::to_string(&settled).unwrap(), r#"[{"settled":true}]"#);
}
