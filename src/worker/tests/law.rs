//! The law of bodies: however a body is written that some reader reads as the plain one, the same limits apply, and
//! none is charged less.

use super::spelling::{FORMS, SPELLINGS, on_its_way};
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;

/// The counters that a request is charged on, and how much.
type Charges = BTreeMap<(String, String, String), u64>;

/// Limits of every kind: on everything, on models, in dollars.
fn config() -> Value {
    let all = json!({"rpm": 9_007_199_254_740_991_u64, "input_tpm": 9_007_199_254_740_991_u64,
        "output_tpm": 9_007_199_254_740_991_u64, "tpm": 9_007_199_254_740_991_u64});
    let budget = json!([{"metric": "cost_usd", "limit": 1_000_000_000, "window": "1d"}]);
    let mut of_key = all.clone();
    of_key["windows"] = budget;
    of_key["models"] = json!({"gpt-4*": all, "o*": all, "claude*": all, "cheap": all});
    let price = |input: f64, output: f64| json!({"input": input, "output": output});
    json!({
        "store": {"type": "redis", "cluster": "s"},
        "default": of_key,
        "models": {"*": all, "gpt-5*": all},
        "weights": {"models": {"claude*": 2, "cheap": 0.1}},
        "prices": {"cheap": price(0.01, 0.01), "gpt-4*": price(2.5, 10.0), "claude*": price(3.0, 15.0),
            "*": price(1.0, 5.0)},
    })
}

/// The charges of a request with these headers beside the usual ones.
fn charges(path: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Charges {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    let mut request = post(path, "key");
    request.0.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    worker.request_headers(1, &request, false, NOW);
    worker.whole_body(1, body, NOW);
    let mut callouts = std::mem::take(&mut worker.callouts);
    callouts.extend(worker.turn(NOW).callouts);
    let [callout] = callouts.as_slice() else { panic!("one callout: {callouts:?}") };
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let of_scope = |scope: &ScopeCharges| {
        let name = scope.scope.to_string();
        let charge = move |charge: &wire::Charge| {
            (
                (
                    name.clone(),
                    charge.identity.to_string(),
                    format!("{}/{}", charge.name, charge.window.label()),
                ),
                charge.cost.get(),
            )
        };
        scope.charges.iter().map(charge).collect::<Vec<_>>()
    };
    calls.iter().flat_map(|call| call.charges.iter().flat_map(of_scope)).collect()
}

fn assert_no_less(plain: &Charges, other: &Charges, how: &str) {
    for (counter, cost) in plain {
        let charged = other.get(counter).unwrap_or_else(|| panic!("{how}: {counter:?} does not apply"));
        assert!(charged >= cost, "{how}: {counter:?} is charged {charged}, not {cost}");
    }
}

/// Whichever reader the upstream has, the model is `gpt-4o`.
#[test]
fn no_spelling_of_a_body_costs_less() {
    let words = "word ".repeat(200);
    let parts = json!([{"type": "text", "text": words},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}}]);
    let tool = json!({"type": "function", "function": {"name": "f", "description": words, "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "é \"quoted\""}}}}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"a b": [1, 2]}}});
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "name": "é", "content": parts}],
            "max_tokens": 900, "n": 2, "tools": [tool], "response_format": schema, "documents": [{"text": words}]}),
        ),
        ("/v1/completions", json!({"prompt": [words, "b"], "suffix": "c", "max_tokens": 900, "best_of": 3})),
        ("/v1/embeddings", json!({"input": [words, [1, 2, 3]]})),
        ("/v1/responses", json!({"input": [{"role": "user", "content": words}], "max_output_tokens": 900})),
        (
            "/v1/messages",
            json!({"system": words, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 900}),
        ),
    ] {
        let mut body = body;
        body["model"] = json!("gpt-4o");
        let plain = charges(path, &[], body.to_string().as_bytes());
        assert!(plain.len() >= 10, "{plain:?}");
        // Each spelling meets each form at some endpoint.
        for (at, spelling) in SPELLINGS.into_iter().enumerate() {
            for form in (0..FORMS).filter(|form| (form + at + path.len()) % 3 == 0) {
                let text = spelling.write(&body);
                let (headers, bytes) = on_its_way(form, &text);
                let how = format!("{path} {spelling:?} {form}");
                assert_no_less(&plain, &charges(path, &headers, &bytes), &how);
            }
        }
    }
}

/// What nobody reads costs no less than what is hidden in it.
#[test]
fn no_damage_to_a_body_makes_it_cost_less() {
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(200)}]})
        .to_string();
    let plain = charges("/v1/chat/completions", &[], body.as_bytes());
    for (headers, bytes) in [
        (vec![], body.as_bytes()[..body.len() - 1].to_vec()),
        (vec![], body.replacen(':', "", 1).into_bytes()),
        (vec![("content-type", "application/json; charset=utf-7")], body.clone().into_bytes()),
        (vec![("content-encoding", "gzip")], body.clone().into_bytes()),
        (vec![("content-encoding", "br")], vec![0xFF; 40]),
    ] {
        assert_no_less(&plain, &charges("/v1/chat/completions", &headers, &bytes), &format!("{headers:?}"));
    }
}

/// Two readers take one body for two requests, if they mind its headers or not.
#[test]
fn a_body_with_two_meanings_costs_no_less_than_either() {
    let path = "/v1/chat/completions";
    let dear = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(200)}],
        "max_tokens": 3_000})
    .to_string();
    let plain = charges(path, &[], dear.as_bytes());
    let cheap = r#"{"model":"cheap","messages":[]"#;
    let mut form =
        percent_encoding::utf8_percent_encode(&dear, percent_encoding::NON_ALPHANUMERIC).to_string();
    form = format!("{cheap},\"x\":\"&messages={form}&mod%65l=gpt-4o\"}}");
    let parts =
        format!("{cheap}}}\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n--b--");
    let is_charged = |charged: &Charges, how: &str| {
        for counter in plain.keys() {
            assert!(charged.contains_key(counter), "{how}: {counter:?} does not apply");
        }
    };
    let of_form = [("content-type", "Application/x-www-form-urlencoded;charset=utf-8")];
    is_charged(&charges(path, &of_form, form.as_bytes()), "a form");
    is_charged(
        &charges(path, &[("content-type", "multipart/form-data; boundary=b")], parts.as_bytes()),
        "parts",
    );
    // Who sends JSON as a form, as curl does if not told otherwise, is charged for the JSON.
    assert_eq!(charges(path, &of_form, dear.as_bytes()), plain);
    for header in [
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
        ("content-encoding", "zstd, deflate"),
        ("content-type", "application/json; charset=utf-7"),
        ("content-type", "multipart/mixed"),
    ] {
        assert_no_less(&plain, &charges(path, &[header], dear.as_bytes()), &format!("{header:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_spelling_of_any_body_costs_less(
        members in prop::collection::vec((any::<Index>(), bodies::value()), 0..6),
        spelling in prop::sample::select(SPELLINGS.to_vec()),
        form in 0..FORMS,
        path in prop::sample::select(vec![
            "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
        ]),
    ) {
        let mut body = json!({"model": "gpt-4o"});
        for (name, value) in members {
            body[*name.get(bodies::NAMES)] = value;
        }
        let plain = charges(path, &[], body.to_string().as_bytes());
        let (headers, bytes) = on_its_way(form, &spelling.write(&body));
        assert_no_less(&plain, &charges(path, &headers, &bytes), &format!("{path} {spelling:?} {form} {body}"));
    }
}

/// The same for requests of every shape that clients send: JSON lines with `path` and `body`. `RECORDED_REQUESTS` names
/// a file of more.
#[test]
fn no_spelling_of_a_recorded_body_costs_less() {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/requests.jsonl");
    let path = std::env::var("RECORDED_REQUESTS").unwrap_or_else(|_| usual.to_owned());
    let recorded = std::fs::read_to_string(path).unwrap();
    let mut checked = 0;
    for (at, line) in recorded.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (path, text) = (line["path"].as_str().unwrap(), line["body"].as_str().unwrap());
        let Ok(body @ Value::Object(_)) = serde_json::from_str(text) else { continue };
        if !Config::from_bytes(b"{}").unwrap().endpoints().route(path).endpoint.has_format() {
            continue;
        }
        // serde_json puts members into another order, which may change what JSON in a prompt counts.
        let plain = charges(path, &[], body.to_string().as_bytes());
        let as_recorded = charges(path, &[], text.as_bytes());
        for form in 0..FORMS {
            let (headers, bytes) = on_its_way(form, text);
            assert_no_less(
                &as_recorded,
                &charges(path, &headers, &bytes),
                &format!("line {at} in form {form}"),
            );
        }
        for (spelling, form) in SPELLINGS.into_iter().zip((0..FORMS).cycle().skip(at)) {
            let (headers, bytes) = on_its_way(form, &spelling.write(&body));
            let how = format!("line {at} {path} {spelling:?} {form}");
            assert_no_less(&plain, &charges(path, &headers, &bytes), &how);
        }
        checked += 1;
    }
    assert!(checked > 0);
}
