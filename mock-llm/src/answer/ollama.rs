//! Ollama's own API: <https://docs.ollama.com/api/chat>. A line for each word, and one with the numbers.

use super::{Plan, with};
use serde_json::{Value, json};

/// A chat or a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Generate,
}

impl Kind {
    pub(super) fn body(self, plan: &Plan) -> Value {
        with(self.line(plan, &plan.text(), true), numbers(plan))
    }

    pub(super) fn lines(self, plan: &Plan) -> Vec<Value> {
        let mut lines: Vec<_> = plan.deltas().map(|delta| self.line(plan, &delta, false)).collect();
        if plan.ends_properly {
            lines.push(with(self.line(plan, "", true), numbers(plan)));
        }
        lines
    }

    fn line(self, plan: &Plan, text: &str, is_last: bool) -> Value {
        let line = json!({"model": plan.model, "created_at": "2026-01-01T00:00:00Z", "done": is_last});
        with(
            line,
            match self {
                Self::Chat => json!({"message": {"role": "assistant", "content": text}}),
                Self::Generate => json!({"response": text}),
            },
        )
    }
}

fn numbers(plan: &Plan) -> Value {
    let reason = json!({"done_reason": if plan.is_cut { "length" } else { "stop" }});
    if !plan.reports_usage {
        return reason;
    }
    let usage = &plan.usage;
    with(reason, json!({"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}))
}
