//! Recorded responses of providers, with what each request was billed: the reader must find exactly that.
//!
//! The recordings are others' and not part of the repository: `RECORDED_TRAFFIC` names a file of JSON lines, each with
//! the `endpoint`, `fmt` (`json` or `sse`), `type` (content type), `response` (text), `usage` (`input`, `output`,
//! `total`, `reasoning`: as recorded) and `billed` (`input`, `output`: where the bill has more) of one exchange.

use super::*;
use std::fs;

fn endpoint(name: &str) -> Endpoint {
    match name {
        "chat/completions" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "messages" => Endpoint::Messages,
        _ => panic!("{name}"),
    }
}

/// A body with the recorded numbers, for an exchange whose response is too large to have been kept.
fn body_of(row: &Value) -> String {
    let usage = &row["usage"];
    let members = json!({
        "prompt_tokens": usage["input"],
        "completion_tokens": usage["output"],
        "total_tokens": usage["total"],
        "prompt_tokens_details": {"cached_tokens": usage["cached"]},
        "completion_tokens_details": {"reasoning_tokens": usage["reasoning"]},
    });
    json!({"usage": members}).to_string()
}

/// What was billed: input and output.
fn bill(row: &Value) -> (u64, u64) {
    let billed = if row["billed"].is_object() { &row["billed"] } else { &row["usage"] };
    (billed["input"].as_u64().unwrap_or(0), billed["output"].as_u64().unwrap_or(0))
}

#[test]
fn recorded_responses_cost_what_was_billed() {
    let Some(path) = std::env::var_os("RECORDED_TRAFFIC") else {
        eprintln!("skipped: RECORDED_TRAFFIC names no file of recorded responses");
        return;
    };
    let (mut read_rows, mut wrong) = (0, Vec::new());
    for line in fs::read_to_string(path).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if !row["usage"].is_object() {
            continue;
        }
        read_rows += 1;
        let made = body_of(&row);
        let (response, kind) = match row["response"].as_str() {
            Some(response) => (response, row["type"].as_str()),
            None => (made.as_str(), Some(JSON)),
        };
        for size in [response.len().max(1), 7] {
            let endpoint = endpoint(row["endpoint"].as_str().unwrap());
            let mut reader = ResponseReader::new(endpoint, kind, 1, tokenizer(1.0));
            for chunk in response.as_bytes().chunks(size) {
                reader.push(chunk);
            }
            let outcome = reader.finish(EndedBy::Upstream);
            let found = match outcome {
                Outcome::Reported(usage) => (usage.input_tokens.unwrap_or(0), usage.output_tokens),
                Outcome::Counted { usage, .. } => (usage.input_tokens.unwrap_or(0), usage.output_tokens),
                Outcome::Failed | Outcome::Unknown => (u64::MAX, u64::MAX),
            };
            if found != bill(&row) {
                wrong.push(format!(
                    "{} {} {}: {outcome:?}, billed {:?}",
                    row["id"],
                    row["provider"],
                    row["model"],
                    bill(&row)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {read_rows}\n{}", wrong.len(), wrong.join("\n"));
    assert!(read_rows > 0, "the file has no recorded usage");
}
