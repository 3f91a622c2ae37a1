//! Google's Gemini API: <https://ai.google.dev/api/generate-content>. One part of text for each candidate.

use super::{Plan, with};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let candidates = (0..plan.answers).map(|index| candidate(&plan.text(), index, Some(reason(plan))));
    chunk(plan, candidates.collect(), plan.usage.completion_tokens)
}

/// The chunks of a stream: each has the usage so far.
pub(super) fn chunks(plan: &Plan) -> Vec<Value> {
    let words: Vec<String> = plan.deltas().collect();
    let mut chunks = Vec::new();
    for (at, word) in (1_u64..).zip(&words) {
        let reason = (at == plan.words).then(|| reason(plan));
        let candidates = (0..plan.answers).map(|index| candidate(word, index, reason));
        chunks.push(chunk(plan, candidates.collect(), at * plan.answers));
    }
    chunks
}

/// Embeddings: one value for each content.
pub(super) fn embeddings(plan: &Plan) -> Value {
    let values = json!({"values": [0.5]});
    if plan.answers == 1 {
        json!({"embedding": values})
    } else {
        json!({"embeddings": vec![values; usize::try_from(plan.answers).unwrap_or(1)]})
    }
}

const fn reason(plan: &Plan) -> &'static str {
    if plan.is_cut { "MAX_TOKENS" } else { "STOP" }
}

fn candidate(text: &str, index: u64, reason: Option<&str>) -> Value {
    let candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": index});
    match reason {
        Some(reason) => with(candidate, json!({"finishReason": reason})),
        None => candidate,
    }
}

fn chunk(plan: &Plan, candidates: Vec<Value>, output_tokens: u64) -> Value {
    let chunk = json!({"candidates": candidates, "modelVersion": plan.model, "responseId": "gemini_mock"});
    let prompt = plan.usage.prompt_tokens;
    let usage = json!({
        "promptTokenCount": prompt,
        "candidatesTokenCount": output_tokens,
        "totalTokenCount": prompt + output_tokens,
    });
    if plan.reports_usage { with(chunk, json!({"usageMetadata": usage})) } else { chunk }
}
