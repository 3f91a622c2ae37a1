//! Streams that the filter reads and edits while they pass.

use super::*;

#[test]
fn usage_that_the_filter_requests_is_hidden_from_the_client() {
    let memory = Memory::default();
    let config = json!({"default": {"tpm": 1_000}, "stream_usage": "inject"});
    let mut worker = worker(&memory, &config);
    worker.request_headers(1, &chat(), false, NOW);
    let body = br#"{"model":"gpt-4o","messages":[],"stream":true,"max_tokens":9}"#;
    let verdict = worker.request_body(1, true, || body.to_vec(), NOW);
    let edit = verdict.body.unwrap();
    let sent: Value = serde_json::from_slice(&[&edit.with, &body[edit.replaced..]].concat()).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));
    assert_eq!(sent["model"], "gpt-4o");
    assert_eq!(verdict.edits.set, [("accept-encoding", "identity".to_owned())], "to be able to hide it");
    worker.response_headers(1, ResponseHead { content_type: Some("text/event-stream"), ..OK }, false, NOW);
    let hello =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n";
    let extra = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
    let done = "data: [DONE]\n\n";
    let (begin, end) = extra.split_at(20);
    let chunks = [format!("{hello}{begin}"), format!("{end}{done}")];
    let seen: Vec<u8> =
        chunks.iter().flat_map(|chunk| worker.response_body(1, chunk.as_bytes(), false, NOW)).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), format!("{hello}{done}"));
    assert_eq!(used(&mut worker, 2), 7 + PROMPT);

    worker.request_headers(3, &chat(), false, NOW);
    let requested = br#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let verdict = worker.request_body(3, true, || requested.to_vec(), NOW);
    assert_eq!((verdict.body, verdict.edits), (None, HeaderEdits::default()), "the client requests usage");
    let malformed = br#"{"model":"gpt-4o","stream":true,"messages":[}"#;
    worker.request_headers(4, &chat(), false, NOW);
    assert_eq!(worker.request_body(4, true, || malformed.to_vec(), NOW).body, None);
}

/// A stream's event with `text`.
fn event(text: &str) -> Vec<u8> {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]})).into_bytes()
}

const SSE: ResponseHead<'_> = ResponseHead { content_type: Some("text/event-stream"), ..OK };

#[test]
fn a_stream_that_outgrows_its_reservation_is_charged_while_it_runs() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"output_tpm": 1_000})));
    send(&mut worker, 1, 1);
    worker.response_headers(1, SSE, false, NOW);
    for _ in 0..100 {
        worker.response_body(1, &event(" word and word"), false, NOW);
    }
    let seen = used(&mut worker, 2);
    assert!((300..400).contains(&seen), "{seen}");
    worker.stream_done(1, NOW);
    assert_eq!(used(&mut worker, 3), 300, "the settlement charges the counted tokens");
}

#[test]
fn a_stream_that_passes_its_limit_can_be_finished() {
    for (mode, is_cut) in [("finish", true), ("continue", false)] {
        let memory = Memory::default();
        let config = json!({"default": {"output_tpm": 200}, "on_stream_over": mode});
        let mut worker = worker(&memory, &config);
        send(&mut worker, 1, 1);
        worker.response_headers(1, SSE, false, NOW);
        let mut seen = Vec::new();
        for _ in 0..200 {
            let event = event(" word and word");
            seen.extend(worker.response_body(1, &event, false, NOW));
        }
        let seen = String::from_utf8(seen).unwrap();
        let words = seen.matches(" word and word").count() * 3;
        assert_eq!(seen.contains("\"finish_reason\":\"length\""), is_cut, "{mode}");
        assert_eq!(seen.ends_with("data: [DONE]\n\n"), is_cut, "{mode}");
        assert!(if is_cut { (200..300).contains(&words) } else { words == 600 }, "{mode}: {words}");
    }
}

#[test]
fn a_stream_that_may_have_to_be_finished_is_requested_uncompressed() {
    let edits = |config: Value, stream: bool| {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        worker.request_headers(1, &chat(), false, NOW);
        let body = json!({"model": "gpt-4o", "messages": [], "stream": stream}).to_string();
        worker.request_body(1, true, || body.clone().into_bytes(), NOW).edits.set
    };
    let finish = json!({"default": {"output_tpm": 200}, "on_stream_over": "finish"});
    assert_eq!(edits(finish.clone(), true), [("accept-encoding", "identity".to_owned())]);
    assert_eq!(edits(finish, false), []);
    let counted = json!({"default": {"output_tpm": 200}, "stream_usage": "count"});
    assert_eq!(edits(counted, true), []);
}
