//! Which models reason before they answer, where the client may not see it.
//!
//! The text of such an answer says little about its cost: of the recorded answers of OpenAI's reasoning models, the
//! text is a tenth. Only where no usage is reported does the filter need to know; models that reason on request
//! show it in their answers, and others' usage has shown it before.

use super::{Family, without_provider};

/// Whether `model` reasons unless it is asked not to.
pub(crate) fn reasons(model: &str) -> bool {
    let name = without_provider(model).to_ascii_lowercase();
    let (family, rest) = Family::split(model);
    let is_known = match family {
        Family::O1 | Family::O3 | Family::O4 | Family::Gpt6 | Family::GptOss => true,
        Family::Gpt5 => !rest.starts_with("-chat"),
        Family::Gemini => !["-1", "-2.0", "-2.5-flash-lite", "-embedding", "-pro-vision"]
            .iter()
            .any(|other| rest.starts_with(other)),
        Family::Grok => {
            !rest.contains("non-reasoning")
                && ["-3-mini", "-4", "-code"].iter().any(|begin| rest.starts_with(begin))
        }
        Family::Deepseek => {
            ["-reasoner", "-r1", "-v3.1", "-v3.2", "-v4"].iter().any(|begin| rest.starts_with(begin))
        }
        Family::Qwen => rest.starts_with('3') && !rest.contains("instruct") && !rest.contains("coder"),
        Family::Glm => ["-4.5", "-4.6", "-4.7", "-5", "-z1"].iter().any(|begin| rest.starts_with(begin)),
        _ => NAMES.iter().any(|begin| name.starts_with(begin)),
    };
    is_known || names_it(&rest)
}

/// The beginnings of names in no family of their own.
const NAMES: [&str; 13] = [
    "codex",
    "qwq",
    "magistral",
    "sonar-reasoning",
    "sonar-deep-research",
    "minimax-m",
    "nemotron",
    "ernie-x1",
    "hunyuan-t1",
    "seed-oss",
    "doubao-seed",
    "exaone-deep",
    "r1-1776",
];

/// Whether a name says that its model reasons.
fn names_it(rest: &str) -> bool {
    let says = |word: &str| rest.split(['-', '_', ':', '.']).any(|part| part == word);
    says("thinking") || says("reasoner") || (says("reasoning") && !says("non"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_reason_by_their_names() {
        for (model, expected) in [
            ("o1", true),
            ("o3-mini-2025-01-31", true),
            ("openai/o4-mini", true),
            ("gpt-5", true),
            ("gpt-5.1-codex-mini", true),
            ("gpt-5-chat-latest", false),
            ("gpt-4o", false),
            ("gpt-4.1", false),
            ("codex-mini-latest", true),
            ("gpt-oss-120b", true),
            ("google/gemini-2.5-pro", true),
            ("gemini-3-flash", true),
            ("gemini-2.0-flash", false),
            ("gemini-2.5-flash-lite", false),
            ("grok-4", true),
            ("grok-4-fast-reasoning", true),
            ("grok-4-fast-non-reasoning", false),
            ("grok-3-mini", true),
            ("grok-3", false),
            ("deepseek-reasoner", true),
            ("deepseek-chat", false),
            ("qwen3-32b", true),
            ("qwen3-coder-480b", false),
            ("qwen3-235b-a22b-thinking-2507", true),
            ("qwen2.5-72b-instruct", false),
            ("claude-opus-4-7", false),
            ("mistral-large", false),
            ("magistral-medium-2506", true),
            ("phi-4-reasoning", true),
            ("kimi-k2-thinking", true),
            ("O1", true),
            ("GPT-5", true),
            ("Gemini-2.5-Pro", true),
            ("deepseek-ai/DeepSeek-R1", true),
            ("Qwen/QwQ-32B", true),
            ("Qwen/Qwen3-235B-A22B-Thinking-2507", true),
            ("moonshotai/Kimi-K2-Thinking", true),
            ("zai-org/GLM-4.6", true),
            ("ft:o3:x", true),
            ("ft:o4-mini-2025-04-16:org::id", true),
            ("ft:gpt-4o:org::id", false),
            ("MiniMax-M2", true),
            ("nvidia/Nemotron-H-47B", true),
            ("", false),
        ] {
            assert_eq!(reasons(model), expected, "{model}");
        }
    }
}
