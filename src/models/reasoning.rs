//! Which models reason before they answer, where the client may not see it.
//!
//! The text of such an answer says little about its cost: of the recorded answers of OpenAI's reasoning models, the
//! text is a tenth. Only where no usage is reported does the filter need to know; models that reason on request
//! show it in their answers, and others' usage has shown it before.

use super::version::Version;
use super::{Family, without_provider};
use crate::tokens::Effort;

/// Whether an answer of `model` may hold reasoning that the client does not see, if the client asks for this `effort`;
/// none if the model's name does not say.
pub(crate) fn reasons(model: &str, effort: Effort) -> Option<bool> {
    match (effort, habit(model)?) {
        (Effort::Off, _) => Some(false),
        (Effort::Asked, _) | (Effort::Unsaid, Habit::UnlessAskedNotTo) => Some(true),
        (Effort::Unsaid, Habit::IfAsked) => Some(false),
    }
}

/// Whether an answer of `model` that shows reasoning shows all of it, as open models do. Others show a summary.
pub(crate) fn shows_all_reasoning(model: &str) -> bool {
    matches!(
        Family::of(model),
        Family::Deepseek
            | Family::Glm
            | Family::GptOss
            | Family::Kimi
            | Family::Llama
            | Family::Mistral
            | Family::Mixtral
            | Family::Phi
            | Family::Qwen
    )
}

/// When a model reasons that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    UnlessAskedNotTo,
    IfAsked,
}

use Habit::{IfAsked, UnlessAskedNotTo};

/// When `model` reasons; none if it does not, or if its name does not say.
fn habit(model: &str) -> Option<Habit> {
    let (family, rest) = Family::split(model);
    let version = Version::of(family, &rest);
    let says = |word: &str| has_word(&rest, word);
    let any = |words: &[&str]| words.iter().any(|word| says(word));
    if any(&["thinking", "reasoner"]) || (says("reasoning") && !says("non")) {
        return Some(UnlessAskedNotTo);
    }
    let is_one = match family {
        Family::O1 | Family::O3 | Family::O4 | Family::Gpt6 | Family::GptOss => true,
        // What has an effort of `none` unless the client asks for more.
        Family::Gpt5 if (GPT_5_1..GPT_5_5).contains(&version) && !any(&["codex", "chat", "pro"]) => {
            return Some(IfAsked);
        }
        Family::Gpt5 => version >= GPT_5_1 || !says("chat"),
        Family::Gemini if version >= Version::new(2, 5) && says("lite") => return Some(IfAsked),
        Family::Gemini => version >= Version::new(2, 5) && !any(&["embedding", "vision"]),
        Family::Grok => !says("non") && (version >= Version::new(4, 0) || says("code") || says("mini")),
        Family::Deepseek => {
            let is_named = version != Version::NEWEST;
            says("r1")
                || (version >= Version::new(3, 1)
                    && (is_named || !any(&["chat", "coder", "vl", "ocr", "math"])))
        }
        Family::Qwen => {
            (Version::new(3, 0)..Version::NEWEST).contains(&version)
                && !any(&["instruct", "coder", "embedding"])
        }
        Family::Glm => says("z1") || version >= Version::new(4, 5),
        Family::Kimi => (Version::new(2, 5)..Version::NEWEST).contains(&version),
        _ => false,
    };
    let name = without_provider(model).to_ascii_lowercase();
    (is_one || NAMES.iter().any(|begin| begins_word(&name, begin))).then_some(UnlessAskedNotTo)
}

const GPT_5_1: Version = Version::new(0, 1);
const GPT_5_5: Version = Version::new(0, 5);

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

/// Whether `word` is one of the words of a name.
fn has_word(name: &str, word: &str) -> bool {
    name.split(|char: char| !char.is_ascii_alphanumeric()).any(|part| part == word)
}

/// Whether one of the words of a name, with those that follow, begins with `begin`.
fn begins_word(name: &str, begin: &str) -> bool {
    name.match_indices(begin).any(|(at, _)| {
        name.get(..at)
            .and_then(|before| before.chars().next_back())
            .is_none_or(|char| !char.is_ascii_alphanumeric())
    })
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
            ("gpt-5.5", true),
            ("gpt-5.4-pro", true),
            ("gpt-7", true),
            ("o5-mini", true),
            ("us.deepseek.r1-v1:0", true),
            ("deepseek.v3.1", true),
            ("deepseek-v5", true),
            ("deepseek-chat-v3-0324", false),
            ("deepseek-latest", true),
            ("grok-5", true),
            ("xai.grok4", true),
            ("qwen-3-32b", true),
            ("qwen4-235b", true),
            ("qwen-max", false),
            ("glm-6", true),
            ("gemini-10-pro", true),
            ("groq-qwq-32b", true),
            ("kimi-k2-instruct", false),
            ("kimi-k2.5", true),
            ("kimi-k3", true),
            ("gpt-5-chat-latest", false),
            ("gpt-4o", false),
            ("gpt-4.1", false),
            ("codex-mini-latest", true),
            ("gpt-oss-120b", true),
            ("google/gemini-2.5-pro", true),
            ("gemini-3-flash", true),
            ("gemini-2.0-flash", false),
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
            assert_eq!(habit(model), expected.then_some(UnlessAskedNotTo), "{model}");
        }
    }

    #[test]
    fn open_models_show_all_of_their_reasoning() {
        for model in ["deepseek-ai/DeepSeek-R1", "gpt-oss:120b", "qwen3", "magistral-small", "zai/glm-5.2"] {
            assert!(shows_all_reasoning(model), "{model}");
        }
        for model in ["gpt-5", "gemini-2.5-pro", "claude-opus-4-7", "grok-4", "my-model"] {
            assert!(!shows_all_reasoning(model), "{model}");
        }
    }

    #[test]
    fn a_client_may_ask_for_reasoning_or_for_none() {
        use Effort::{Asked, Off, Unsaid};
        for (model, [by_default, on, off]) in [
            ("gpt-5", [Some(true), Some(true), Some(false)]),
            ("gpt-5.4-mini", [Some(false), Some(true), Some(false)]),
            ("azure/gpt-5.1-2025-11-13", [Some(false), Some(true), Some(false)]),
            ("gpt-5.10", [Some(true), Some(true), Some(false)]),
            ("google/gemini-3.1-flash-lite-preview", [Some(false), Some(true), Some(false)]),
            ("gpt-4o", [None, None, None]),
            ("my-model", [None, None, None]),
        ] {
            assert_eq!(
                [Unsaid, Asked, Off].map(|effort| reasons(model, effort)),
                [by_default, on, off],
                "{model}"
            );
        }
    }
}
