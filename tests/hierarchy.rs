//! Limits on the key, its model and everybody at once, on a real cluster of three masters: the sidecar charges all
//! scopes or none, whatever other requests come, and never charges too little if it dies between two scopes.

use llm_rate_limit::quantity::{Millis, NonZeroMillis, Units};
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::wire::{IfAbsent, Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::{Fit, Window, WindowState};
use llm_rate_limit_tests::charges::charge;
use llm_rate_limit_tests::redis::{Cluster, Redis};
use llm_rate_limit_tests::sidecar::{Sidecar, answer};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const HOUR: NonZeroMillis = Millis::HOUR.at_least_one();

/// Long enough for no period to end during a test.
const LONG: NonZeroMillis = NonZeroMillis::new(3_650 * Millis::DAY.get()).unwrap();

/// The charges of a request, in windows of every kind; the limits of each scope refuse some requests.
fn charges(key: usize, model: usize, tokens: u64) -> Vec<ScopeCharges> {
    let slots = if key == 0 { 1 } else { 20 };
    let (key, model) = (format!("key-{key}"), format!("model-{model}"));
    vec![
        charge(&key, "requests", Window::token_bucket(HOUR, Units::new(24)), 24, 1),
        charge(&key, "concurrency", Window::concurrency(HOUR), slots, 1),
        charge(&model, "input_tokens", Window::fixed(LONG), 90, tokens),
        charge(&model, "cost_usd", Window::calendar_month(), 1_000_000, tokens * 1_000),
        charge("global", "requests", Window::sliding(HOUR), 25, 1),
    ]
}

fn reserve(id: impl ToString, charges: Vec<ScopeCharges>) -> Reserve {
    Reserve { id: id.to_string(), charges, ..Reserve::default() }
}

/// The settlement of `one` to nothing.
fn cancel(one: &Reserve) -> Settle {
    let charges = ScopeCharges::changed(&one.charges, |charge| charge.cost = Units::ZERO);
    Settle {
        id: one.id.clone(),
        if_absent: Some(IfAbsent::Charge),
        extend: false,
        charges,
        ..Settle::default()
    }
}

/// Units used under each limit of `owner`.
async fn used(sidecar: &Sidecar, owner: &str) -> BTreeMap<String, u64> {
    let usage = sidecar.usage(Method::GET, &format!("identity={owner}")).await;
    let windows = usage["windows"].as_array().unwrap();
    windows.iter().map(|w| (w["name"].as_str().unwrap().to_owned(), w["used"].as_u64().unwrap())).collect()
}

/// The windows that refused a request; none if it was admitted.
fn refused_by(answer: &Reserved) -> Option<Vec<usize>> {
    match answer {
        Reserved::Decided { admitted: true, .. } => None,
        Reserved::Decided { admitted: false, windows } => {
            Some((0..).zip(windows).filter(|(_, state)| state.fit != Fit::Now).map(|(at, _)| at).collect())
        }
        Reserved::Failed { error, .. } => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_are_charged_in_all_scopes_or_in_none() {
    let cluster = Cluster::start();
    let sidecars = [Sidecar::start(&cluster.url(), &[]), Sidecar::start(&cluster.url(), &[])];
    for sidecar in &sidecars {
        sidecar.wait_until_ready_is(200).await;
    }
    let batches: Vec<Vec<Reserve>> = (0..60_usize)
        .map(|batch| {
            let one = |at: usize| {
                let id = batch * 5 + at;
                let tokens = [3, 7, 11, 91][id % 4];
                reserve(id, charges(id * 7 % 5, id * 11 % 3, tokens))
            };
            (0..5).map(one).collect()
        })
        .collect();
    let calls = batches.iter().enumerate().map(|(at, batch)| {
        let body = serde_json::to_vec(batch).unwrap();
        let call = sidecars[at % 2].request(Method::POST, "/v1/reserve").body(body);
        tokio::spawn(answer(call))
    });
    let mut admitted = Vec::new();
    let mut refusing = [0; 5];
    for (batch, call) in batches.iter().zip(calls.collect::<Vec<_>>()) {
        let (status, body) = call.await.unwrap().unwrap();
        assert_eq!(status, 200, "{body}");
        let answers: Vec<Reserved> = serde_json::from_str(&body).unwrap();
        for (one, answer) in batch.iter().zip(&answers) {
            match refused_by(answer) {
                None => admitted.push(one),
                Some(by) => by.into_iter().for_each(|at| refusing[at] += 1),
            }
        }
    }
    assert!(refusing[1] > 0 && refusing[2] > 0 && refusing[4] > 0, "each scope refuses some: {refusing:?}");

    let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for charge in admitted.iter().flat_map(|one| ScopeCharges::flat(&one.charges)) {
        let (sum, limit) = sums.entry((charge.identity.to_string(), charge.name.to_string())).or_default();
        (*sum, *limit) = (*sum + charge.cost.get(), charge.limit.get());
    }
    for ((owner, name), (sum, limit)) in &sums {
        assert!(sum <= limit, "{owner} {name}: {sum} of {limit}");
        assert_eq!(used(&sidecars[0], owner).await.get(name), Some(sum), "{owner} {name}");
    }
    // The rest of the limit fits: refused requests have left nothing behind.
    let (sum, limit) = sums[&("global".to_owned(), "requests".to_owned())];
    for at in sum..limit {
        let fresh = vec![charge("late", "requests", Window::sliding(HOUR), 100, 1)];
        let all = charge("global", "requests", Window::sliding(HOUR), limit, 1);
        let answers =
            sidecars[0].reserve(&[reserve(format!("late-{at}"), [fresh, vec![all]].concat())]).await;
        assert_eq!(refused_by(&answers[0]), None);
    }

    let settlements: Vec<Settle> = admitted.iter().map(|one| cancel(one)).collect();
    for settled in sidecars[1].settle(&settlements).await {
        assert_eq!(settled, Settled::Done { settled: true, over: false });
    }
    for (owner, _) in sums.keys().filter(|(owner, _)| owner != "global") {
        let used = used(&sidecars[1], owner).await;
        assert!(used.values().all(|used| *used == 0), "{owner}: {used:?}");
    }
}

/// The node of the cluster that has the keys of a scope: the nodes share the slots evenly and in order.
fn node<'a>(cluster: &'a Cluster, scope: &str) -> (usize, &'a Redis) {
    let nodes = cluster.nodes();
    let slot: usize = nodes[0].ask(&["CLUSTER", "KEYSLOT", scope]);
    let at = (slot / (16_384 / nodes.len())).min(nodes.len() - 1);
    (at, &nodes[at])
}

#[tokio::test]
async fn a_sidecar_that_dies_between_two_scopes_leaves_nothing_over_admitted() {
    let cluster = Cluster::start();
    let patient = [("REDIS_TIMEOUT_MS", "20000")];
    let mut dying = Sidecar::start(&cluster.url(), &patient);
    dying.wait_until_ready_is(200).await;
    let (at, second) = node(&cluster, "global");
    let key = (0..).map(|n| format!("key-{n}")).find(|key| node(&cluster, key).0 != at).unwrap();
    let charges = vec![
        charge(&key, "requests", Window::fixed(LONG), 3, 1),
        charge(&key, "concurrency", Window::concurrency(HOUR), 3, 1),
        charge("global", "requests", Window::sliding(HOUR), 3, 1),
    ];
    let lost = reserve("lost", charges.clone());

    second.freeze();
    let body = serde_json::to_vec(&[&lost]).unwrap();
    let call = tokio::spawn(answer(dying.request(Method::POST, "/v1/reserve").body(body)));
    let deadline = Instant::now() + Duration::from_secs(10);
    let first = node(&cluster, &key).1;
    while !first.ask::<bool>(&["EXISTS", &charges[0].keys(Keyspace::new("")).next().unwrap()]) {
        assert!(Instant::now() < deadline, "the first scope is not charged");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dying.process().kill();
    second.thaw();
    assert!(call.await.unwrap().is_err(), "no client learned that it is admitted");

    // The charge stays, and requests admitted on top of it stay within the limits.
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let mut admitted = 0;
    for at in 0..5 {
        let answers = sidecar.reserve(&[reserve(at, charges.clone())]).await;
        admitted += u64::from(refused_by(&answers[0]).is_none());
    }
    assert_eq!(admitted, 2);
    let of_key = [("concurrency".to_owned(), 3), ("requests".to_owned(), 3)];
    assert_eq!(used(&sidecar, &key).await, of_key.into());
    assert!(used(&sidecar, "global").await["requests"] <= 3);

    // The filter, which got no answer, cancels; then one more request fits.
    assert_eq!(sidecar.settle(&[cancel(&lost)]).await, [Settled::Done { settled: true, over: false }]);
    assert_eq!(used(&sidecar, &key).await["requests"], 2);
    let mut again = 0;
    for at in 5..9 {
        let answers = sidecar.reserve(&[reserve(at, charges.clone())]).await;
        again += u64::from(refused_by(&answers[0]).is_none());
    }
    assert_eq!(again, 1);
    assert_eq!(used(&sidecar, "global").await["requests"], 3);
}

#[tokio::test]
async fn a_stream_is_charged_in_every_scope_as_it_grows() {
    let cluster = Cluster::start();
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let one = |tokens| charges(1, 1, tokens);
    assert_eq!(refused_by(&sidecar.reserve(&[reserve("stream", one(10))]).await[0]), None);
    let extend = |tokens| Settle {
        id: "stream".to_owned(),
        if_absent: None,
        extend: true,
        charges: one(tokens),
        ..Settle::default()
    };
    for (tokens, charged, over) in [(5, 10, false), (40, 40, false), (40, 40, false), (95, 95, true)] {
        let answers = sidecar.settle(&[extend(tokens)]).await;
        assert_eq!(answers, [Settled::Done { settled: true, over }]);
        assert_eq!(used(&sidecar, "model-1").await["input_tokens"], charged);
        let of_key = used(&sidecar, "key-1").await;
        assert_eq!((of_key["concurrency"], of_key["requests"]), (1, 1));
    }
    let end = Settle { extend: false, ..extend(60) };
    assert_eq!(
        sidecar.settle(std::slice::from_ref(&end)).await,
        [Settled::Done { settled: true, over: false }]
    );
    assert_eq!(used(&sidecar, "model-1").await["input_tokens"], 60);
    assert_eq!(used(&sidecar, "key-1").await["concurrency"], 0);
    let late = sidecar.settle(&[extend(90), end]).await;
    assert!(late.iter().all(|late| *late == Settled::Done { settled: false, over: false }), "{late:?}");
    assert_eq!(used(&sidecar, "model-1").await["input_tokens"], 60);
    let extended = "llm_rate_limit_sidecar_settlements_total{outcome=\"extended\"}";
    assert_eq!(sidecar.metric(extended).await, 4.0);
}

#[tokio::test]
async fn usage_shows_windows_of_every_kind_and_resets_them() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let of = |name, window, limit, cost| charge("me", name, window, limit, cost);
    let charges = vec![
        of("requests", Window::sliding(HOUR), 10, 1),
        of("total_tokens", Window::fixed(LONG), 100, 30),
        of("cost_usd", Window::calendar_month(), 5_000_000, 20_000),
        of("output_tokens", Window::token_bucket(HOUR, Units::new(50)), 100, 20),
        of("concurrency", Window::concurrency(HOUR), 4, 1),
    ];
    assert_eq!(refused_by(&sidecar.reserve(&[reserve("a", charges)]).await[0]), None);
    let usage = sidecar.usage(Method::GET, "identity=me").await;
    let windows = usage["windows"].as_array().unwrap();
    let line = |window: &Value| {
        let text = |field: &str| window[field].as_str().unwrap().to_owned();
        let number = |field: &str| window[field].as_u64().unwrap();
        let counts = format!("{}+{}={}", number("used"), number("remaining"), number("limit"));
        format!("{} {} {} {counts} {}", text("name"), text("window"), text("algorithm"), window["burst"])
    };
    assert_eq!(
        windows.iter().map(line).collect::<Vec<_>>(),
        [
            "concurrency 1h-leases concurrency 1+3=4 null",
            "cost_usd 1mo calendar_month 20000+4980000=5000000 null",
            "output_tokens 1h-bucket token_bucket 20+30=100 50",
            "requests 1h sliding_window 1+9=10 null",
            "total_tokens 3650d-fixed fixed_window 30+70=100 null",
        ]
    );
    let reset = |at: usize| windows[at]["reset_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_661_000).contains(&reset(0)), "a lease lives an hour: {}", reset(0));
    assert!(reset(1) <= 31 * Millis::DAY.get());
    assert!((700_000..=720_000).contains(&reset(2)), "20 of 100 an hour drain in 12 minutes: {}", reset(2));
    assert!(reset(4) > 60_000);
    assert_eq!(sidecar.usage(Method::DELETE, "identity=me").await["removed"].as_array().unwrap().len(), 5);
    assert!(used(&sidecar, "me").await.is_empty());
}

#[tokio::test]
async fn the_answer_reports_the_wait_of_every_scope() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let both = |cost| {
        vec![
            charge("key", "requests", Window::token_bucket(HOUR, Units::new(3_600)), 3_600, cost),
            charge("team", "requests", Window::sliding(HOUR), 3_600, cost),
            charge("global", "requests", Window::fixed(LONG), 1_000_000, cost),
        ]
    };
    assert_eq!(refused_by(&sidecar.reserve(&[reserve("a", both(3_600))]).await[0]), None);
    let answers = sidecar.reserve(&[reserve("b", both(10)), reserve("c", both(3_601))]).await;
    let [Reserved::Decided { windows: b, .. }, Reserved::Decided { windows: c, .. }] = &answers[..] else {
        panic!("{answers:?}");
    };
    // The key gets one unit back each second, the team all of its hour at once: the request waits for the later.
    let wait = |window: &WindowState| match window.fit {
        Fit::After(wait) => wait.get().get(),
        fit => panic!("{fit:?}"),
    };
    assert!((8_000..=10_000).contains(&wait(&b[0])), "{b:?}");
    assert!((3_590_000..=3_660_000).contains(&wait(&b[1])), "{b:?}");
    assert_eq!(b[2].fit, Fit::Now);
    assert_eq!(c.iter().map(|window| window.fit).collect::<Vec<_>>(), [Fit::Never, Fit::Never, Fit::Now]);
}
