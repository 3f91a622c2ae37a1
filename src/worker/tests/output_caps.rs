//! Requests for more output than their sender may have are refused, or get the maximum in their bodies.

use super::*;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

/// What the upstream gets, or the status and the error.
type Sent = Result<Value, (u32, Value)>;

fn send(worker: &mut Driver<'_>, stream: u32, request: &Request, body: &[u8]) -> Sent {
    worker.request_headers(stream, request, false, NOW);
    let Verdict { directive, body: edit, .. } = worker.request_body(stream, true, || body.to_vec(), NOW);
    if let Directive::Reply(reply) = &directive {
        return Err((reply.status, serde_json::from_slice(&reply.body).unwrap()));
    }
    let sent = edit.map_or_else(|| body.to_vec(), |edit| [&edit.with, &body[edit.replaced..]].concat());
    Ok(serde_json::from_slice(&sent).unwrap_or_default())
}

fn once(limits: &Value, path: &str, members: Value) -> Sent {
    let body = chat_with(members).to_string();
    send(&mut worker(&Memory::default(), limits), 1, &post(path, "key"), body.as_bytes())
}

fn chat_with(members: Value) -> Value {
    let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

#[test]
fn more_than_the_maximum_is_refused_and_costs_nothing() {
    let limits = json!({"default": {"rpm": 1, "max_output_tokens": 100}});
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits);
    for (stream, path, members, code) in [
        (1, CHAT, json!({"max_tokens": 101}), "/error/code"),
        (2, CHAT, json!({"max_tokens": 5, "max_completion_tokens": 101}), "/error/code"),
        (3, CHAT, json!({"Max_Tokens": 101}), "/error/code"),
        (4, RESPONSES, json!({"max_output_tokens": "101"}), "/error/code"),
        (5, MESSAGES, json!({"max_tokens": 101.0}), "/error/type"),
    ] {
        let body = chat_with(members.clone()).to_string();
        let (status, error) = send(&mut worker, stream, &post(path, "key"), body.as_bytes()).unwrap_err();
        let code = error.pointer(code).unwrap().as_str().unwrap();
        assert!(status == 400 && ["invalid_value", "invalid_request_error"].contains(&code), "{error}");
        let message =
            "The maximum of output tokens is too large: 101. This key may have at most 100 for an answer.";
        assert_eq!(error["error"]["message"], message, "{members}");
        let log = worker.take_log(stream);
        assert!(log.contains(&(Field::Decision, "refused".to_owned())), "{log:?}");
        assert!(log.contains(&(Field::Reason, "cap".to_owned())), "{log:?}");
    }
    assert!(worker.take_metrics().contains(&("llm_rate_limit.reason=.=cap;.;refused".to_owned(), 5)));
    let fits = chat_with(json!({"max_tokens": 100, "n": 4})).to_string();
    assert!(send(&mut worker, 6, &post(CHAT, "key"), fits.as_bytes()).is_ok(), "its only request is left");
}

#[test]
fn a_request_without_a_maximum_reserves_the_largest_for_each_answer() {
    let limits = json!({"default": {"output_tpm": 10_000, "max_output_tokens": 100}});
    for (members, reserved) in [
        (json!({}), "100"),
        (json!({"n": 3}), "300"),
        (json!({"max_tokens": null}), "100"),
        (json!({"max_tokens": -1}), "100"),
        (json!({"max_tokens": 30}), "30"),
        (json!({"MAX_TOKENS": 30}), "100"),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits);
        let body = chat_with(members);
        let sent = send(&mut worker, 1, &post(CHAT, "key"), body.to_string().as_bytes());
        assert_eq!(sent.as_ref(), Ok(&body), "it is not changed");
        let log = worker.take_log(1);
        assert!(log.contains(&(Field::ReservedOutputTokens, reserved.to_owned())), "{body} {log:?}");
    }
}

#[test]
fn clamp_lowers_the_member_that_is_used_and_adds_one_where_none_is() {
    let limits = json!({"default": {"output_tpm": 100, "max_output_tokens": 100, "clamp": true}});
    for (path, members, expected) in [
        (CHAT, json!({"max_tokens": 101}), json!({"max_tokens": 100})),
        (CHAT, json!({"max_completion_tokens": 1e6}), json!({"max_completion_tokens": 100})),
        (
            CHAT,
            json!({"max_tokens": 7, "max_completion_tokens": 200}),
            json!({"max_tokens": 7, "max_completion_tokens": 100}),
        ),
        (CHAT, json!({"Max_Tokens": 30}), json!({"Max_Tokens": 30, "max_tokens": 100})),
        (CHAT, json!({"n_predict": 1}), json!({"n_predict": 1, "max_tokens": 100})),
        (CHAT, json!({"max_tokens": 0}), json!({"max_tokens": 100})),
        (
            CHAT,
            json!({"model": "deepseek-reasoner"}),
            json!({"model": "deepseek-reasoner", "max_tokens": 100}),
        ),
        (CHAT, json!({}), json!({"max_tokens": 100})),
        (CHAT, json!({"max_tokens": null}), json!({"max_tokens": 100})),
        (CHAT, json!({"model": "o3"}), json!({"model": "o3", "max_completion_tokens": 100})),
        (
            CHAT,
            json!({"model": "openai/gpt-5-mini"}),
            json!({"model": "openai/gpt-5-mini", "max_completion_tokens": 100}),
        ),
        (CHAT, json!({"max_tokens": 100}), json!({"max_tokens": 100})),
        (RESPONSES, json!({"model": "o3"}), json!({"model": "o3", "max_output_tokens": 100})),
        (MESSAGES, json!({"max_tokens": 4096}), json!({"max_tokens": 100})),
        ("/v1/completions", json!({"prompt": "hi"}), json!({"prompt": "hi", "max_tokens": 100})),
        ("/v1/embeddings", json!({"input": "hi"}), json!({"input": "hi"})),
    ] {
        assert_eq!(once(&limits, path, members.clone()), Ok(chat_with(expected)), "{path} {members}");
    }
}

#[test]
fn clamp_and_the_question_for_usage_change_a_body_together() {
    let limits = json!({"default": {"tpm": 1_000, "max_output_tokens": 100, "clamp": true}});
    let options = json!({"include_usage": true});
    for members in [json!({}), json!({"max_tokens": 500}), json!({"stream_options": null, "max_tokens": 500})]
    {
        let mut members = members;
        members["stream"] = true.into();
        let expected = json!({"stream": true, "max_tokens": 100, "stream_options": options});
        assert_eq!(once(&limits, CHAT, members), Ok(chat_with(expected)));
    }
}

#[test]
fn a_large_body_gets_a_maximum_too() {
    let limits = json!({"default": {"tpm": 10_000_000, "max_output_tokens": 100, "clamp": true}});
    let text = "word ".repeat(60_000);
    for (members, expected) in [
        (json!({}), Some(json!(100))),
        (json!({"max_tokens": 101}), Some(json!(100))),
        (json!({"max_tokens": 5}), Some(json!(5))),
    ] {
        let mut body = chat_with(members);
        body["messages"][0]["content"] = text.as_str().into();
        let bytes = body.to_string().into_bytes();
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits);
        worker.request_headers(1, &post(CHAT, "key"), false, NOW);
        let read = |_: u32, range: Range<usize>| bytes.get(range).unwrap_or_default().to_vec();
        let mut edit = worker.request_body(1, true, || bytes.clone(), NOW).body;
        while worker.worker.sessions.get(&1).is_some_and(Session::has_work) {
            for (_, effects) in worker.worker.tick(&read, &clock(NOW)).effects {
                edit = effects.body.or(edit);
            }
        }
        let sent = edit.map_or_else(|| bytes.clone(), |edit| [&edit.with, &bytes[edit.replaced..]].concat());
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent.get("max_tokens"), expected.as_ref());
        assert_eq!(sent["messages"], body["messages"]);
    }
}

#[test]
fn the_other_formats_have_their_own_members_and_errors() {
    let limits = json!({"default": {"rpm": 9, "max_output_tokens": 100}});
    let clamps = json!({"default": {"rpm": 9, "max_output_tokens": 100, "clamp": true}});
    for (path, cap, error) in [
        ("/api/chat", "/options/num_predict", "/error"),
        ("/api/generate", "/options/num_predict", "/error"),
        ("/v2/chat", "/max_tokens", "/message"),
    ] {
        let members = |most: u64| match cap {
            "/max_tokens" => json!({"prompt": "hi", "max_tokens": most}),
            _ => json!({"prompt": "hi", "options": {"num_predict": most, "seed": 1}}),
        };
        let (status, body) = once(&limits, path, members(101)).unwrap_err();
        assert_eq!((status, body.pointer(error).unwrap().is_string()), (400, true), "{path} {body}");
        assert!(once(&limits, path, members(100)).is_ok(), "{path}");
        assert_eq!(once(&clamps, path, members(101)).unwrap().pointer(cap), Some(&json!(100)), "{path}");
        assert_eq!(
            once(&clamps, path, json!({"prompt": "hi"})).unwrap().pointer(cap),
            Some(&json!(100)),
            "{path}"
        );
    }
    for path in ["/v2/embed", "/v2/rerank"] {
        assert!(once(&limits, path, json!({"max_tokens": 101})).is_ok(), "{path} has no output");
    }
}

#[test]
fn what_cannot_be_lowered_is_refused() {
    let limits = json!({"default": {"rpm": 9, "max_output_tokens": 100, "clamp": true}});
    let thinks = json!({"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 100}});
    let (status, error) = once(&limits, MESSAGES, thinks).unwrap_err();
    assert_eq!(status, 400);
    assert!(
        error["error"]["message"].as_str().unwrap().starts_with("The thinking budget of 100 tokens"),
        "{error}"
    );
    let thinks = json!({"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 99}});
    assert_eq!(once(&limits, MESSAGES, thinks).unwrap()["max_tokens"], 100);

    // Go's readers take these names for `options`, and others do not.
    for name in ["Options", "option\u{17f}"] {
        for options in [json!({"num_predict": 9_999}), json!({"seed": 1}), json!({"num_predict": 5})] {
            let status = once(&limits, "/api/chat", json!({"prompt": "hi", name: options})).unwrap_err().0;
            assert_eq!(status, 400, "{name}: {options}");
        }
    }
    let none = once(&limits, "/api/chat", json!({"prompt": "hi", "options": null})).unwrap();
    assert_eq!(none["options"], json!({"num_predict": 100}));
    let thinks = json!({"prompt": "hi", "max_tokens": 4096, "thinking": {"token_budget": 100}});
    assert_eq!(once(&limits, "/v2/chat", thinks).unwrap_err().0, 400);

    let digest = ("content-digest", "sha-256=:AAAA:");
    let signature = ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/x, Signature=00");
    let signed_path = (":path", "/v1/chat/completions?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00");
    for (name, value) in [digest, signature, signed_path] {
        let sealed = |body: &Value| {
            let Request(mut headers) = post(CHAT, "key");
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value.to_owned()));
            let memory = Memory::default();
            send(&mut worker(&memory, &limits), 1, &Request(headers), body.to_string().as_bytes())
        };
        assert_eq!(sealed(&chat_with(json!({"max_tokens": 101}))).unwrap_err().0, 400, "{name}");
        assert_eq!(sealed(&chat_with(json!({}))).unwrap_err().0, 400, "{name}");
        assert!(sealed(&chat_with(json!({"max_tokens": 100}))).is_ok(), "{name}");
    }

    let memory = Memory::default();
    let mut headers_first = worker(&memory, &limits);
    headers_first.worker.shared.stop_holding_headers();
    let body = chat_with(json!({"max_tokens": 101})).to_string();
    assert_eq!(send(&mut headers_first, 1, &post(CHAT, "key"), body.as_bytes()).unwrap_err().0, 400);

    for unread in [&b"[[["[..], b"{\"max_tokens\": 5, \"messages\": "] {
        let sent = send(&mut worker(&Memory::default(), &limits), 1, &post(CHAT, "key"), unread);
        assert_eq!(sent.unwrap_err().0, 400);
    }
}

#[test]
fn plans_keys_and_groups_agree_on_the_smallest() {
    let limits = json!({
        "plans": {"free": {"max_output_tokens": 100, "clamp": true}},
        "groups": {"team": {"max_output_tokens": 300}},
        "keys": [{"key": "key", "plan": "free", "group": "team", "max_output_tokens": 200}],
    });
    let sent = |most: u64| once(&limits, CHAT, json!({"max_tokens": most}));
    assert_eq!(sent(150).unwrap()["max_tokens"], 150, "the key's own is larger than its plan's");
    assert_eq!(sent(250).unwrap()["max_tokens"], 200);
    let (_, error) = sent(301).unwrap_err();
    assert!(error["error"]["message"].as_str().unwrap().ends_with("at most 200 for an answer."), "{error}");
}

#[test]
fn a_dry_run_changes_nothing_and_reports_what_would_be_refused() {
    for clamp in [false, true] {
        let limits =
            json!({"default": {"rpm": 9, "max_output_tokens": 100, "clamp": clamp, "dry_run": true}});
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits);
        let body = chat_with(json!({"max_tokens": 101}));
        let sent = send(&mut worker, 1, &post(CHAT, "key"), body.to_string().as_bytes());
        assert_eq!(sent, Ok(body));
        let would_refuse = worker.take_log(1).contains(&(Field::DryRun, "cap".to_owned()));
        assert_eq!(would_refuse, !clamp);
    }
}
