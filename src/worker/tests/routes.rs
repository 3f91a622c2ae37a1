//! Which requests limits apply to: by path, method and upgrade.

use super::*;

/// A request by `method` to `path`, with more headers.
fn request(method: &str, path: &str, more: &[(&'static str, &str)]) -> Request {
    let mut request = post(path, "key");
    request.0[0].1 = method.to_owned();
    request.0.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    request
}

const JSON: (&str, &str) = ("content-type", "application/json");
const WEBSOCKET: (&str, &str) = ("upgrade", "websocket");

/// The status of the request's headers: 200 if they go on, 0 if they wait for the body.
fn ask(config: &Value, request: &Request, end_of_stream: bool) -> u32 {
    let memory = Memory::default();
    let mut worker = worker(&memory, config);
    status(&worker.request_headers(1, request, end_of_stream, NOW).directive)
}

fn reply(directive: Directive) -> (u32, HashMap<&'static str, String>, Value) {
    let Directive::Reply(reply) = directive else { panic!("{directive:?}") };
    (reply.status, reply.headers.into_iter().collect(), serde_json::from_slice(&reply.body).unwrap())
}

#[test]
fn any_request_counts_unless_it_only_reads() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 3})));
    let mut send = |stream, method, path| {
        status(&worker.request_headers(stream, &request(method, path, &[]), true, NOW).directive)
    };
    for (stream, (method, path)) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/chat/completions"),
        ("HEAD", "/anything"),
        ("OPTIONS", "/v1/chat/completions"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/health"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(send(u32::try_from(stream).unwrap(), method, path), 200, "{method} {path}");
    }
    for (stream, (method, path)) in
        [("POST", "/v1/files"), ("DELETE", "/v1/files/f"), ("PUT", "/v1/chat/completions")]
            .into_iter()
            .enumerate()
    {
        assert_eq!(send(100 + u32::try_from(stream).unwrap(), method, path), 200, "{method} {path}");
    }
    for (method, path) in [
        ("POST", "/v1/files"),
        ("CONNECT", ""),
        ("TRACE", "/v1/files"),
        ("OPTION", "/v1/files"),
        ("post", "/v1/files"),
        ("get", "/v1/files"),
        ("POST", "/health"),
        ("POST", "/v1/messages/count_tokens"),
        ("PATCH", "/v1/chat/completions"),
    ] {
        assert_eq!(send(200, method, path), 429, "{method} {path}");
    }
    assert_eq!(send(300, "GET", "/v1/files"), 200);
    assert_eq!(send(301, "POST", "/v1/responses/resp_1/cancel"), 200, "no limit refuses it");
}

#[test]
fn only_json_is_held_back_and_only_where_the_body_matters() {
    let multipart = ("content-type", "multipart/form-data; boundary=x");
    let grpc = ("content-type", "application/grpc");
    for (limits, content_type, expected) in [
        (json!({"tpm": 100}), JSON, 0),
        (json!({"windows": [{"metric": "cost_usd", "limit": 1, "window": "1d"}]}), JSON, 0),
        (json!({"rpm": 5, "models": {"a": {"rpm": 5}}}), JSON, 0),
        (json!({"rpm": 5}), JSON, 200),
        (json!({"tpm": 100}), ("content-type", "Application/Problem+JSON; charset=utf-8"), 0),
        (json!({"tpm": 100}), multipart, 200),
        (json!({"tpm": 100}), grpc, 200),
        (json!({"tpm": 100}), ("content-type", "text/event-stream"), 200),
        (json!({"tpm": 100}), ("x-content", "application/json"), 200),
    ] {
        let config = json!({"default": limits, "prices": {"*": {"input": 1, "output": 1}}});
        let asked = ask(&config, &request("POST", "/v1/images/edits", &[content_type]), false);
        assert_eq!(asked, expected, "{limits} {content_type:?}");
    }
    let chat = request("POST", "/v1/chat/completions", &[multipart]);
    assert_eq!(ask(&local(json!({"tpm": 100})), &chat, false), 0, "an LLM's body is read whatever its type");
    let empty = request("POST", "/v1/images/edits", &[JSON]);
    assert_eq!(ask(&local(json!({"tpm": 100})), &empty, true), 200);
}

/// Sends a JSON body to an unknown endpoint, answers it, and returns the tokens that are charged in the end.
fn charged(path: &str, body: &'static [u8], head: ResponseHead<'_>, answer: &[u8]) -> u64 {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"tpm": 1_000_000})));
    worker.request_headers(1, &request("POST", path, &[JSON]), false, NOW);
    worker.request_body(1, true, || body.to_vec(), NOW);
    worker.response_headers(1, head, false, NOW);
    worker.response_body(1, answer, true, NOW);
    worker.stream_done(1, NOW);
    used(&mut worker, 2) - PROMPT
}

#[test]
fn an_unknown_endpoint_costs_the_size_of_its_json_or_what_the_answer_reports() {
    let body = br#"{"model":"gpt-image-1","prompt":"a cat","n":2,"max_tokens":500}"#;
    let size = (body.len() as u64).div_ceil(4);
    let events = ResponseHead { content_type: Some("text/event-stream"), ..OK };
    let binary = ResponseHead { content_type: Some("application/octet-stream"), ..OK };
    let reported = br#"{"data":[],"usage":{"input_tokens":50,"output_tokens":4160,"total_tokens":4210}}"#;
    let stream =
        b"data: {\"type\":\"image_generation.completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":8}}\n\n";
    let said = br#"{"content":[{"type":"text","text":"what the client wrote itself"}]}"#;
    for (path, head, answer, expected) in [
        ("/v1/images/generations", OK, &reported[..], 4_210),
        ("/v1/images/generations", OK, b"{}", size),
        ("/v1/images/generations", OK, said, size),
        ("/v1/threads/t/messages", OK, said, size),
        ("/v1/images/generations", binary, reported, size),
        ("/v1/images/generations", events, stream, 17),
        ("/v1/images/generations", ResponseHead { status: 500, ..OK }, b"{}", 0),
        ("/v1/messages/count_tokens", OK, reported, 0),
        ("/v1/moderations", OK, reported, 0),
    ] {
        assert_eq!(charged(path, body, head, answer), expected, "{path} {answer:?}");
    }
}

#[test]
fn a_request_without_tokens_is_refused_by_limits_on_requests_alone() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 2, "tpm": 0})));
    let mut send = |stream, path| {
        status(&worker.request_headers(stream, &request("POST", path, &[JSON]), false, NOW).directive)
    };
    assert_eq!([send(1, "/tokenize"), send(2, "/v1/moderations"), send(3, "/tokenize")], [200, 200, 429]);
    let only_tokens = local(json!({"tpm": 0}));
    assert_eq!(ask(&only_tokens, &request("POST", "/tokenize", &[JSON]), false), 200);
}

#[test]
fn the_model_that_an_unknown_endpoint_names_has_its_limits() {
    let memory = Memory::default();
    let config = local(json!({"rpm": 10, "models": {"dall-e-3": {"rpm": 1}}}));
    let mut worker = worker(&memory, &config);
    let mut send = |stream, model: &str| {
        worker.request_headers(stream, &request("POST", "/v1/images/generations", &[JSON]), false, NOW);
        let body = json!({"model": model}).to_string();
        status(&worker.request_body(stream, true, || body.clone().into_bytes(), NOW).directive)
    };
    assert_eq!([send(1, "dall-e-3"), send(2, "dall-e-2"), send(3, "dall-e-3")], [200, 200, 429]);
}

#[test]
fn a_rejected_endpoint_is_answered_403_in_the_form_of_its_api() {
    let config = json!({
        "endpoints": {"/v1/files*": "reject", "/anthropic/*": "reject"},
        "keys": [{"key": "free", "unlimited": true}, {"key": "dry", "rpm": 1, "dry_run": true}],
    });
    let memory = Memory::default();
    let mut worker = worker(&memory, &config);
    for (method, path, shape) in [
        ("GET", "/v1/files", "/error/code"),
        ("POST", "/V1/Files%2Ff_1", "/error/code"),
        ("DELETE", "/anthropic/v1/messages", "/error/type"),
    ] {
        let directive = worker.request_headers(1, &request(method, path, &[]), true, NOW).directive;
        let (status, _, body) = reply(directive);
        assert_eq!(status, 403, "{path}");
        let kind = body.pointer(shape).unwrap();
        assert!(["endpoint_not_available", "permission_error"].contains(&kind.as_str().unwrap()), "{body}");
        let log = worker.take_log(1);
        assert!(
            log.contains(&(Field::Decision, "refused".into()))
                && log.contains(&(Field::Reason, "endpoint".into()))
        );
    }
    let options = request("OPTIONS", "/v1/files", &[]);
    assert_eq!(status(&worker.request_headers(2, &options, true, NOW).directive), 200);
    assert_eq!(
        worker.take_metrics(),
        [
            ("llm_rate_limit.decision=.=refused;.;requests".to_owned(), 3),
            ("llm_rate_limit.decision=.=not_limited;.;requests".to_owned(), 1),
            ("llm_rate_limit.reason=.=endpoint;.;refused".to_owned(), 3),
            ("llm_rate_limit.reason=.=method;.;not_limited".to_owned(), 1),
        ]
    );
    let free = post("/v1/files", "free");
    assert_eq!(status(&worker.request_headers(3, &free, true, NOW).directive), 200);
    for stream in [4, 5] {
        let dry = post("/v1/files", "dry");
        assert_eq!(status(&worker.request_headers(stream, &dry, true, NOW).directive), 200);
        assert!(worker.take_log(stream).contains(&(Field::DryRun, "endpoint".into())));
    }
    let metrics = worker.take_metrics();
    for (name, count) in [
        ("decision=.=refused;.;dry_run_requests", 2),
        ("decision=.=admitted;.;requests", 2),
        ("decision=.=over_limit;.;dry_run_requests", 1),
    ] {
        assert!(metrics.contains(&(format!("llm_rate_limit.{name}"), count)), "{metrics:?}");
    }

    let exempt = json!({"endpoints": {"/v1/files": "reject"}, "default": "unlimited"});
    assert_eq!(ask(&exempt, &post("/v1/files", "key"), true), 200);
    let dry = json!({"endpoints": {"/v1/files": "reject"}, "dry_run": true});
    assert_eq!(ask(&dry, &post("/v1/files", "key"), true), 200);
    let stricter = json!({"endpoints": {"*": "reject"}, "default": {"rpm": 1}});
    assert_eq!(ask(&stricter, &post("/v1/audio/speech", "key"), true), 403);
    assert_eq!(ask(&stricter, &post("/v1/embeddings", "key"), true), 200);
}

#[test]
fn strangers_are_rejected_everywhere_but_where_everybody_passes() {
    let config = json!({
        "keys": [{"key": "known", "rpm": 5}], "default": "reject", "endpoints": {"/public/*": "pass"},
    });
    for (method, path, expected) in [
        ("POST", "/v1/files", 401),
        ("GET", "/v1/models", 401),
        ("HEAD", "/v1/models", 401),
        ("DELETE", "/v1/responses/resp_1", 401),
        ("POST", "/v1/responses/resp_1/cancel", 401),
        ("POST", "/tokenize", 401),
        ("POST", "/health", 401),
        ("OPTIONS", "/v1/models", 200),
        ("GET", "/health", 200),
        ("HEAD", "/ping", 200),
        ("POST", "/public/anything", 200),
        ("GET", "/public/..%2fv1/models", 401),
    ] {
        assert_eq!(ask(&config, &request(method, path, &[]), true), expected, "{method} {path}");
    }
    let mut known = post("/v1/models", "known");
    known.0[0].1 = "GET".to_owned();
    assert_eq!(ask(&config, &known, true), 200);
    let dry_run = json!({"default": "reject", "dry_run": true});
    assert_eq!(ask(&dry_run, &request("GET", "/v1/models", &[]), true), 200);
}

#[test]
fn a_websocket_to_an_llm_is_answered_426_where_a_limit_may_apply() {
    let limited = local(json!({"rpm": 5}));
    let of_model = local(json!({"models": {"gpt-4*": {"tpm": 5}}}));
    for (config, method, path, more, expected) in [
        (&limited, "GET", "/v1/responses", &[WEBSOCKET][..], 426),
        (&of_model, "GET", "/v1/responses", &[WEBSOCKET], 426),
        (&limited, "GET", "/v1/realtime?model=gpt-realtime", &[("upgrade", "h2c, WebSocket/13")], 426),
        (&limited, "GET", "/V1/Responses/", &[("upgrade", "WEBSOCKET"), ("connection", "keep-alive")], 426),
        (&limited, "CONNECT", "/v1/responses", &[(":protocol", "websocket")], 426),
        (&limited, "OPTIONS", "/v1/responses", &[WEBSOCKET], 426),
        (&limited, "POST", "/v1/responses", &[WEBSOCKET], 426),
        (&limited, "GET", "/v1/responses", &[("upgrade", "h2c")], 200),
        (&limited, "GET", "/v1/responses", &[], 200),
        (&json!({"global": {"rpm": 5}}), "GET", "/v1/responses", &[WEBSOCKET], 426),
        (&json!({}), "GET", "/v1/responses", &[WEBSOCKET], 200),
        (&json!({"default": "unlimited", "global": {"rpm": 0}}), "GET", "/v1/responses", &[WEBSOCKET], 200),
        (&json!({"default": "reject"}), "GET", "/v1/responses", &[WEBSOCKET], 401),
        (&json!({"default": "reject"}), "GET", "/events", &[WEBSOCKET], 401),
    ] {
        let asked = ask(config, &request(method, path, more), false);
        assert_eq!(asked, expected, "{config} {method} {path} {more:?}");
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &limited);
    let directive =
        worker.request_headers(1, &request("GET", "/v1/responses", &[WEBSOCKET]), false, NOW).directive;
    let (_, headers, body) = reply(directive);
    assert_eq!(headers["upgrade"], "HTTP/1.1");
    assert_eq!(headers["connection"], "upgrade");
    assert_eq!(body["error"]["code"], "websocket_not_available");
    assert!(worker.take_log(1).contains(&(Field::Reason, "upgrade".into())));
    let directive =
        worker.request_headers(2, &request("GET", "/v1/messages", &[WEBSOCKET]), false, NOW).directive;
    assert_eq!(reply(directive).2["error"]["type"], "invalid_request_error");
    assert!(worker.take_metrics().contains(&("llm_rate_limit.reason=.=upgrade;.;refused".to_owned(), 2)));
}

const UPGRADED: ResponseHead<'_> = ResponseHead { status: 101, content_type: None, content_encoding: None };

#[test]
fn a_counted_websocket_is_a_request_and_holds_its_slot_as_long_as_it_lives() {
    for (config, path) in [
        (
            json!({"websocket": "count", "default": {"rpm": 3, "tpm": 9, "max_concurrency": 1}}),
            "/v1/responses",
        ),
        (json!({"default": {"rpm": 3, "tpm": 9, "max_concurrency": 1}}), "/events"),
        (
            json!({"endpoints": {"/v1/responses": "count"},
                "default": {"rpm": 3, "tpm": 9, "max_concurrency": 1}}),
            "/v1/responses",
        ),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let request = request("GET", path, &[WEBSOCKET]);
        let open = |worker: &mut Driver<'_>, stream| {
            status(&worker.request_headers(stream, &request, false, NOW).directive)
        };
        assert_eq!(open(&mut worker, 1), 200);
        assert_eq!(worker.request_body(1, false, Vec::new, NOW).directive, Directive::Continue);
        worker.response_headers(1, UPGRADED, false, NOW);
        assert!(!worker.reads_response(1));
        assert_eq!(
            worker.response_body(1, b"{\"usage\":{\"input_tokens\":5}}", false, NOW),
            b"{\"usage\":{\"input_tokens\":5}}"
        );
        assert_eq!(open(&mut worker, 2), 429, "the slot is taken");
        worker.stream_done(1, NOW);
        assert_eq!(open(&mut worker, 3), 200, "the slot is free");
        worker.response_headers(3, UPGRADED, false, NOW);
        worker.stream_done(3, NOW);
        assert_eq!(open(&mut worker, 4), 200);
        worker.response_headers(4, ResponseHead { status: 404, ..OK }, true, NOW);
        worker.stream_done(4, NOW);
        assert_eq!(open(&mut worker, 5), 429, "three requests are over");
    }
}

#[test]
fn a_tunnel_is_a_request_and_holds_its_slot_as_long_as_it_lives() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 2, "tpm": 9, "max_concurrency": 1})));
    let tunnel = request("CONNECT", "", &[]);
    let open = |worker: &mut Driver<'_>, stream| {
        status(&worker.request_headers(stream, &tunnel, false, NOW).directive)
    };
    assert_eq!(open(&mut worker, 1), 200);
    worker.response_headers(1, OK, false, NOW);
    assert_eq!(open(&mut worker, 2), 429, "the slot is taken");
    worker.stream_done(1, NOW);
    assert_eq!(open(&mut worker, 3), 200);
    worker.stream_done(3, NOW);
    assert_eq!(open(&mut worker, 4), 429, "two requests are over");
}

#[test]
fn a_websocket_elsewhere_follows_its_endpoint() {
    for (endpoints, path, expected) in [
        (json!({}), "/events", 429),
        (json!({"/events": "pass"}), "/events", 200),
        (json!({"/events": "reject"}), "/events", 403),
        (json!({"/events": "responses"}), "/events", 426),
        (json!({"*": "pass"}), "/events", 200),
        (json!({"*": "pass"}), "/v1/realtime", 426),
        (json!({"/v1/realtime": "pass"}), "/v1/realtime", 200),
    ] {
        let config = json!({"endpoints": endpoints, "default": {"rpm": 0}});
        assert_eq!(ask(&config, &request("GET", path, &[WEBSOCKET]), false), expected, "{endpoints} {path}");
    }
}

#[test]
fn a_websocket_in_a_dry_run_goes_on_and_is_counted() {
    for config in
        [json!({"dry_run": true, "default": {"rpm": 5}}), json!({"default": {"rpm": 5, "dry_run": true}})]
    {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let request = request("GET", "/v1/responses", &[WEBSOCKET]);
        assert_eq!(worker.request_headers(1, &request, false, NOW).directive, Directive::Continue);
        assert!(worker.take_log(1).contains(&(Field::DryRun, "upgrade".into())));
        let metrics = worker.take_metrics();
        let expected = ["decision=.=admitted;.;requests", "decision=.=refused;.;dry_run_requests"];
        assert_eq!(metrics, expected.map(|name| (format!("llm_rate_limit.{name}"), 1)));
    }
}

#[test]
fn a_post_that_wants_a_websocket_is_counted_as_a_post() {
    let config = json!({"websocket": "count", "default": {"tpm": 5}});
    let request = request("POST", "/v1/responses", &[WEBSOCKET]);
    assert_eq!(ask(&config, &request, false), 0, "servers that know no WebSocket answer it");
}

#[test]
fn the_deployment_in_the_path_has_the_limits() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"models": {"gpt-4o": {"rpm": 1}}})));
    let mut send = |stream, deployment: &str| {
        let path = format!("/openai/deployments/{deployment}/chat/completions?api-version=1");
        worker.request_headers(stream, &post(&path, "key"), false, NOW);
        let body = || br#"{"model":"cheap","messages":[]}"#.to_vec();
        status(&worker.request_body(stream, true, body, NOW).directive)
    };
    assert_eq!([send(1, "gpt-4o"), send(2, "cheap"), send(3, "gpt-4o")], [200, 200, 429]);
}

#[test]
fn the_deployment_has_its_limits_even_if_no_body_says_more() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 9, "models": {"whisper": {"rpm": 1}}})));
    let multipart = ("content-type", "multipart/form-data; boundary=x");
    let mut send = |stream, deployment: &str| {
        let path = format!("/OpenAI/Deployments/{deployment}/audio/transcriptions");
        status(&worker.request_headers(stream, &request("POST", &path, &[multipart]), false, NOW).directive)
    };
    assert_eq!([send(1, "whisper"), send(2, "other"), send(3, "whispe%72;v=1")], [200, 200, 429]);
}
