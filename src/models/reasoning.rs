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
    if effort == Effort::Off && can_stop(model) {
        return Some(false);
    }
    match (effort, habit(model)?) {
        (Effort::Unsaid | Effort::Off, Habit::IfAsked) => Some(false),
        (Effort::Asked, _) | (_, Habit::Always) => Some(true),
    }
}

/// Whether no model of this name reasons, whatever a client wants.
pub(crate) fn never_reasons(model: &str) -> bool {
    matches!(
        Family::of(model),
        Family::TextEmbedding | Family::Gpt3_5 | Family::Gpt4 | Family::Gpt4_1 | Family::Gpt4o
    )
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

/// When a model reasons that can, unless the client asks it not to and it [`can_stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Always,
    IfAsked,
}

use Habit::{Always, IfAsked};

/// When `model` reasons; none if it does not, or if its name does not say.
fn habit(model: &str) -> Option<Habit> {
    let (family, rest) = Family::split(model);
    let version = Version::of(family, &rest);
    let says = |word: &str| has_word(&rest, word);
    let any = |words: &[&str]| words.iter().any(|word| says(word));
    if is_named_for_it(&rest) {
        return Some(Always);
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
    (is_one || named(model).is_some()).then_some(Always)
}

/// Whether `model` does not reason if the client asks it not to, in the terms of its own API. Others reason all the
/// same, where a gateway drops the word, or reason only less (`minimal`).
fn can_stop(model: &str) -> bool {
    let (family, rest) = Family::split(model);
    let version = Version::of(family, &rest);
    let says = |word: &str| has_word(&rest, word);
    let any = |words: &[&str]| words.iter().any(|word| says(word));
    if is_named_for_it(&rest) {
        return false;
    }
    if let Some(named) = named(model) {
        return named.can_stop;
    }
    match family {
        Family::Gpt5 => version >= GPT_5_1 && !any(&["chat", "pro"]),
        Family::Gpt6 => !any(&["chat", "pro"]),
        Family::Gemini => says("lite") || (version < Version::new(3, 0) && !says("pro")),
        Family::Grok => says("non") || (version >= GROK_4_3 && !says("multi")),
        Family::Deepseek => !says("r1"),
        Family::Glm => !says("z1"),
        Family::Claude | Family::Kimi | Family::Qwen => true,
        _ => false,
    }
}

/// Whether the `rest` of a model's name says that it is the variant which reasons.
fn is_named_for_it(rest: &str) -> bool {
    let says = |word: &str| has_word(rest, word);
    says("thinking") || says("reasoner") || (says("reasoning") && !says("non"))
}

/// The oldest Grok that takes an effort of `none`.
const GROK_4_3: Version = Version::new(4, 3);

const GPT_5_1: Version = Version::new(0, 1);
const GPT_5_5: Version = Version::new(0, 5);

/// Models that reason, in no family of their own.
struct Named {
    /// How their names begin.
    begin: &'static str,
    can_stop: bool,
}

static NAMES: [Named; 13] = [
    always("codex"),
    always("qwq"),
    always("magistral"),
    always("sonar-reasoning"),
    always("sonar-deep-research"),
    always("minimax-m"),
    with_switch("nemotron"),
    always("ernie-x1"),
    always("hunyuan-t1"),
    with_switch("seed-oss"),
    with_switch("doubao-seed"),
    always("exaone-deep"),
    always("r1-1776"),
];

const fn always(begin: &'static str) -> Named {
    Named { begin, can_stop: false }
}

const fn with_switch(begin: &'static str) -> Named {
    Named { begin, can_stop: true }
}

/// Which of them `model` is one of.
fn named(model: &str) -> Option<&'static Named> {
    let name = without_provider(model).to_ascii_lowercase();
    NAMES.iter().find(|named| begins_word(&name, named.begin))
}

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
            assert_eq!(habit(model), expected.then_some(Always), "{model}");
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
            ("gpt-5", [Some(true), Some(true), Some(true)]),
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

    #[test]
    fn only_models_with_a_switch_stop_reasoning() {
        for model in [
            "gpt-5.1",
            "gpt-5.5-2026-04-23",
            "gpt-6-mini",
            "claude-opus-4-7",
            "gemini-2.5-flash",
            "qwen3-32b",
            "qwen-plus",
            "deepseek.v3.1",
            "glm-4.6",
            "kimi-k2.5",
            "grok-4-fast-non-reasoning",
            "grok-4.3",
            "nvidia/Nemotron-3-Nano-30B",
        ] {
            assert_eq!(reasons(model, Effort::Off), Some(false), "{model}");
        }
        for model in [
            "o1",
            "o3",
            "azure/o3-mini",
            "O4-mini-2025-04-16",
            "o5",
            "ft:o3:x",
            "gpt-5",
            "gpt-5-mini-2025-08-07",
            "gpt-5-pro",
            "gpt-5.2-pro",
            "gpt-5.1-codex-max",
            "gpt-5.1-chat-latest",
            "codex-mini-latest",
            "gpt-oss-120b",
            "deepseek-ai/DeepSeek-R1",
            "deepseek-r1-distill-qwen-32b",
            "deepseek-reasoner",
            "gemini-2.5-pro",
            "gemini-3-pro-preview",
            "gemini-3-flash-preview",
            "grok-4",
            "grok-4-fast-reasoning",
            "grok-code-fast-1",
            "grok-3-mini",
            "qwen3-235b-a22b-thinking-2507",
            "qwen-qwq-32b",
            "kimi-k2-thinking",
            "glm-z1-32b",
            "magistral-medium-2506",
            "MiniMax-M2",
        ] {
            assert_eq!(reasons(model, Effort::Off), Some(true), "{model}");
        }
    }
}
