//! Nobody becomes somebody else, or nobody, by what they send: junk beside a key, invented keys, keys that the upstream
//! refuses, and names that are made to harm the log.

use crate::caller::{Answer, CHAT, Caller, count, hello, hello_with, statuses};
use crate::gateway::{Fleet, Gateway, Store, strangers};
use futures_util::future::join_all;
use llm_rate_limit_tests::envoy::Setup;
use reqwest::{Client, Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([{"key": "senders-real", "rpm": 3}, {"key": "senders-second", "rpm": 2}])
}

/// A client that sends only the headers that a test sets.
fn anonymous(gateway: &Gateway) -> Caller {
    Caller::anonymous(Client::new(), &gateway.envoy.url(""))
}

#[rstest]
#[tokio::test]
async fn junk_beside_a_key_changes_nothing(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = anonymous(&gateway);
    let forms: [fn(RequestBuilder, &str) -> RequestBuilder; 6] = [
        |request, junk| request.bearer_auth(junk).header("x-api-key", "senders-real"),
        |request, junk| request.bearer_auth("senders-real").header("x-api-key", junk),
        |request, junk| request.header("x-api-key", junk).header("api-key", "senders-real"),
        |request, junk| request.header("x-api-key", junk).header("x-api-key", "senders-real"),
        |request, junk| request.bearer_auth(junk).header("authorization", "Bearer senders-real"),
        |request, junk| request.header("authorization", format!("Basic {junk}, , bearer  senders-real ,")),
    ];
    let requests = (0..60).map(|at| forms[at % forms.len()](caller.chat(&hello()), &format!("junk-{at}")));
    let answers = join_all(requests.map(Answer::to)).await;
    let passed: Vec<_> =
        (0..60).filter(|at| answers[*at].status == 200).map(|at| at % forms.len()).collect();
    assert_eq!((passed.len(), count(&answers, 429)), (3, 57), "these forms passed: {passed:?}");
}

#[rstest]
#[tokio::test]
async fn of_two_keys_the_first_counts(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let both = anonymous(&gateway)
        .chat(&hello())
        .header("x-api-key", "senders-second")
        .header("api-key", "senders-real");
    assert_eq!(Answer::to(both).await.number("x-ratelimit-limit-requests"), 2);
}

#[rstest]
#[tokio::test]
async fn a_parameter_has_as_many_values_as_it_occurs(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = strangers(json!({
        "identity": [{"query": "key"}, {"header": "authorization"}],
        "keys": [{"key": "senders real", "rpm": 3}],
    }));
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("some-stranger");
    let queries = ["key=junk-{}&key=senders%20real", "key=senders+real&key=junk-{}", "a&key=&key=senders%20re%61l&=b"];
    let requests = (0..30).map(|at| {
        let query = queries[at % queries.len()].replace("{}", &at.to_string());
        caller.request(Method::POST, &format!("{CHAT}?{query}")).json(&hello())
    });
    let answers = join_all(requests.map(Answer::to)).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (3, 27), "{:?}", statuses(&answers));
}

/// However much junk there is beside a key, it opens no counters of its own.
#[rstest]
#[tokio::test]
async fn very_many_values_are_one_sender(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = strangers(json!({
        "identity": [{"header": "x-api-key"}, {"query": "key"}],
        "keys": [{"key": "senders-real", "rpm": 3}],
        "default": {"rpm": 3},
    }));
    let gateway = Gateway::start(store, limits).await;
    let with = |junk: usize, at: usize| format!("{}senders-real", format!("junk-{at},").repeat(junk));
    let many = (0..10).map(|at| anonymous(&gateway).chat(&hello()).header("x-api-key", with(100, at)));
    let many = join_all(many.map(Answer::to)).await;
    assert_eq!((count(&many, 200), count(&many, 429)), (3, 7), "the key is found");
    let too_many = (0..10).map(|at| match at % 2 {
        0 => anonymous(&gateway).chat(&hello()).header("x-api-key", with(500, at)),
        _ => {
            let query = format!("key=junk-{at}&").repeat(500);
            anonymous(&gateway).request(Method::POST, &format!("{CHAT}?{query}key=senders-real")).json(&hello())
        }
    });
    let too_many = join_all(too_many.map(Answer::to)).await;
    assert_eq!((count(&too_many, 200), count(&too_many, 429)), (3, 7), "{:?}", statuses(&too_many));
}

#[rstest]
#[tokio::test]
async fn invented_keys_count_as_the_address_where_only_known_ones_do(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limits = json!({
        "identity": [
            {"header": "authorization", "known_only": true},
            {"header": "x-api-key", "known_only": true},
            {"client_ip": {}},
        ],
        "keys": [{"key": "senders-known", "rpm": 4}],
        "default": {"rpm": 5},
    });
    let gateway = Gateway::start(store, limits).await;
    let invented = join_all((0..200).map(async |at| {
        let caller = anonymous(&gateway);
        let request = match at % 2 {
            0 => caller.chat(&hello()).bearer_auth(format!("invented-{at}")),
            _ => caller.chat(&hello()).header("x-api-key", format!("invented-{at}")),
        };
        Answer::to(request).await
    }))
    .await;
    assert_eq!((count(&invented, 200), count(&invented, 429)), (5, 195));
    let known = gateway.caller("senders-known").hellos(6).await;
    assert_eq!((count(&known, 200), count(&known, 429)), (4, 2));
}

/// The upstream knows keys that the configuration does not, so it is who finds out which are invented.
#[rstest]
#[tokio::test]
async fn keys_that_the_upstream_refuses_cost_only_their_sender(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values("401", "403")] status: &str,
) {
    let limits = json!({
        "identity": [{"header": "authorization", "known_only": true}, {"client_ip": {}}],
        "keys": [{"key": "senders-paying", "rpm": 100}],
        "default": {"rpm": 5},
        "global": {"rpm": 3},
        "models": {"gpt-4o": {"rpm": 3}},
    });
    let gateway = Gateway::start(store, limits).await;
    for at in 0..5 {
        let caller = gateway.caller(&format!("senders-invented-{at}"));
        let answer = Answer::to(caller.chat(&hello()).header("x-mock-status", status)).await;
        assert_eq!(answer.status.to_string(), status, "{at}: {}", answer.text());
        drop(caller);
        gateway.at_rest().await;
    }
    let sixth = gateway.caller("senders-invented-6").hello().await;
    assert_eq!(sixth.status, 429, "what was refused stays with the address that sent it");
    let paying = gateway.caller("senders-paying").hellos(5).await;
    assert_eq!((count(&paying, 200), count(&paying, 429)), (3, 2));
}

#[rstest]
#[tokio::test]
async fn a_model_name_can_neither_forge_a_line_of_the_log_nor_fill_it(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let budget = json!({"metric": "cost_usd", "limit": 5, "window": "1h"});
    let limits = json!({
        "keys": [{"key": "senders-log", "rpm": 100, "windows": [budget]}],
        "prices": {"gpt-4o": {"input": 1, "output": 1}},
    });
    let gateway = Gateway::start(store, limits).await;
    let caller = gateway.caller("senders-log");
    let forged = "gpt-9\n[2026-01-01 00:00:00.000][1][critical][main] forged\r\u{2028}\u{1b}[31m";
    for model in [forged.to_owned(), format!("{}{forged}", "long-".repeat(1_000_000))] {
        let answer = Answer::to(caller.chat(&hello_with(json!({"model": model})))).await;
        assert_eq!(answer.status, 200, "{:.200}", answer.text());
        let path = format!("/openai/deployments/{}/chat/completions", "gpt-9%0A%5Bcritical%5D%20forged");
        let answer = Answer::to(caller.request(Method::POST, &path).json(&hello())).await;
        assert_eq!(answer.status, 200, "{:.200}", answer.text());
    }
    drop(caller);
    gateway.at_rest().await;
    let log = gateway.envoy.log();
    assert!(log.contains("no price for model \"gpt-9\\"), "the log warns of the model:\n{log:.2000}");
    assert!(!log.lines().any(|line| line.starts_with("[2026-01-01")), "{log:.2000}");
    let longest = log.lines().filter(|line| line.contains("no price")).map(str::len).max().unwrap();
    assert!(longest < 1_000, "a line of {longest} bytes");
    for line in gateway.envoy.access_log() {
        let longest = line.as_object().unwrap().values().filter_map(Value::as_str).map(str::len).max();
        assert!(longest < Some(400), "{longest:?}");
        assert!(!line["model"].as_str().unwrap().contains(char::is_control), "{line}");
    }
}

#[tokio::test]
async fn deployments_on_one_redis_count_apart_in_namespaces_of_their_own() {
    let limits = |namespace: Option<&str>| {
        let mut limits = json!({
            "store": Store::Redis.configuration(),
            "keys": [{"key": "senders-space", "rpm": 2, "max_concurrency": 5}],
        });
        if let Some(namespace) = namespace {
            limits["store"]["namespace"] = namespace.into();
        }
        limits
    };
    let production = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits(None))).await;
    let Fleet { sidecar, redis } = production.fleet.as_ref().unwrap();
    for namespace in [None, Some("staging"), Some("staging-2")] {
        let setup = Setup::new(production.mock.address()).sidecar(sidecar.address().parse().unwrap());
        let envoy = setup.filter(&limits(namespace)).concurrency(1).start();
        let answers = Caller::new(&envoy.url(""), "senders-space").hellos(5).await;
        assert_eq!((count(&answers, 200), count(&answers, 429)), (2, 3), "{namespace:?}");
    }
    let full = production.caller("senders-space").hello().await;
    assert_eq!(full.status, 429, "without a namespace, all share the counters");
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]);
    for space in ["llmrl:3::{", "llmrl:3:staging:{", "llmrl:3:staging-2:{"] {
        assert!(keys.iter().any(|key| key.starts_with(space)), "{space}: {keys:?}");
    }
    assert!(keys.iter().all(|key| key.starts_with("llmrl:3:")), "{keys:?}");
}
