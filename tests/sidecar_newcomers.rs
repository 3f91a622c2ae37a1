//! New identities at the sidecar: so many in a second get counters of their own, and the others share one for each
//! limit. On a real Redis and by the real binary.
//!
//! The seconds are the sidecar's: a test that counts them takes a second for one, however many have passed.

use llm_rate_limit::policy::NEW_IDENTITIES;
use llm_rate_limit::quantity::{NonZeroMillis, Units};
use llm_rate_limit::store::wire::{Charge, IfAbsent, Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::Window;
use llm_rate_limit_tests::charges::{charge, hourly};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::Value;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A reservation of one request by `identity`, under a limit of `limit`, where `max` new ones a second get counters.
fn reserve(id: &str, identity: &str, limit: u64, max: u32) -> Reserve {
    Reserve {
        id: id.to_owned(),
        max_new_identities_per_second: NonZeroU32::new(max),
        charges: vec![hourly(identity, "requests", limit, 1)],
        ..Reserve::default()
    }
}

fn settle(id: &str, identity: &str, limit: u64, cost: u64) -> Settle {
    let charges = vec![hourly(identity, "requests", limit, cost)];
    Settle { id: id.to_owned(), charges, ..Settle::default() }
}

fn is_admitted(answer: &Reserved) -> bool {
    matches!(answer, Reserved::Decided { admitted: true, .. })
}

async fn started() -> (Redis, Sidecar) {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    (redis, sidecar)
}

/// The units that `identity` has used of its own counter; none if it has none.
async fn used(sidecar: &Sidecar, identity: &str) -> Option<u64> {
    let usage: Value = sidecar.usage(reqwest::Method::GET, &format!("identity={identity}")).await;
    usage["windows"][0]["used"].as_u64()
}

/// Names whoever gets counters of its own: the first of a second that have a place.
async fn fill(sidecar: &Sidecar, max: u32) -> usize {
    let began = Instant::now();
    let batch: Vec<Reserve> =
        (0..200).map(|n| reserve(&format!("fill-{n}"), &format!("crowd-{n}"), 3, max)).collect();
    let answers = sidecar.reserve(&batch).await;
    let mut own = 0;
    for n in 0..200 {
        own += usize::from(used(sidecar, &format!("crowd-{n}")).await.is_some());
    }
    let admitted = answers.iter().filter(|answer| is_admitted(answer)).count();
    assert_eq!(admitted, own + 3, "each of its own, and three of the counter that the others share");
    let seconds = began.elapsed().as_secs() + 2;
    assert!(own >= max as usize && own <= max as usize * usize::try_from(seconds).unwrap(), "{own}");
    own
}

#[tokio::test]
async fn a_crowd_shares_and_no_limit_admits_too_much() {
    let (redis, sidecar) = started().await;
    let own = fill(&sidecar, 5).await;
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(3));
    // A counter and an index for each, a record for each that was admitted.
    let keys: usize = redis.ask(&["DBSIZE"]);
    assert!(keys <= 2 * (own + 1) + own + 3, "{keys} keys for {own} identities");
    assert_eq!(
        sidecar.metric(r#"llm_rate_limit_sidecar_new_identities_total{outcome="shared"}"#).await,
        (200 - own) as f64
    );
    // Whoever has counters does not notice, at this sidecar or at another, which has no place left.
    let other = Sidecar::start(&redis.url(), &[]);
    other.wait_until_ready_is(200).await;
    for (at, sidecar) in [&sidecar, &other].into_iter().enumerate() {
        let mut batch: Vec<Reserve> =
            (0..50).map(|n| reserve(&format!("more-{at}-{n}"), &format!("more-{at}-{n}"), 3, 1)).collect();
        // There is room for it in the shared counter too, which it must not keep.
        batch.push(reserve(&format!("known-{at}"), "crowd-0", 10, 1));
        assert!(is_admitted(sidecar.reserve(&batch).await.last().unwrap()));
    }
    assert_eq!(used(&sidecar, "crowd-0").await, Some(3));
    assert!(!is_admitted(&sidecar.reserve(&[reserve("over", "crowd-0", 3, 1)]).await[0]), "its limit holds");
    assert_eq!(
        used(&sidecar, NEW_IDENTITIES).await,
        Some(3),
        "nothing of the known ones stays with the shared"
    );
}

#[tokio::test]
async fn who_shares_settles_there_and_gets_counters_of_its_own_after_the_second() {
    let (_redis, sidecar) = started().await;
    // Tens of new ones in one call: the last has no place, unless the second ends just before it.
    let mut id = 0;
    let late = loop {
        let batch: Vec<Reserve> =
            (0..30).map(|n| reserve(&format!("{id}-{n}"), &format!("{id}-{n}"), 100, 1)).collect();
        assert!(sidecar.reserve(&batch).await.iter().all(is_admitted));
        let name = format!("{id}-29");
        if used(&sidecar, &name).await.is_none() {
            break name;
        }
        id += 1;
    };
    let shared = used(&sidecar, NEW_IDENTITIES).await.unwrap();
    assert!((28..=29).contains(&shared), "{shared}");
    // An extension, a settlement that costs more, and one that costs nothing.
    let extension = Settle { extend: true, ..settle(&late, &late, 100, 4) };
    sidecar.settle(&[extension]).await;
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(shared + 3));
    sidecar.settle(&[settle(&late, &late, 100, 6)]).await;
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(shared + 5));
    sidecar.settle(&[settle(&late, &late, 100, 1)]).await;
    assert_eq!(
        used(&sidecar, NEW_IDENTITIES).await,
        Some(shared + 5),
        "a repeated settlement changes nothing"
    );
    let refunded = format!("{id}-28");
    sidecar.settle(&[settle(&refunded, &refunded, 100, 0)]).await;
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(shared + 4));
    // One whose answer was lost: cancelled wherever it is.
    let lost = format!("{id}-27");
    let cancel = Settle { if_absent: Some(IfAbsent::Charge), ..settle(&lost, &lost, 100, 0) };
    sidecar.settle(&[Settle { may_share: true, ..cancel }]).await;
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(shared + 3));

    let deadline = Instant::now() + Duration::from_secs(20);
    let mut n = 0;
    while used(&sidecar, &late).await.is_none() {
        assert!(Instant::now() < deadline, "the second does not end");
        n += 1;
        // A limit that no machine reaches in a second.
        let again = reserve(&format!("again-{n}"), &late, 1_000_000, 1);
        assert!(is_admitted(&sidecar.reserve(&[again]).await[0]));
    }
}

#[tokio::test]
async fn what_was_shared_goes_back_once_the_own_counters_have_the_request_too() {
    let (_redis, sidecar) = started().await;
    let ids: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let batch: Vec<Reserve> = ids.iter().map(|id| reserve(id, id, 100, 1)).collect();
    assert!(sidecar.reserve(&batch).await.iter().all(is_admitted));
    let shared = used(&sidecar, NEW_IDENTITIES).await.unwrap();
    // The answer was late. When the request reserves again, its identity has counters of its own.
    for (id, extend) in [(&ids[28], true), (&ids[29], false)] {
        assert_eq!(used(&sidecar, id).await, None, "it shares");
        assert!(is_admitted(&sidecar.reserve(&[reserve(id, id, 100, 0)]).await[0]));
        let end = Settle { may_share: true, ..settle(id, id, 100, 4) };
        for settle in [Settle { extend, ..end.clone() }, end] {
            assert!(matches!(sidecar.settle(&[settle]).await[0], Settled::Done { .. }));
        }
        assert_eq!(used(&sidecar, id).await, Some(4));
    }
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(shared - 2), "it is charged once");
}

#[tokio::test]
async fn only_what_may_be_shared_costs_a_call_for_that() {
    let (redis, sidecar) = started().await;
    let calls = || {
        let stats: String = redis.ask(&["INFO", "commandstats"]);
        let count = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        count.and_then(|rest| rest.split(',').next()).unwrap_or("0").parse::<u32>().unwrap()
    };
    sidecar.settle(&[settle("first", "me", 100, 1)]).await;
    for (n, (if_absent, may_share, expected)) in [
        (Some(IfAbsent::Charge), false, 1),
        (Some(IfAbsent::Charge), true, 2),
        (Some(IfAbsent::Mark), false, 1),
        (Some(IfAbsent::Mark), true, 2),
        // What it finds nowhere else may be shared, whatever its filter knows.
        (None, false, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let before = calls();
        let one = Settle { if_absent, may_share, ..settle(&format!("call-{n}"), "me", 100, 1) };
        sidecar.settle(&[one]).await;
        assert_eq!(calls() - before, expected, "{if_absent:?}, {may_share}");
    }
    assert!(is_admitted(&sidecar.reserve(&[reserve("own", "me", 100, 0)]).await[0]));
    let before = calls();
    sidecar.settle(&[settle("own", "me", 100, 1)]).await;
    assert_eq!(calls() - before, 1);
}

#[tokio::test]
async fn leases_of_the_shared_counters_end_with_their_requests() {
    let (_redis, sidecar) = started().await;
    let slot = |identity: &str, cost| {
        let window = Window::concurrency(NonZeroMillis::MINUTE);
        vec![charge(identity, "concurrency", window, 2, cost)]
    };
    let batch: Vec<Reserve> = (0..30)
        .map(|n| Reserve {
            charges: slot(&format!("c-{n}"), 1),
            ..reserve(&format!("c-{n}"), &format!("c-{n}"), 2, 1)
        })
        .collect();
    let answers = sidecar.reserve(&batch).await;
    let mut shares = Vec::new();
    for (one, answer) in batch.iter().zip(&answers) {
        let owner = &one.charges[0].scope;
        if is_admitted(answer) && used(&sidecar, owner).await.is_none() {
            shares.push(one);
        }
    }
    assert_eq!(shares.len(), 2, "of the two slots that all share");
    for one in &shares {
        sidecar
            .settle(&[Settle { id: one.id.clone(), charges: one.charges.clone(), ..Settle::default() }])
            .await;
    }
    assert_eq!(used(&sidecar, NEW_IDENTITIES).await, Some(0));
}

#[tokio::test]
async fn another_scope_that_refuses_gives_back_what_the_shared_counter_was_charged() {
    let (_redis, sidecar) = started().await;
    let batch: Vec<Reserve> = (0..40)
        .map(|n| {
            let name = format!("g-{n}");
            let own = hourly(&name, "requests", 100, 1);
            let global =
                Charge { limit: Units::new(3), ..hourly("global", "requests", 3, 1).charges.remove(0) };
            let global = ScopeCharges { scope: "global".into(), charges: vec![global] };
            Reserve { charges: vec![own, global], ..reserve(&name, &name, 100, 1) }
        })
        .collect();
    let answers = sidecar.reserve(&batch).await;
    assert_eq!(answers.iter().filter(|answer| is_admitted(answer)).count(), 3);
    let mut own = 0;
    for one in &batch {
        own += used(&sidecar, &one.charges[0].scope).await.unwrap_or_default();
    }
    assert_eq!(
        own + used(&sidecar, NEW_IDENTITIES).await.unwrap(),
        3,
        "what was refused is charged to nobody"
    );
}
