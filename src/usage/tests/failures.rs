//! Errors behind a status of 200, and responses that break off.

use super::*;

fn body(text: &str, ended_by: EndedBy) -> Outcome {
    let mut reader = ResponseReader::new(Endpoint::ChatCompletions, Some(JSON), 1, tokenizer(1.0));
    reader.push(text.as_bytes());
    reader.finish(ended_by)
}

#[test]
fn a_body_with_an_error_and_no_output_has_failed() {
    let error = json!({"message": "Overloaded", "code": 502});
    for failed in [
        json!({"error": error}),
        json!({"error": "Overloaded"}),
        json!({"id": "c", "choices": [], "error": error, "usage": null}),
        json!({"id": "c", "choices": null, "error": error, "usage": usage(0, 0)}),
        json!({"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": error}]}),
        json!({"type": "error", "error": {"type": "overloaded_error"}}),
        json!({"object": "error", "message": "no such model", "code": 404}),
        json!({"id": "r", "status": "failed", "error": {"code": "server_error"}, "output": [], "usage": null}),
        json!({"success": false, "errors": [{"code": 7}]}),
    ] {
        assert_eq!(body(&failed.to_string(), EndedBy::Upstream), Outcome::Failed, "{failed}");
    }
    let said = json!({"error": error, "choices": [{"message": {"content": "Hello"}}]});
    assert_eq!(body(&said.to_string(), EndedBy::Upstream), counted("Hello"));
    let paid = json!({"error": error, "usage": usage(9, 2)});
    assert_eq!(body(&paid.to_string(), EndedBy::Upstream), reported(9, 2));
    let whole = json!({"error": null, "choices": [{"message": {"content": "Hello"}}]});
    assert_eq!(body(&whole.to_string(), EndedBy::Upstream), counted("Hello"));
}

#[test]
fn a_body_that_breaks_off_is_charged_for_what_came() {
    for (text, expected) in [
        (r#"{"#, Outcome::Failed),
        (r#"{"id":"c","choices":[{"index":0,"message":{"role":"assis"#, Outcome::Failed),
        (r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":""#, Outcome::Failed),
        (
            r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello wor"#,
            counted("Hello wor"),
        ),
        (r#"{"choices":[{"message":{"content":"Hello\u00"#, counted("Hello")),
        (r#"{"choices":[{"message":{"content":"Hello"}}],"usage":{"prompt_tokens":9,"comp"#, {
            counted("Hello")
        }),
        // Nobody knows how the last number went on, nor what a prompt's numbers leave out that did not come.
        (
            r#"{"choices":[{"message":{"content":"Hello"}}],"usage":{"input_tokens":3,"output_tokens":800,"cache_re"#,
            counted_tokens(None, 800),
        ),
        (r#"{"choices":[{"message":{"content":"Hello"}}],"usage":{"completion_tokens":80"#, counted("Hello")),
        (r#"{"choices":[{"message":{"content":"Hello"}}],]"#, Outcome::Unknown),
        (r#"{"choices":[],}"#, Outcome::Unknown),
        // Output may be where this reader does not look.
        (r#"{"id":"c","prompt_filter_results":[{"prompt_index":0}],"choi"#, Outcome::Failed),
        (r#"{"id":"c","other":{},"rest":[],"choi"#, Outcome::Failed),
        (r#"{"id":"c","reply":{"role":"assistant","content":[{"text":"Hel"#, Outcome::Unknown),
        (r#"{"id":"c","message":{"role":"assistant","content":[{"text":"Hel"#, counted("Hel")),
        (r#"{"generations":[{"text":"Hel"#, Outcome::Unknown),
        (
            "{\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\" world\"}}]}",
            Outcome::Unknown,
        ),
        (r#"{"content":[{"type":"text","text":"Hel"#, counted("Hel")),
        (r#"{"output":[{"type":"message","content":[{"text":"Hel"#, counted("Hel")),
        (r#"{"error":{"message":"out of mem"#, Outcome::Failed),
        (r#"{"usage":{"prompt_tokens":9,"completion_tokens":2},"choi"#, reported(9, 2)),
    ] {
        assert_eq!(body(text, EndedBy::Upstream), expected, "{text}");
        // A client that leaves knows what it has read; the upstream has made all of it.
        let if_left = if matches!(expected, Outcome::Reported(_)) { expected } else { Outcome::Unknown };
        assert_eq!(body(text, EndedBy::Other), if_left, "{text}, the client left");
    }
}

#[test]
fn a_stream_with_an_error_and_no_output_has_failed() {
    let role = json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]});
    let error = json!({"error": {"message": "Overloaded"}});
    let in_chunk =
        json!({"error": {"code": 502}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]});
    let created = json!({"type": "response.created", "response": {"status": "in_progress", "error": null}});
    let failed = json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}}});
    let start =
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}});
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error"}});
    let item =
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}});
    let counted_with = |input, output| Outcome::Counted {
        usage: Usage { input_tokens: input, output_tokens: output, ..Usage::default() },
        reasoning: Reasoning::Unknown,
    };
    for (events, expected) in [
        (vec![error.clone()], Outcome::Failed),
        (vec![role.clone(), error.clone()], Outcome::Failed),
        (vec![role.clone(), error.clone(), json!("[DONE]")], Outcome::Failed),
        (vec![in_chunk.clone()], Outcome::Failed),
        (vec![text_chunk("Hello"), in_chunk], counted("Hello")),
        (vec![text_chunk("Hello"), error.clone()], counted("Hello")),
        (vec![error.clone(), text_chunk("Hello")], counted("Hello")),
        (vec![role.clone()], counted("")),
        (vec![error.clone(), with_usage(stop_chunk(), &usage(9, 2))], reported(9, 2)),
        (vec![created.clone(), failed.clone()], Outcome::Failed),
        (vec![created, json!({"type": "error", "message": "x"})], Outcome::Failed),
        // Output may have come in a format of its own.
        (vec![json!({"token": {"text": "Hello"}}), error.clone()], Outcome::Unknown),
        (vec![json!({"type": "keepalive"}), error.clone()], Outcome::Failed),
        (
            vec![
                json!({"type": "response.failed", "response": {"output": [{"content": [{"text": "Hello"}]}]}}),
            ],
            counted("Hello"),
        ),
        (
            vec![json!({"type": "response.completed", "response": {"status": "failed", "output": []}})],
            Outcome::Failed,
        ),
        (vec![overloaded.clone()], Outcome::Failed),
        (vec![json!({"type": "ping"}), overloaded.clone()], Outcome::Failed),
        (vec![start, overloaded], counted_with(Some(25), 1)),
        (vec![item, failed], Outcome::Counted { usage: Usage::default(), reasoning: Reasoning::Shown }),
    ] {
        assert_eq!(stream(1, &events).1, expected, "{events:?}");
    }
    for text in [
        "event: error\ndata: out of memory\n\n",
        "event: error\ndata: {\"message\":\"x\"}\n\n",
        "data: {\"error\":\"x\"}",
        "data: {\"error\":{\"message\":\"brea",
        ": hello\n\nevent: error\ndata: x\n\n",
    ] {
        assert_eq!(read(SSE, 1, [text.as_bytes()]).1, Outcome::Failed, "{text}");
    }
}

#[test]
fn a_report_that_is_cut_off_is_not_taken_for_the_whole() {
    let text = format!("data: {}\n\ndata: {}\n\n", text_chunk("Hello"), stop_chunk());
    for (cut, expected) in [
        (r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":12"#, counted("Hello")),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":800,"total"#,
            counted_tokens(None, 800),
        ),
        (r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":800}"#, reported(9, 800)),
    ] {
        assert_eq!(read(SSE, 1, [format!("{text}data: {cut}").as_bytes()]).1, expected, "{cut}");
    }
    let cut =
        r#"data: {"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":800,"#;
    assert_eq!(read(SSE, 1, [cut.as_bytes()]).1, counted_tokens(None, 800));
}

#[test]
fn hidden_reasoning_is_output_that_came_before_an_error() {
    let response = json!({"id": "r", "object": "response", "status": "failed", "error": {"code": "x"},
        "output": [{"type": "reasoning", "summary": []}], "usage": null});
    let thought = Outcome::Counted { usage: Usage::default(), reasoning: Reasoning::Shown };
    assert_eq!(body(&response.to_string(), EndedBy::Upstream), thought);
    assert_eq!(stream(1, &[json!({"type": "response.failed", "response": response})]).1, thought);
}

#[test]
fn an_event_that_is_no_json_leaves_a_gap_that_only_usage_closes() {
    let said = text_chunk("Hi").to_string();
    let stop = stop_chunk().to_string();
    let paid = with_usage(stop_chunk(), &usage(9, 2)).to_string();
    let (scored, text) =
        (r#"{"choices":[{"index":0,"logprobs":{"a":-Infinity},"delta":{"content":"#, r#""lo"}}]}"#);
    for fault in [
        format!("{scored}{text}"),
        said.replacen('{', r#"{"score":NaN,"#, 1),
        // The end of an event that is not the end of the stream.
        said.replace("}]}", ""),
    ] {
        for (end, expected) in [(&stop, Outcome::Unknown), (&paid, reported(9, 2))] {
            let events = format!("data: {said}\n\ndata: {fault}\n\ndata: {end}\n\ndata: [DONE]\n\n");
            assert_eq!(read(SSE, 1, [events.as_bytes()]).1, expected, "{events}");
        }
    }
    // Neither words that are no JSON at all nor an error in bad JSON hide output.
    let alive = format!("data: keepalive\n\ndata: {said}\n\ndata: [DONE]\n\n");
    assert_eq!(read(SSE, 1, [alive.as_bytes()]).1, counted("Hi"));
    let error = "data: {\"error\":{\"message\":\"a\"b\"}}\n\n";
    assert_eq!(read(SSE, 1, [error.as_bytes()]).1, Outcome::Failed);
}

/// Others say when they are done, too.
#[test]
fn events_that_say_done_and_nothing_else_that_is_known_are_of_no_format() {
    let events = [json!({"token": "Hel", "done": false}), json!({"token": "lo", "done": true})];
    assert_eq!(stream(1, &events).1, Outcome::Unknown);
}

#[test]
fn text_in_an_event_that_is_cut_off_counts() {
    let whole = format!("data: {}\n\n", text_chunk("Hello"));
    let cut = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" wor";
    assert_eq!(read(SSE, 1, [format!("{whole}{cut}").as_bytes()]).1, counted("Hello wor"));
}
