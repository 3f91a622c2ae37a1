//! Requests that go on although they are over a limit.

use super::*;

fn chat_for(model: &str) -> Vec<u8> {
    json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, "model": model})
        .to_string()
        .into_bytes()
}

/// Sends a request with this body and returns the effects of its last callback.
fn effects(worker: &mut Driver<'_>, stream: u32, body: &[u8]) -> Effects {
    let request = chat();
    let first = worker.on(stream, Event::RequestHeaders { request: &request, end_of_stream: false }, NOW);
    if first.directive != Some(Directive::Pause) {
        return first;
    }
    let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
    let mut effects = worker.worker.body(stream, &buffer, Some(body.len()), true, &clock(NOW));
    worker.log.entry(stream).or_default().push(std::mem::take(&mut effects.log));
    effects
}

/// The model that the upstream gets instead of that in `body`.
fn new_model(effects: &Effects, body: &[u8]) -> Option<String> {
    let mut body = body.to_vec();
    for edit in effects.body.iter().chain(&effects.amended.model) {
        body.splice(edit.after..edit.after + edit.replaced, edit.with.clone());
    }
    effects.amended.model.as_ref()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["model"].as_str().map(str::to_owned)
}

fn code(effects: &Effects) -> u32 {
    effects.directive.as_ref().map_or(0, status)
}

fn set(effects: &Effects) -> Vec<(&str, Option<&str>)> {
    effects.amended.routes.iter().map(|(name, value)| (&**name, value.as_deref())).collect()
}

fn cheap() -> Value {
    json!({"continue": true, "header": {"name": "X-Route", "value": "cheap"}})
}

/// The fields of the log that say what has become of `stream`.
fn line(worker: &mut Driver<'_>, stream: u32) -> [Option<String>; 4] {
    let line = worker.take_log(stream);
    [Field::Decision, Field::Reason, Field::Limit, Field::Model]
        .map(|field| line.iter().rev().find(|(known, _)| *known == field).map(|(_, value)| value.clone()))
}

#[test]
fn a_request_over_a_limit_is_charged_and_goes_on_with_a_header() {
    for store in [json!({"type": "local"}), json!({"type": "redis", "cluster": "s", "on_error": "deny"})] {
        let memory = Memory::default();
        let mut config = local(json!({"input_tpm": 2 * PROMPT, "rpm": 3, "on_limit": "refuse"}));
        config["default"]["windows"] =
            json!([{"metric": "requests", "limit": 1, "window": "1h", "on_limit": cheap()}]);
        config["store"] = store.clone();
        let is_local = store["type"] == "local";
        let mut worker = worker(&memory, &config);
        let first = effects(&mut worker, 1, &chat_for("gpt-4o"));
        if !is_local {
            let callout = worker.turn(NOW).callouts.remove(0);
            let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
            let enforced: Vec<_> = ScopeCharges::flat(&calls[0].charges)
                .map(|charge| (&*charge.name, charge.limit.get(), charge.enforced))
                .collect();
            let expected =
                [("requests", 3, true), ("input_tokens", 2 * PROMPT, true), ("requests", 1, false)];
            assert_eq!(enforced, expected, "one atomic step charges all");
            continue;
        }
        assert_eq!((code(&first), set(&first)), (200, vec![]));
        let second = effects(&mut worker, 2, &chat_for("gpt-4o"));
        assert_eq!((code(&second), set(&second)), (200, vec![("x-route", Some("cheap"))]));
        assert_eq!(second.amended.model, None);
        let [decision, reason, limit, _] = line(&mut worker, 2);
        assert_eq!(decision.as_deref(), Some("admitted"));
        assert_eq!(reason.as_deref(), Some("over_limit"));
        assert_eq!(limit.as_deref(), Some("key/requests/1h"));
        let metrics = worker.take_metrics();
        assert!(
            metrics.iter().any(|(name, n)| name.ends_with("window=.=1h;.;continued") && *n == 1),
            "{metrics:?}"
        );
        let refused = effects(&mut worker, 3, &chat_for("gpt-4o"));
        assert_eq!(code(&refused), 429, "the limit on tokens holds");
        assert_eq!(set(&refused), []);
        let edits = worker.response_headers(2, OK, true, NOW);
        assert!(edits.set.contains(&("x-ratelimit-remaining", "0".to_owned())), "{edits:?}");
    }
}

#[test]
fn no_client_sets_the_header_of_a_limit_in_a_dry_run() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 1, "dry_run": true, "on_limit": cheap()})));
    for stream in [1, 2] {
        let event = Event::RequestHeaders { request: &chat(), end_of_stream: true };
        assert_eq!(set(&worker.on(stream, event, NOW)), [("x-route", None)], "{stream}");
    }
}

#[test]
fn no_client_sets_the_header() {
    let memory = Memory::default();
    let mut config = local(json!({"rpm": 1, "on_limit": cheap()}));
    config["keys"] = json!([{"key": "free", "unlimited": true}]);
    let mut worker = worker(&memory, &config);
    for (stream, request) in
        [(1, chat()), (2, post("/v1/chat/completions", "free")), (3, post("/other", "a")), (4, chat())]
    {
        let effects =
            worker.on(stream, Event::RequestHeaders { request: &request, end_of_stream: true }, NOW);
        let routes = set(&effects);
        assert_eq!(routes.first(), Some(&("x-route", None)), "{stream}: before it is set");
        assert_eq!(routes.len(), if stream == 4 { 2 } else { 1 }, "{routes:?}");
    }
}

fn falling_back() -> Value {
    let to_mini =
        json!({"continue": true, "model": "gpt-4o-mini", "header": {"name": "x-fell", "value": "1"}});
    local(json!({"rpm": 100, "models": {
        "gpt-4o": {"rpm": 1, "on_limit": to_mini},
        "gpt-4o-mini": {"rpm": 2},
    }}))
}

#[test]
fn a_request_over_a_limit_goes_on_for_another_model_once() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &falling_back());
    let body = chat_for("gpt-4o");
    let models: Vec<_> = (1..=4)
        .map(|stream| {
            let effects = effects(&mut worker, stream, &body);
            (code(&effects), new_model(&effects, &body), set(&effects).contains(&("x-fell", Some("1"))))
        })
        .collect();
    let mini = || Some("gpt-4o-mini".to_owned());
    assert_eq!(models, [(200, None, false), (200, mini(), true), (200, mini(), true), (429, None, false)]);
    let [decision, reason, limit, model] = line(&mut worker, 3);
    assert_eq!([decision.as_deref(), reason.as_deref()], [Some("admitted"), Some("over_limit")]);
    assert_eq!(limit.as_deref(), Some("key/gpt-4o/requests/1m"));
    assert_eq!(model.as_deref(), Some("gpt-4o-mini"));
    let [decision, reason, limit, _] = line(&mut worker, 4);
    assert_eq!([decision.as_deref(), reason.as_deref()], [Some("over_limit"), Some("used_up")]);
    assert_eq!(limit.as_deref(), Some("key/gpt-4o-mini/requests/1m"));
    let body = chat_for("o3");
    assert_eq!(code(&effects(&mut worker, 5, &body)), 200);
    let edits = worker.response_headers(5, OK, true, NOW);
    assert!(edits.set.contains(&("x-ratelimit-remaining-requests", "96".to_owned())), "{edits:?}");
}

#[test]
fn there_is_no_third_model() {
    let memory = Memory::default();
    let to = |model: &str| json!({"continue": true, "model": model});
    let config = local(json!({"rpm": 100, "models": {
        "gpt-4o": {"rpm": 1, "on_limit": to("gpt-4o-mini")},
        "gpt-4o-mini": {"rpm": 1, "on_limit": to("o3")},
    }}));
    let mut worker = worker(&memory, &config);
    let body = chat_for("gpt-4o");
    let codes = [1, 2, 3].map(|stream| code(&effects(&mut worker, stream, &body)));
    assert_eq!(codes, [200, 200, 429]);
}

/// A body that is read in steps is counted for the other model as a small one is.
#[test]
fn tools_cost_the_other_model_what_they_cost_it_alone() {
    let tools: Vec<_> = (0..600)
        .map(|n| {
            json!({"type": "function", "function": {"name": format!("tool_{n}"), "description": "a tool of many words",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}})
        })
        .collect();
    let chat_for = |model: &str| {
        let messages = json!([{"role": "user", "content": "hi"}]);
        json!({"messages": messages, "tools": tools, "max_tokens": 9, "model": model})
            .to_string()
            .into_bytes()
    };
    let to = json!({"continue": true, "model": "llama-3.3-70b"});
    let config = local(json!({"input_tpm": 1_000_000, "models": {"gpt-4o": {"rpm": 1, "on_limit": to}}}));
    let left = |models: &[&str]| {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        for (stream, model) in (1..).zip(models) {
            let body = chat_for(model);
            worker.request_headers(stream, &chat(), false, NOW);
            assert_eq!(status(&worker.whole_body(stream, &body, NOW)), 200);
        }
        let edits = worker.response_headers(models.len() as u32, OK, true, NOW);
        edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-input-tokens").unwrap().1.clone()
    };
    let used = |left: String| 1_000_000 - left.parse::<u64>().unwrap();
    let (first, other) = (used(left(&["gpt-4o"])), used(left(&["llama-3.3-70b"])));
    assert_eq!(used(left(&["gpt-4o", "gpt-4o"])), first + other);
}

#[test]
fn a_model_that_is_asked_for_itself_is_no_fallback() {
    let memory = Memory::default();
    let mini = json!({"continue": true, "model": "gpt-4o-mini"});
    let mut worker = worker(&memory, &local(json!({"rpm": 1, "on_limit": mini})));
    let body = chat_for("gpt-4o-mini");
    for stream in 1..=3 {
        let effects = effects(&mut worker, stream, &body);
        assert_eq!((code(&effects), effects.amended.model), (200, None));
    }
    let body = chat_for("gpt-4o");
    let over = effects(&mut worker, 4, &body);
    assert_eq!((code(&over), new_model(&over, &body).as_deref()), (200, Some("gpt-4o-mini")));
}

#[test]
fn what_cannot_be_changed_is_refused() {
    let config = falling_back();
    let other_than = |change: &dyn Fn(&mut Value)| {
        let mut body: Value = serde_json::from_slice(&chat_for("gpt-4o")).unwrap();
        change(&mut body);
        body.to_string().into_bytes()
    };
    for (what, body) in [
        ("several models", other_than(&|body| body["models"] = json!(["gpt-4o"]))),
        ("a second name", other_than(&|body| body["Model"] = json!("gpt-4o"))),
        ("a large body", other_than(&|body| body["user"] = json!("a ".repeat(600_000)))),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        assert_eq!(code(&effects(&mut worker, 1, &chat_for("gpt-4o"))), 200);
        worker.request_headers(2, &chat(), false, NOW);
        assert_eq!(status(&worker.whole_body(2, &body, NOW)), 429, "{what}");
        assert_eq!(code(&effects(&mut worker, 3, &chat_for("gpt-4o"))), 200, "{what}");
    }
    let memory = Memory::default();
    let mut first = config;
    first["headers_mode"] = json!("headers_first");
    let mut worker = worker(&memory, &first);
    let codes: Vec<_> = (1..=2)
        .map(|stream| {
            worker.request_headers(stream, &chat(), false, NOW);
            status(&worker.request_body(stream, true, || chat_for("gpt-4o"), NOW).directive)
        })
        .collect();
    assert_eq!(codes, [200, 429], "its headers have gone on");
}

#[test]
fn a_refusal_from_memory_is_by_no_limit_that_lets_requests_go_on() {
    let memory = Memory::default();
    let mut config = falling_back();
    config["default"]["models"]["gpt-4o"]["windows"] =
        json!([{"metric": "requests", "limit": 2, "window": "1h", "on_limit": cheap()}]);
    let mut worker = worker(&memory, &config);
    let codes: Vec<_> =
        (1..=5).map(|stream| code(&effects(&mut worker, stream, &chat_for("gpt-4o")))).collect();
    assert_eq!(codes, [200, 200, 200, 429, 429]);
    let [_, _, limit, _] = line(&mut worker, 5);
    assert_eq!(limit.as_deref(), Some("key/gpt-4o-mini/requests/1m"));
}

#[test]
fn a_request_falls_back_when_the_sidecar_refuses() {
    let memory = Memory::default();
    let mut config = falling_back();
    config["store"] = json!({"type": "redis", "cluster": "s", "on_error": "deny"});
    let mut worker = worker(&memory, &config);
    let body = chat_for("gpt-4o");
    assert_eq!(effects(&mut worker, 1, &body).directive, Some(Directive::Pause));
    let callout = worker.turn(NOW).callouts.remove(0);
    // Of its limits, only that of the model is passed.
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let state = |charge: &wire::Charge| WindowState {
        used: Units::new(1),
        reset: Millis::MINUTE,
        fit: wire::fit(if charge.name.contains("gpt-4o") { 1_000 } else { 0 }),
        granted: Units::ZERO,
    };
    let windows = ScopeCharges::flat(&calls[0].charges).map(state).collect();
    let refused = serde_json::to_vec(&[Reserved::Decided { admitted: false, windows }]).unwrap();
    let turn = worker.callout_ended(callout.kind, Ok(&refused), NOW);
    assert_eq!(turn.directives, []);
    let again = turn.callouts.into_iter().next().unwrap();
    let next: Vec<Reserve> = serde_json::from_slice(&again.body).unwrap();
    assert_ne!(next[0].id, calls[0].id);
    let names: Vec<_> = ScopeCharges::flat(&next[0].charges).map(|charge| charge.name.to_string()).collect();
    assert_eq!(names, ["requests", "gpt-4o-mini/requests"]);
    let turn = worker.worker.callout_ended(again.kind, Ok(&decided(&again, true)), Millis::new(NOW));
    let (_, effects) = turn.effects.into_iter().next().unwrap();
    assert_eq!((code(&effects), new_model(&effects, &body).as_deref()), (200, Some("gpt-4o-mini")));
    assert!(set(&effects).contains(&("x-fell", Some("1"))));
}

#[test]
fn a_limit_refuses_at_once_or_lets_requests_wait() {
    for (on_limit, expected) in [(None, 0), (Some("wait"), 0), (Some("refuse"), 429)] {
        let memory = Memory::default();
        let mut window = json!({"metric": "requests", "limit": 1, "window": "1s", "segments": 1});
        window["on_limit"] = json!(on_limit.unwrap_or("wait"));
        if on_limit.is_none() {
            window.as_object_mut().unwrap().remove("on_limit");
        }
        let mut worker = worker(&memory, &local(json!({"windows": [window], "max_wait_ms": 5_000})));
        assert_eq!(status(&worker.request_headers(1, &chat(), true, NOW).directive), 200);
        let second = worker.request_headers(2, &chat(), true, NOW).directive;
        assert_eq!(status(&second), expected, "{on_limit:?}");
    }
}

#[test]
fn a_dry_run_changes_nothing_of_requests_over_limits() {
    let memory = Memory::default();
    let mut config = falling_back();
    config["dry_run"] = json!(true);
    let mut worker = worker(&memory, &config);
    for stream in 1..=3 {
        let effects = effects(&mut worker, stream, &chat_for("gpt-4o"));
        assert_eq!((code(&effects), effects.amended.model), (200, None));
    }
    assert!(worker.take_log(3).contains(&(Field::DryRun, "key/gpt-4o/requests/1m".to_owned())));
}
