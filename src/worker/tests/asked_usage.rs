//! Usage that the filter asks for in the client's place, and upstreams that object to that.

use super::*;
use std::io::Write as _;

const STREAM: &[u8] =
    br#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stream":true}"#;

const OBJECTION: &str =
    r#"{"error":{"message":"Unrecognized request argument supplied: stream_options","code":null}}"#;

/// Everything but a limit on requests alone.
fn limits() -> Value {
    json!({"default": {"rpm": 1_000, "tpm": 100_000}, "output_reservation": {"mode": "declared"}})
}

fn request_of(key: &str, authority: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = post("/v1/chat/completions", key);
    request.0.push((":authority", authority.to_owned()));
    request.0.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    request
}

/// Sends `body`, and returns whether the upstream is asked for usage.
fn asks(worker: &mut Driver<'_>, stream: u32, request: &Request, body: &[u8]) -> bool {
    worker.request_headers(stream, request, false, NOW);
    let verdict = worker.request_body(stream, true, || body.to_vec(), NOW);
    assert_eq!(verdict.directive, Directive::Continue);
    let edit = verdict.body.map(|edit| edit.with);
    edit.is_some_and(|with| String::from_utf8(with).unwrap().contains("include_usage\":true"))
}

/// The effects of an upstream's error that comes in these parts.
fn fails(
    worker: &mut Driver<'_>,
    stream: u32,
    head: ResponseHead<'_>,
    parts: &[&[u8]],
) -> (Vec<Option<Directive>>, Effects) {
    let begun = worker.on(stream, Event::ResponseHeaders { response: &head, end_of_stream: false }, NOW);
    let mut directives = vec![begun.directive];
    let mut last = Effects { headers: begun.headers, ..Effects::default() };
    let mut all = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        all.extend_from_slice(part);
        // While the answer is held, all that has come is in the buffer.
        let buffer = || all.clone();
        let end_of_stream = at + 1 == parts.len();
        let effects = worker.on(stream, Event::ResponseBody { buffer: &buffer, end_of_stream }, NOW);
        directives.push(effects.directive);
        last = Effects { directive: None, ..effects };
    }
    worker.stream_done(stream, NOW);
    (directives, last)
}

const BAD: ResponseHead<'_> = ResponseHead { status: 400, ..OK };

const HELD: Option<Directive> = Some(Directive::Pause);
const PASSES: Option<Directive> = Some(Directive::Continue);

#[test]
fn usage_is_asked_for_wherever_tokens_or_dollars_are_limited() {
    let dollars = json!({
        "default": {"windows": [{"metric": "cost_usd", "limit": 5, "window": "1d"}]},
        "prices": {"*": {"input": 1, "output": 1}},
    });
    let of_model = json!({"plans": {"free": {"models": {"o3": {"tpm": 10}, "gpt-4o": {"rpm": 10}}}},
        "default": {"plan": "free"}});
    let mut counted = limits();
    counted["stream_usage"] = json!("count");
    let in_dry_run = |more: Value| {
        let mut config = limits();
        config["dry_run"] = json!(true);
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (config, expected) in [
        (limits(), true),
        (dollars, true),
        (of_model, false),
        (counted, false),
        (in_dry_run(json!({})), false),
        (in_dry_run(json!({"stream_usage": "inject"})), true),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        assert_eq!(asks(&mut worker, 1, &request_of("key", "a", &[]), STREAM), expected, "{config}");
    }
}

#[test]
fn a_body_that_the_option_could_break_goes_as_it_came() {
    let with =
        |member: &str| String::from_utf8(STREAM.to_vec()).unwrap().replacen('{', &format!("{{{member},"), 1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(STREAM).unwrap();
    let gzip = gzip.finish().unwrap();
    let sealed = [("content-digest", "sha-256=:x:")];
    for (headers, body) in [
        (&[][..], with(r#""data_sources":[{"type":"azure_search"}]"#).into_bytes()),
        (&[][..], with(r#""dataSources":[]"#).into_bytes()),
        (&[][..], with(r#""stream_options":{"include_usage":true}"#).into_bytes()),
        (&[("content-encoding", "gzip")][..], gzip),
        (&sealed[..], STREAM.to_vec()),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits());
        assert!(!asks(&mut worker, 1, &request_of("key", "a", headers), &body), "{headers:?}");
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits());
    worker.worker.shared.stop_holding_headers();
    assert!(!asks(&mut worker, 1, &request_of("key", "a", &[]), STREAM), "the headers have gone");
}

#[test]
fn an_upstream_that_objects_is_not_asked_again_and_the_try_costs_nothing() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(OBJECTION.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let plain = OBJECTION.as_bytes();
    for (status, content_encoding, parts) in [
        (400, None, vec![plain]),
        (422, None, vec![plain, b""]),
        (400, None, vec![&plain[..40], &plain[40..50], &plain[50..]]),
        (400, Some("gzip"), vec![&gzip[..10], &gzip[10..]]),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits());
        assert!(asks(&mut worker, 1, &request_of("key", "azure", &[]), STREAM));
        let head = ResponseHead { status, content_encoding, ..BAD };
        let (directives, effects) = fails(&mut worker, 1, head, &parts);
        let held = parts.len();
        assert!(directives[..held].iter().all(|directive| *directive == HELD));
        assert_eq!(directives[held], PASSES);
        let value = |name: &str| {
            let found = effects.headers.set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_str())
        };
        let body = effects.body.as_ref().unwrap();
        assert_eq!(body.replaced, parts.concat().len());
        assert_eq!(value(":status"), Some("503"));
        assert_eq!(value("content-length"), Some(&*body.with.len().to_string()));
        assert_eq!((value("x-should-retry"), value("retry-after-ms")), (Some("true"), Some("1")));
        assert!(effects.headers.remove.contains(&"content-encoding"));
        let error: Value = serde_json::from_slice(&body.with).unwrap();
        assert_eq!(error["error"]["code"], "stream_usage_unavailable");
        let log = worker.take_log(1);
        assert!(log.contains(&(Field::Reason, "stream_options".to_owned())), "{log:?}");

        assert!(!asks(&mut worker, 2, &request_of("key", "Azure", &[]), STREAM));
        let edits = worker.response_headers(2, OK, false, NOW);
        let left = |what: &str| edits.set.iter().find(|(name, _)| *name == what).unwrap().1.clone();
        assert_eq!(left("x-ratelimit-remaining-requests"), "999", "the first try is given back");
        assert_eq!(left("x-ratelimit-remaining-tokens"), (100_000 - PROMPT - 9).to_string());
        assert!(!asks(&mut worker, 3, &request_of("another", "azure", &[]), STREAM));
        assert!(asks(&mut worker, 4, &request_of("key", "openai", &[]), STREAM));
        let other = String::from_utf8(STREAM.to_vec()).unwrap().replace("gpt-4o", "o3");
        assert!(asks(&mut worker, 5, &request_of("key", "azure", &[]), other.as_bytes()));
        assert!(worker.take_metrics().contains(&("llm_rate_limit.stream_usage_refused".to_owned(), 1)));
    }
}

#[test]
fn every_other_error_passes_as_it_came() {
    let about_model = br#"{"error":{"message":"model: not found","code":"model_not_found"}}"#;
    let long = [OBJECTION.as_bytes(), &[b' '; 70_000]].concat();
    for (head, parts, is_held) in [
        (BAD, vec![&about_model[..]], true),
        (ResponseHead { status: 422, ..BAD }, vec![&about_model[..20], &about_model[20..]], true),
        (BAD, vec![&long[..100], &long[100..66_000], &long[66_000..]], true),
        (ResponseHead { content_encoding: Some("x-unknown"), ..BAD }, vec![OBJECTION.as_bytes()], false),
        (ResponseHead { status: 404, ..BAD }, vec![OBJECTION.as_bytes()], false),
        (ResponseHead { status: 500, ..BAD }, vec![OBJECTION.as_bytes()], false),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &limits());
        assert!(asks(&mut worker, 1, &request_of("key", "a", &[]), STREAM));
        let begun = worker.on(1, Event::ResponseHeaders { response: &head, end_of_stream: false }, NOW);
        assert_eq!(begun.directive, is_held.then_some(Directive::Pause), "{}", head.status);
        let mut edits = begun.headers;
        let mut all = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            all.extend_from_slice(part);
            let buffer = || all.clone();
            let event = Event::ResponseBody { buffer: &buffer, end_of_stream: at + 1 == parts.len() };
            let effects = worker.on(1, event, NOW);
            assert_eq!(effects.body, None);
            if effects.headers != HeaderEdits::default() {
                edits = effects.headers;
            }
        }
        let left = edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-requests").unwrap();
        assert_eq!(left.1, "999");
        worker.stream_done(1, NOW);
        assert!(asks(&mut worker, 2, &request_of("key", "a", &[]), STREAM), "it is asked again");
        let edits = worker.response_headers(2, OK, false, NOW);
        let left = edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-requests").unwrap();
        assert_eq!(left.1, "998", "the failed request stays charged");
    }
}

#[test]
fn an_error_that_a_client_may_have_caused_concerns_it_alone() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits());
    let body = String::from_utf8(STREAM.to_vec()).unwrap().replace("user", "stream_options");
    assert!(asks(&mut worker, 1, &request_of("key", "a", &[]), body.as_bytes()));
    let (_, effects) = fails(&mut worker, 1, BAD, &[OBJECTION.as_bytes()]);
    assert!(effects.body.is_some());
    assert!(!asks(&mut worker, 2, &request_of("key", "a", &[]), body.as_bytes()));
    assert!(asks(&mut worker, 3, &request_of("another", "a", &[]), STREAM));
}

#[test]
fn a_client_that_leaves_while_an_error_is_held_is_charged_for_an_error() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits());
    assert!(asks(&mut worker, 1, &request_of("key", "a", &[]), STREAM));
    worker.on(1, Event::ResponseHeaders { response: &BAD, end_of_stream: false }, NOW);
    let effects = worker.on(1, Event::StreamDone { flags: &ResponseFlags::default }, NOW);
    assert_eq!(effects.headers, HeaderEdits::default(), "no header may be edited at the end");
    assert!(!worker.knows(1));
    asks(&mut worker, 2, &request_of("key", "a", &[]), STREAM);
    let edits = worker.response_headers(2, OK, false, NOW);
    let left = edits.set.iter().find(|(name, _)| *name == "x-ratelimit-remaining-tokens").unwrap();
    assert_eq!(left.1, (100_000 - PROMPT - 9).to_string());
}

#[test]
fn nulls_in_the_place_of_usage_are_hidden_too() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &limits());
    assert!(asks(&mut worker, 1, &request_of("key", "a", &[]), STREAM));
    let head = ResponseHead { content_type: Some("text/event-stream"), ..OK };
    worker.response_headers(1, head, false, NOW);
    let asked = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
    let seen = worker.response_body(1, asked.as_bytes(), false, NOW);
    assert_eq!(String::from_utf8(seen).unwrap(), asked.replace(",\"usage\":null", ""));
}
