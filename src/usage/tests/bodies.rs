//! JSON bodies: with usage, without, and what is taken for one.

use super::*;

#[test]
fn a_body_has_its_outcome_as_soon_as_its_usage_ends() {
    let chat = json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "say \"usage\": {\"prompt_tokens\":1}"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}},
    });
    let outcome = Outcome::Reported(Usage {
        input_tokens: Some(9),
        output_tokens: 4,
        cached_tokens: None,
        cache_creation_tokens: None,
        reasoning_tokens: Some(3),
    });
    assert_eq!(read(JSON, 1, [chat.to_string().as_bytes()]), (Some((0, outcome)), outcome));

    let first = &b"{\"usage\":{\"prompt_tokens\":5,\"total_tokens\":5},"[..];
    let certain = (Some((0, reported(5, 0))), reported(5, 0));
    assert_eq!(read_of(Endpoint::Embeddings, JSON, 1, [first, b"\"data\":["]), certain);

    // A later usage counts if the first is empty.
    let twice =
        br#"{"usage":null,"usage":{"total_tokens":0},"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    assert_eq!(read(JSON, 1, [&twice[..]]).1, reported(5, 1));
}

#[test]
fn usage_is_found_in_bodies_of_any_size() {
    let vectors = "0.0123,".repeat(500_000);
    let body = format!(
        r#"{{"data":[{{"embedding":[{vectors}0]}}],"usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
    );
    let read = |body: &str| read_of(Endpoint::Embeddings, JSON, 1, body.as_bytes().chunks(4096)).1;
    assert_eq!(read(&body), reported(8, 0));
    assert_eq!(read(&body.replace("usage", "used")), Outcome::Unknown);
}

#[test]
fn bodies_without_usage_are_counted_if_they_are_whole() {
    let body = r#"{"choices":[
        {"message":{"role":"assistant","content":"Hello","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}},
        {"message":{"content":"world"}}]}"#;
    let output_tokens = tokens("Hellof{}") + tokens("world");
    assert_eq!(read(JSON, 1, [body.as_bytes()]), (None, counted_tokens(None, output_tokens)));
    for other in ["{}", "[]", "", "null", r#"{"choices":[]}"#, r#"{"error":null}"#, "<html>"] {
        assert_eq!(read(JSON, 1, [other.as_bytes()]).1, Outcome::Unknown, "{other}");
    }
}

#[test]
fn the_first_byte_decides_the_format_and_otherwise_the_content_type() {
    let body = br#" {"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let chunk =
        r#"data: {"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
    let (events, with_id) = (format!("\n\n{chunk}\n\n"), format!("id: 1\n{chunk}\n\n"));
    let (events, with_id) = (events.as_bytes(), with_id.as_bytes());
    for (kind, response, outcome) in [
        (Some("application/json"), &body[..], reported(5, 1)),
        (Some("Application/JSON; charset=utf-8"), body, reported(5, 1)),
        (Some("application/problem+json"), body, reported(5, 1)),
        (None, body, reported(5, 1)),
        (Some("text/plain"), body, reported(5, 1)),
        (Some(SSE), body, reported(5, 1)),
        (Some(SSE), events, reported(5, 1)),
        (Some(SSE), with_id, reported(5, 1)),
        (Some(JSON), events, reported(5, 1)),
        (None, events, reported(5, 1)),
        (Some("text/plain"), events, reported(5, 1)),
        (Some("text/plain"), with_id, Outcome::Unknown),
        (Some("text/html"), b"<html>", Outcome::Unknown),
        (Some("audio/mpeg"), b"\xFF\xFBd", Outcome::Unknown),
        (Some(JSON), b" \n", Outcome::Unknown),
    ] {
        for size in [response.len(), 1] {
            let mut reader = ResponseReader::new(Endpoint::ChatCompletions, kind, 1, tokenizer(1.0));
            response.chunks(size).for_each(|chunk| {
                reader.push(chunk);
            });
            assert_eq!(reader.finish(EndedBy::Upstream), outcome, "{kind:?}");
        }
    }
}
