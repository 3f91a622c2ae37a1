//! Embeddings: <https://platform.openai.com/docs/api-reference/embeddings>. All texts have the same vector.

use super::{Plan, with};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let embedding = |index| json!({"object": "embedding", "index": index, "embedding": [0.25, -0.5, 0.125]});
    let data: Value = (0..plan.answers).map(embedding).collect();
    let body = json!({"object": "list", "data": data, "model": plan.model});
    let prompt_tokens = plan.usage.prompt_tokens;
    let usage = json!({"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens});
    if plan.reports_usage { with(body, json!({"usage": usage})) } else { body }
}
