//! What a prompt costs beside its text, and how it shows tools, by family: the one table of these numbers.
//!
//! | numbers | source |
//! |---|---|
//! | OpenAI's messages, names and reply | OpenAI's cookbook, "How to count tokens with tiktoken" |
//! | everything else | fitted to the usage that providers reported for recorded requests, as of autumn 2026 |
//!
//! [`Rules::of`] finds the row of a model: of its family, the newest that is not after its version. A model of a family
//! that is not known counts as GPT-4o does.

use super::version::{Row, Version, row_of};
use super::{Claude, Family, without_provider};
use crate::quantity::Units;
use crate::tokens::{AnswerTokens, Factor, PromptKind, Weights};

/// How one model counts a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What corrects a count of text in the model's encoding, in hundredths.
    factor: u32,
    /// Tokens of text that the factor does not correct.
    spared: u64,
    /// What its answers have beside their text.
    answers: AnswerTokens,
    /// What it is shown of the texts of which models are shown different things.
    weights: Weights,
    /// The kinds of prompts of which these numbers are known to be right, so that nothing corrects them.
    exact: &'static [PromptKind],
    /// In chats, and wherever no other API is named.
    pub(crate) chat: Structure,
    /// In OpenAI's Responses API.
    pub(crate) responses: Structure,
}

/// The tokens of a prompt beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    /// What every prompt costs: the start of the reply, and what the provider adds.
    pub(crate) start: Units,
    /// A message, without its role.
    pub(crate) message: Units,
    /// A role that every API knows.
    pub(crate) role: Units,
    /// A message's name.
    pub(crate) name: Units,
    /// What a message's name saves, where it replaces the role.
    pub(crate) saved_by_name: Units,
    /// What a system message saves, where it is no message.
    pub(crate) saved_by_system: Units,
    /// An answer of the model in the history.
    pub(crate) answer: Units,
    /// A system message that the provider adds where the prompt has none, but tools or a schema.
    pub(crate) system: Units,
    /// Tools, all together.
    pub(crate) tools: Tools,
    /// The schema of the answer: where there are no tools, and beside tools.
    pub(crate) schema: [Units; 2],
    /// A call of a function in the history, beside its name and its arguments.
    pub(crate) call: Units,
    /// Text beside calls in one message.
    pub(crate) spoken_call: Units,
    /// Several calls in one message: what they cost together, and each, if not what single ones cost.
    pub(crate) parallel: Option<[Units; 2]>,
    /// Thinking that is switched on.
    pub(crate) thinking: Units,
}

/// The tokens of tools beside their definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tools {
    /// Where the model chooses whether to call one.
    pub(crate) auto: Units,
    /// Where it must call one.
    pub(crate) required: Units,
    /// Where it must call one that the request names.
    pub(crate) forced: Units,
    /// Where it must not call any.
    pub(crate) none: Units,
    /// Each of them.
    pub(crate) each: Units,
}

const fn answers(chat: u64, response: u64, call: u64, parallel_call: u64) -> AnswerTokens {
    AnswerTokens { chat, response, call, parallel_call, ..AnswerTokens::NONE }
}

const fn units<const N: usize>(numbers: [u64; N]) -> [Units; N] {
    let (mut units, mut at) = ([Units::ZERO; N], 0);
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "at is less than N")]
        {
            units[at] = Units::new(numbers[at]);
        }
        at += 1;
    }
    units
}

const fn tools(auto: u64, required: u64, forced: u64, none: u64, each: u64) -> Tools {
    let [auto, required, forced, none, each] = units([auto, required, forced, none, each]);
    Tools { auto, required, forced, none, each }
}

/// GPT-4o, 4.1 and before, in chats.
const CHAT: Structure = Structure {
    start: Units::new(3),
    message: Units::new(3),
    role: Units::new(1),
    name: Units::new(1),
    saved_by_name: Units::ZERO,
    saved_by_system: Units::ZERO,
    answer: Units::ZERO,
    system: Units::new(4),
    tools: tools(12, 12, 19, 12, 0),
    schema: units([12, 7]),
    call: Units::new(5),
    spoken_call: Units::new(5),
    parallel: Some(units([12, 10])),
    thinking: Units::ZERO,
};

/// The same for models with another encoding.
const CHAT_CL100K: Structure = Structure { tools: tools(13, 13, 20, 13, 0), ..CHAT };

/// GPT-4o, 4.1 and before, in responses.
const RESPONSES: Structure = Structure {
    system: Units::ZERO,
    tools: tools(10, 19, 17, 10, 0),
    schema: units([7, 7]),
    call: Units::new(8),
    spoken_call: Units::ZERO,
    parallel: None,
    ..CHAT
};

/// OpenAI's reasoning models in chats.
const REASONING_CHAT: Structure = Structure {
    start: Units::new(2),
    answer: Units::new(2),
    system: Units::ZERO,
    tools: tools(17, 17, 24, 17, 0),
    schema: units([12, 7]),
    call: Units::new(11),
    spoken_call: Units::ZERO,
    parallel: None,
    ..CHAT
};

/// The same in responses.
const REASONING: Structure = Structure {
    tools: tools(13, 22, 20, 13, 0),
    schema: units([6, 6]),
    call: Units::new(11),
    ..REASONING_CHAT
};

/// Models that get tools as JSON, and publish nothing.
const OTHERS: Structure = Structure {
    system: Units::ZERO,
    tools: tools(0, 0, 0, 0, 7),
    schema: units([0, 0]),
    call: Units::ZERO,
    spoken_call: Units::ZERO,
    parallel: None,
    ..CHAT
};

const REASONING_RULES: Rules = Rules {
    answers: AnswerTokens { schema: [4, 4], reasoning: 2, ..answers(3, 4, 7, 14) },
    weights: Weights { parallel_names: 200, thinking: 0, ..Weights::OPENAI },
    chat: REASONING_CHAT,
    responses: REASONING,
    ..OPENAI
};

const OPENAI: Rules = Rules {
    factor: 100,
    spared: 0,
    answers: AnswerTokens {
        beside_functions: 1,
        schema: [0, 4],
        spares_wanted_call: true,
        ..answers(0, 1, 7, 14)
    },
    weights: Weights::OPENAI,
    exact: &[PromptKind::Plain, PromptKind::Tools, PromptKind::Images],
    chat: CHAT,
    responses: RESPONSES,
};

/// Models of which nothing is known.
const UNKNOWN: Rules = Rules { exact: &[], ..OPENAI };

/// A family whose prompts are the same in every API.
const fn alike(factor: u32, weights: Weights, structure: Structure) -> Rules {
    let (chat, responses) = (structure, structure);
    Rules { factor, spared: 0, answers: answers(1, 1, 8, 8), weights, exact: &[], chat, responses }
}

const fn gpt_5(tools_in_chat: u64, call_in_responses: u64) -> Rules {
    let chat = Structure {
        tools: tools(tools_in_chat, tools_in_chat, tools_in_chat + 7, tools_in_chat, 0),
        ..REASONING_CHAT
    };
    let responses =
        Structure { tools: tools(16, 25, 23, 16, 0), call: Units::new(call_in_responses), ..REASONING };
    Rules { chat, responses, ..REASONING_RULES }
}

const GPT_3_5_0301: Structure =
    Structure { message: Units::new(4), name: Units::ZERO, saved_by_name: Units::new(1), ..CHAT };

fn claude(generation: Claude) -> Rules {
    let [may, must] = generation.tools_prompt();
    let each = Units::new(30);
    let thinking = if generation.keeps_thinking() { 140 } else { 0 };
    let structure = Structure {
        tools: Tools { auto: may, required: must, forced: must, none: Units::ZERO, each },
        schema: units([95, 95]),
        call: Units::new(48),
        parallel: Some(units([0, 72])),
        thinking: Units::new(29),
        saved_by_system: Units::new(4),
        ..OTHERS
    };
    let weights = Weights { schema_json: 172, thinking, ..Weights::JSON };
    let (factor, spared) = if generation.is_since_4_7() { (140, 0) } else { (115, 25) };
    // It writes each argument of a call as an element.
    let call = if generation <= Claude::ThreeOpus { 12 } else { 33 };
    let answers = AnswerTokens { argument: 11, ..answers(3, 3, call, call) };
    Rules { spared, answers, ..alike(factor, weights, structure) }
}

const FIRST: Version = Version::FIRST;
const V3_0: Version = Version::new(3, 0);
const V3_1: Version = Version::new(3, 1);
const V4_0: Version = Version::new(4, 0);

/// The rows, by family, version and a word in the name.
static ROWS: [Row<Rules>; 40] = [
    (Family::TextEmbedding, FIRST, "", OPENAI),
    (Family::Gpt4_1, FIRST, "", OPENAI),
    (Family::Gpt4o, FIRST, "", OPENAI),
    (Family::Gpt3_5, FIRST, "-turbo-0301", Rules { chat: GPT_3_5_0301, ..OPENAI }),
    (Family::Gpt3_5, FIRST, "", Rules { chat: CHAT_CL100K, ..OPENAI }),
    (Family::Gpt4, FIRST, "", Rules { chat: CHAT_CL100K, ..OPENAI }),
    (Family::Gpt4, Version::new(0, 1), "", OPENAI),
    (Family::O1, FIRST, "", REASONING_RULES),
    (Family::O3, FIRST, "", REASONING_RULES),
    (Family::O4, FIRST, "", REASONING_RULES),
    (Family::Gpt5, FIRST, "", gpt_5(98, 11)),
    (Family::Gpt5, Version::new(0, 3), "", gpt_5(98, 14)),
    (Family::Gpt6, FIRST, "", gpt_5(98, 14)),
    (Family::GptOss, FIRST, "", alike(100, json(88, 0), others(62, [4, 1], [20, 0], 17))),
    (Family::Llama, FIRST, "", alike(100, json(120, 100), others(5, [3, 1], [130, 15], 9))),
    (Family::Llama, V3_1, "", alike(100, json(115, 100), others(31, [3, 1], [140, 15], 9))),
    (Family::Llama, V4_0, "", alike(100, json(120, 100), others(5, [3, 1], [600, 0], 9))),
    (Family::Grok, FIRST, "", alike(100, json(100, 100), others(2, [3, 1], [95, 0], 40))),
    (Family::Grok, FIRST, "code", alike(100, json(96, 0), others(196, [3, 1], [143, 0], 80))),
    (Family::Grok, V3_0, "", alike(100, json(100, 0), others(125, [3, 1], [100, 0], 20))),
    (Family::Grok, V4_0, "", alike(100, json(150, 0), others(148, [3, 1], [30, 0], 40))),
    (Family::Grok, V4_0, "fast", alike(100, json(91, 0), others(148, [3, 1], [169, 0], 20))),
    (Family::Grok, Version::new(4, 1), "", alike(100, json(91, 0), others(148, [3, 1], [169, 0], 20))),
    (
        Family::Grok,
        Version::new(4, 1),
        "non-reasoning",
        alike(100, json(100, 0), others(0, [0, 0], [159, 0], 22)),
    ),
    (Family::Grok, Version::new(4, 2), "", alike(100, json(125, 0), others(187, [3, 1], [41, 0], 40))),
    (Family::Qwen, FIRST, "", alike(100, json_unseen_schema(155, 100), others(22, [4, 1], [91, 0], 20))),
    (Family::Qwen, FIRST, "vl", alike(100, json_unseen_schema(155, 100), others(14, [4, 1], [91, 0], 20))),
    (Family::Qwen, V3_0, "", alike(100, json_unseen_schema(155, 0), others(3, [4, 1], [91, 0], 20))),
    (
        Family::Qwen,
        Version::new(3, 5),
        "",
        alike(100, json_unseen_schema(132, 100), others(5, [4, 1], [207, 15], 0)),
    ),
    (Family::Glm, FIRST, "", alike(100, json_unseen_schema(128, 100), others(4, [1, 0], [94, 20], 9))),
    (Family::Deepseek, FIRST, "", DEEPSEEK),
    (Family::Mistral, FIRST, "small", alike(117, json_unseen_schema(138, 0), others(9, [1, 0], [15, 0], 10))),
    (Family::Mistral, FIRST, "", alike(109, json_unseen_schema(155, 0), others(2, [1, 0], [15, 0], 10))),
    (Family::Mistral, V3_0, "24b", alike(117, json_unseen_schema(138, 0), others(9, [1, 0], [950, 0], 10))),
    (Family::Mixtral, FIRST, "", alike(109, json_unseen_schema(155, 0), others(2, [1, 0], [15, 0], 10))),
    (Family::Kimi, FIRST, "", alike(100, json(179, 46), others(7, [1, 1], [12, 0], 25))),
    (Family::Gemini, FIRST, "", alike(100, json(45, 0), TEXT_ALONE)),
    (
        Family::Gemini,
        V3_1,
        "",
        alike(100, json(45, 0), Structure { tools: tools(92, 92, 92, 92, 0), ..TEXT_ALONE }),
    ),
    (Family::Gemma, FIRST, "", alike(100, json(45, 0), TEXT_ALONE)),
    (Family::Sonar, FIRST, "", alike(100, json(100, 0), TEXT_ALONE)),
];

/// DeepSeek's own API adds to responses what it does not add to chats.
const DEEPSEEK: Rules = Rules {
    responses: others(84, [0, 0], [220, 15], 62),
    ..alike(100, json(125, 0), others(4, [0, 0], [220, 15], 62))
};

/// Nothing but texts.
const TEXT_ALONE: Structure = Structure { name: Units::ZERO, ..others(0, [0, 0], [0, 0], 0) };

/// The same for models that are not shown the schema of the answer: their servers only hold them to it.
const fn json_unseen_schema(tools: u32, thinking: u32) -> Weights {
    Weights { schema_json: 0, ..json(tools, thinking) }
}

/// What models are shown that get tools as JSON, of which each token counts so many hundredths of one, and so many of
/// reasoning in the history.
const fn json(tools: u32, thinking: u32) -> Weights {
    Weights { tool_json: tools, thinking, ..Weights::JSON }
}

/// The structure of a family with these numbers: the start; a message and its role; tools, together and each; a call.
const fn others(start: u64, message: [u64; 2], all_and_each: [u64; 2], call: u64) -> Structure {
    let ([message, role], [all, each]) = (units(message), all_and_each);
    Structure {
        start: Units::new(start),
        message,
        role,
        tools: tools(all, all, all, all, each),
        call: Units::new(call),
        ..OTHERS
    }
}

/// What answers of a family have beside their text, if it is not what others' have.
const fn answers_of(family: Family) -> Option<AnswerTokens> {
    Some(match family {
        Family::Llama => answers(1, 1, 17, 17),
        Family::Deepseek => AnswerTokens { reasoning: 2, ..answers(0, 0, 36, 36) },
        Family::Kimi => answers(1, 1, 12, 12),
        Family::GptOss => AnswerTokens { reasoning: 6, ..answers(4, 4, 12, 12) },
        Family::Qwen => AnswerTokens { reasoning: 4, ..answers(1, 1, 14, 14) },
        Family::Glm => answers(1, 1, 12, 12),
        Family::Grok => answers(0, 0, 12, 18),
        Family::Mistral | Family::Mixtral => answers(0, 0, 2, 2),
        Family::Gemini | Family::Gemma | Family::Sonar => answers(0, 0, 0, 0),
        _ => return None,
    })
}

impl Rules {
    /// The rules of `model`.
    pub(crate) fn of(model: &str) -> Self {
        let (family, rest) = Family::split(model);
        if family == Family::Claude {
            return Claude::of(model).map_or(UNKNOWN, claude);
        }
        let rules = row_of(&ROWS, family, &rest).copied().unwrap_or(UNKNOWN);
        let rules = Self { answers: answers_of(family).unwrap_or(rules.answers), ..rules };
        // Gateways, which put a provider before the name, pass chats with these models on as responses.
        if family.is_reasoning_of_openai() && without_provider(model).len() < model.len() {
            let answers = AnswerTokens { chat: rules.answers.response, ..rules.answers };
            return Self {
                chat: Structure { schema: rules.chat.schema, ..rules.responses },
                answers,
                ..rules
            };
        }
        rules
    }

    /// What corrects a count of text.
    pub(super) const fn factor(&self) -> Factor {
        Factor::from_hundredths(self.factor)
    }

    /// Tokens of text that the factor does not correct.
    pub(super) const fn spared(&self) -> u64 {
        self.spared
    }

    /// Whether its prompts of this `kind` are counted exactly.
    pub(crate) fn is_exact(&self, kind: PromptKind) -> bool {
        self.exact.contains(&kind)
    }

    /// What its answers have beside their text.
    pub(super) const fn answers(&self) -> AnswerTokens {
        self.answers
    }

    /// What the model is shown.
    pub(crate) const fn weights(&self) -> Weights {
        self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_their_familys_rules() {
        for (model, like) in [
            ("openai/gpt-3.5-turbo-0301", "gpt-3.5-turbo-0301"),
            ("gpt-3.5-turbo-0613", "gpt-4-0613"),
            ("my-turbo-0301", ""),
            ("text-embedding-3-small", "gpt-4o"),
            ("gpt-4.1-nano", "gpt-4o"),
            ("o3-mini", "o1"),
            ("gpt-5.9", "gpt-6"),
            ("codex-mini-latest", "gpt-5-mini"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-haiku-4-5"),
            ("databricks-claude-3-7-sonnet", "claude-opus-4-1"),
            ("Qwen/Qwen3-4B", "qwen3"),
            ("meta.llama3-3-70b-instruct-v1:0", "llama-3.3-70b"),
            ("zai-glm-4.7", "glm-5"),
            // What is not known counts as the newest before it.
            ("gpt-7-mini", "gpt-6"),
            ("gpt-5.10", "gpt-5.4"),
            ("o5", "o4-mini"),
            ("claude-opus-4-9", "claude-opus-4-8"),
            ("us.anthropic.claude-7-opus-v1:0", "claude-sonnet-5"),
            ("meta.llama4-maverick-17b-instruct-v1:0", "llama-4"),
            ("llama5", "llama-4"),
            ("accounts/fireworks/models/llama-v3p1-8b", "llama-3.1-8b"),
            ("llama-2-7b-chat", "llama-3-8b"),
            ("x-ai/grok-5-fast", "grok-4.3"),
            ("grok4", "grok-4-0709"),
            ("xai.grok-4.1-fast-reasoning", "grok-4-1"),
            ("qwen4-max", "qwen3.5-9b"),
            ("qwen-2.5-coder", "qwen2-7b"),
            ("qwen3-vl-2b", "qwen3"),
            ("deepseek-v5", "deepseek-v4-flash"),
            ("mistral-large-4", "mistral-large-latest"),
            ("mistralai/mistral-small-5", "mistral-small-latest"),
            ("gemini-4-pro", "gemini-3.1-flash-lite"),
        ] {
            assert_eq!(Rules::of(model), Rules::of(like), "{model}");
        }
        assert_eq!(Rules { exact: OPENAI.exact, ..Rules::of("") }, Rules::of("gpt-4o"));
        assert_ne!(Rules::of("openai/gpt-5"), Rules::of("gpt-5"));
        assert_ne!(Rules::of("claude-opus-4-7"), Rules::of("claude-opus-4-6"));
    }

    #[test]
    fn only_models_of_openai_are_counted_exactly_and_documents_of_none() {
        use PromptKind::{Documents, Images, Plain, Tools};
        for model in
            ["gpt-4o", "gpt-3.5-turbo", "openai/gpt-5.4", "o3", "gpt-4.1-mini", "text-embedding-3-small"]
        {
            let exact = [Plain, Tools, Images, Documents].map(|kind| Rules::of(model).is_exact(kind));
            assert_eq!(exact, [true, true, true, false], "{model}");
        }
        for model in ["claude-opus-4-5", "gemini-2.5-pro", "gpt-oss-120b", "llama-3.1-8b", "my-model", ""] {
            assert!([Plain, Tools, Images, Documents].iter().all(|kind| !Rules::of(model).is_exact(*kind)));
        }
    }
}
