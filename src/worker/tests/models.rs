//! Models that requests may not name are answered 403 in the form of their API, and nothing is charged.

use super::*;
use crate::session::Directive;

const NOTHING_IS_LEFT: u32 = 429;

/// The answer to a chat with `body`, of the key `key` at `path`: its status, or the error.
fn ask(worker: &mut Driver<'_>, stream: u32, path: &str, body: &Value) -> (u32, Value) {
    let mut directive = worker.request_headers(stream, &post(path, "key"), false, NOW).directive;
    if directive == Directive::Pause {
        directive = worker.whole_body(stream, body.to_string().as_bytes(), NOW);
    }
    let body = match &directive {
        Directive::Reply(reply) => serde_json::from_slice(&reply.body).unwrap(),
        _ => Value::Null,
    };
    (status(&directive), body)
}

fn status_of(limits: &Value, path: &str, body: &Value) -> u32 {
    ask(&mut worker(&Memory::default(), limits), 1, path, body).0
}

const CHAT: &str = "/v1/chat/completions";

fn chat_for(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

#[test]
fn a_model_that_is_not_allowed_is_refused_and_costs_nothing() {
    let memory = Memory::default();
    let limits = json!({"default": {"rpm": 1, "allow_models": ["gpt-4o*", "claude-*"]}});
    let mut worker = worker(&memory, &limits);
    for (stream, path, kind) in
        [(1, CHAT, "/error/code"), (2, "/v1/responses", "/error/code"), (3, "/v1/messages", "/error/type")]
    {
        let (status, error) = ask(&mut worker, stream, path, &chat_for("o3"));
        assert_eq!(status, 403);
        let kind = error.pointer(kind).unwrap().as_str().unwrap();
        assert!(["model_not_found", "permission_error"].contains(&kind), "{error}");
        let message = error.pointer("/error/message").unwrap();
        assert_eq!(message, "The model \"o3\" is not available to this key.");
        let log = worker.take_log(stream);
        for field in [(Field::Decision, "refused"), (Field::Reason, "model"), (Field::Model, "o3")] {
            assert!(log.contains(&(field.0, field.1.to_owned())), "{field:?} in {log:?}");
        }
        assert!(log.iter().any(|(field, _)| *field == Field::Id));
    }
    let refused = ("llm_rate_limit.reason=.=model;.;refused".to_owned(), 3);
    assert!(worker.take_metrics().contains(&refused));
    assert_eq!(ask(&mut worker, 4, CHAT, &chat_for("gpt-4o")).0, 200, "its only request is left");
    assert_eq!(ask(&mut worker, 5, CHAT, &chat_for("gpt-4o")).0, NOTHING_IS_LEFT);
    assert_eq!(ask(&mut worker, 6, CHAT, &chat_for("o3")).0, 403, "it is refused for the model all the same");
}

#[test]
fn every_model_of_a_request_must_pass_wherever_it_is_named() {
    let limits =
        json!({"default": {"allow_models": ["gpt-4o*", "*embedding*"], "deny_models": ["*-audio*"]}});
    let messages = json!([{"role": "user", "content": "hi"}]);
    let several = |models: &[&str]| json!({"models": models, "messages": messages});
    for (path, body, expected) in [
        (CHAT, chat_for("openai/GPT-4o-mini"), 200),
        (CHAT, chat_for("gpt-4o-audio-preview"), 403),
        (CHAT, json!({"model": "gpt-4o", "models": ["o3"], "messages": messages}), 403),
        (CHAT, several(&["gpt-4o", "gpt-4o-mini"]), 200),
        (CHAT, several(&["gpt-4o", "o3"]), 403),
        (CHAT, json!({"messages": messages}), 403),
        (CHAT, json!({"model": null, "messages": messages}), 403),
        (CHAT, json!({"model": 7, "messages": messages}), 403),
        (CHAT, json!({"model": "", "messages": messages}), 403),
        (CHAT, json!({"model": "gpt-4o", "Model": "o3", "messages": messages}), 403),
        (CHAT, json!([[[]]]), 403),
        ("/v1/embeddings", json!({"model": "text-embedding-3-small", "input": "hi"}), 200),
        ("/v1/embeddings", json!({"model": "ada", "input": "hi"}), 403),
        ("/openai/deployments/gpt-4o/chat/completions", chat_for("o3"), 200),
        ("/openai/deployments/o3/chat/completions", chat_for("gpt-4o"), 403),
        ("/v1/engines/davinci/completions", json!({"prompt": "hi"}), 403),
    ] {
        assert_eq!(status_of(&limits, path, &body), expected, "{path} {body}");
    }
}

#[test]
fn a_name_that_is_not_kept_is_no_way_past_a_list() {
    let list = |name: &str, times: usize, last: &str| format!("{}{last}", format!("{name},").repeat(times));
    let long = |name: &str| format!("{name}{}", "x".repeat(300));
    for limits in [
        json!({"default": {"rpm": 9, "allow_models": ["gpt-4o*"], "deny_models": ["o3"]}}),
        json!({"default": {"rpm": 9, "deny_models": ["o3"]}}),
        json!({"default": {"rpm": 9, "models": {"o3": {"rpm": 0}}}}),
    ] {
        let refused = if limits.pointer("/default/models").is_some() { NOTHING_IS_LEFT } else { 403 };
        let body = |members: Value| {
            let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            body
        };
        let many = |last: &str| -> Vec<_> {
            (0..64).map(|at| format!("gpt-4o-{at}")).chain([last.to_owned()]).collect()
        };
        for (path, body, expected) in [
            (CHAT, chat_for(&list("gpt-4o", 20, "gpt-4o-mini")), 200),
            (CHAT, chat_for(&list("gpt-4o", 20, "o3")), refused),
            (CHAT, chat_for(&list("gpt-4o", 63, "o3")), refused),
            (CHAT, chat_for(&list("gpt-4o", 64, "o3")), refused),
            (CHAT, chat_for(&list("gpt-4o", 500, "o3")), refused),
            (CHAT, chat_for(&list("gpt-4o", 64, " o3 ,gpt-4o")), refused),
            (CHAT, chat_for("gpt-4o,o3\u{1f}"), refused),
            (CHAT, chat_for(&format!("{}/o3", long("gpt-4o"))), refused),
            (CHAT, chat_for(&list(&long("gpt-4o"), 1, "o3")), refused),
            (CHAT, body(json!({"models": many("o3")})), refused),
            (CHAT, body(json!({"models": ["gpt-4o", format!("{}/o3", long("gpt-4o"))]})), refused),
            (CHAT, body(json!({"model": "gpt-4o", "fallbacks": many("o3")})), refused),
            (CHAT, body(json!({"model": "gpt-4o", "fallbacks": [list("gpt-4o", 64, "o3")]})), refused),
            (
                &format!("/openai/deployments/{}/o3/chat/completions", long("gpt-4o")),
                chat_for("gpt-4o"),
                refused,
            ),
        ] {
            assert_eq!(status_of(&limits, path, &body), expected, "{path} {body} under {limits}");
        }
    }
}

#[test]
fn a_large_body_is_refused_as_a_small_one() {
    let limits = json!({"default": {"tpm": 10_000_000, "deny_models": ["o3"]}});
    let mut body = chat_for("o3");
    body["messages"][0]["content"] = "word ".repeat(30_000).into();
    assert_eq!(status_of(&limits, CHAT, &body), 403);
    body["model"] = "gpt-4o".into();
    assert_eq!(status_of(&limits, CHAT, &body), 200);
}

#[test]
fn where_no_model_is_needed_none_is_missed() {
    let limits = json!({"default": {"rpm": 9, "allow_models": ["gpt-4o*"]}});
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits);
    let json_body = ("content-type", "application/json".to_owned());
    let mut send = |stream, path: &str, body: &Value| {
        let Request(mut headers) = post(path, "key");
        headers.push(json_body.clone());
        worker.request_headers(stream, &Request(headers), false, NOW);
        status(&worker.whole_body(stream, body.to_string().as_bytes(), NOW))
    };
    assert_eq!(send(1, "/v1/images/generations", &json!({"model": "dall-e-3"})), 403);
    assert_eq!(send(2, "/v1/vector_stores", &json!({"name": "docs"})), 200);
    let typed = |path: &str, kind: &str| {
        let Request(mut headers) = post(path, "key");
        headers.push(("content-type", kind.to_owned()));
        Request(headers)
    };
    let files = typed("/v1/files", "multipart/form-data; boundary=x");
    assert_eq!(status(&worker.request_headers(3, &files, false, NOW).directive), 200);
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let disguised = worker.request_headers(5, &typed("/api/ask", kind), false, NOW).directive;
        assert_eq!(status(&disguised), 403, "{kind}: some servers read JSON in it");
    }
    assert_eq!(status(&worker.request_headers(6, &post("/api/ask", "key"), false, NOW).directive), 403);
    let Request(mut headers) = post("/v1/models", "key");
    headers[0].1 = "GET".to_owned();
    assert_eq!(status(&worker.request_headers(4, &Request(headers), true, NOW).directive), 200);
}

#[test]
fn a_dry_run_reports_what_would_be_refused() {
    for limits in [
        json!({"default": {"rpm": 9, "dry_run": true, "deny_models": ["o3"]}}),
        json!({"dry_run": true, "default": {"rpm": 9, "deny_models": ["o3"]}}),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits);
        assert_eq!(ask(&mut worker, 1, CHAT, &chat_for("o3")).0, 200);
        assert!(worker.take_log(1).contains(&(Field::DryRun, "model".to_owned())));
        let dry = ("llm_rate_limit.decision=.=refused;.;dry_run_requests".to_owned(), 1);
        assert!(worker.take_metrics().contains(&dry));
    }
}

#[test]
fn keys_groups_and_plans_add_up() {
    let limits = json!({
        "plans": {"free": {"allow_models": ["gpt-4o-mini"], "deny_models": ["*-audio"]}},
        "groups": {"team": {"deny_models": ["o1*"]}},
        "keys": [
            {"key": "key", "plan": "free", "group": "team", "allow_models": ["*"], "deny_models": ["o3"]},
        ],
        "default": "reject",
    });
    for (model, expected) in [("gpt-4o", 200), ("gpt-4o-audio", 403), ("o1-mini", 403), ("o3", 403)] {
        assert_eq!(status_of(&limits, CHAT, &chat_for(model)), expected, "{model}");
    }
}
