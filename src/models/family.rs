//! Families of models, by the beginnings of their names: the one list of those names.
//!
//! Platforms and gateways put words before a model's name and behind it (`us.anthropic.claude-opus-4-5-v1:0`,
//! `azure/my-gpt-4o`, `databricks-claude-3-7-sonnet`): the name begins where a family's does. Metrics are kept per
//! family. Clients choose the names of models, so the list is closed.

use super::without_provider;
use std::borrow::Cow;
use strum::{EnumIter, IntoStaticStr};

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr)]
pub(crate) enum Family {
    #[strum(serialize = "text-embedding")]
    TextEmbedding,
    #[strum(serialize = "gpt-3.5")]
    Gpt3_5,
    #[strum(serialize = "gpt-4.1")]
    Gpt4_1,
    #[strum(serialize = "gpt-4o")]
    Gpt4o,
    #[strum(serialize = "gpt-4")]
    Gpt4,
    #[strum(serialize = "gpt-5")]
    Gpt5,
    #[strum(serialize = "gpt-6")]
    Gpt6,
    #[strum(serialize = "gpt-oss")]
    GptOss,
    #[strum(serialize = "o1")]
    O1,
    #[strum(serialize = "o3")]
    O3,
    #[strum(serialize = "o4")]
    O4,
    #[strum(serialize = "claude")]
    Claude,
    #[strum(serialize = "gemini")]
    Gemini,
    #[strum(serialize = "gemma")]
    Gemma,
    #[strum(serialize = "llama")]
    Llama,
    #[strum(serialize = "mistral")]
    Mistral,
    #[strum(serialize = "mixtral")]
    Mixtral,
    #[strum(serialize = "qwen")]
    Qwen,
    #[strum(serialize = "deepseek")]
    Deepseek,
    #[strum(serialize = "command")]
    Command,
    #[strum(serialize = "grok")]
    Grok,
    #[strum(serialize = "glm")]
    Glm,
    #[strum(serialize = "kimi")]
    Kimi,
    #[strum(serialize = "sonar")]
    Sonar,
    #[strum(serialize = "phi")]
    Phi,
    #[strum(serialize = "nova")]
    Nova,
    /// Any other model.
    #[strum(serialize = "other")]
    Other,
}

use Family::{
    Claude, Command, Deepseek, Gemini, Gemma, Glm, Gpt3_5, Gpt4, Gpt4_1, Gpt4o, Gpt5, Gpt6, GptOss, Grok,
    Kimi, Llama, Mistral, Mixtral, Nova, O1, O3, O4, Other, Phi, Qwen, Sonar, TextEmbedding,
};

/// The beginnings of names, in lower case. Where one begins another, the longer one comes first.
const NAMES: [(&str, Family); 42] = [
    ("text-embedding", TextEmbedding),
    ("gpt-3.5", Gpt3_5),
    ("gpt-35", Gpt3_5),
    ("gpt-3", Gpt3_5),
    ("gpt35", Gpt3_5),
    ("gpt3", Gpt3_5),
    ("gpt-4.1", Gpt4_1),
    ("gpt-4o", Gpt4o),
    ("gpt-4", Gpt4),
    ("gpt4.1", Gpt4_1),
    ("gpt4o", Gpt4o),
    ("gpt4", Gpt4),
    ("gpt-5", Gpt5),
    ("gpt5", Gpt5),
    ("gpt-6", Gpt6),
    ("gpt-oss", GptOss),
    ("gpt-audio", Gpt4o),
    ("gpt-realtime", Gpt4o),
    ("chatgpt-4o", Gpt4o),
    ("codex", Gpt5),
    ("claude", Claude),
    ("gemini", Gemini),
    ("gemma", Gemma),
    ("llama", Llama),
    ("mistral", Mistral),
    ("ministral", Mistral),
    ("magistral", Mistral),
    ("codestral", Mistral),
    ("devstral", Mistral),
    ("pixtral", Mistral),
    ("voxtral", Mistral),
    ("mixtral", Mixtral),
    ("qwen", Qwen),
    ("deepseek", Deepseek),
    ("command", Command),
    ("grok", Grok),
    ("glm", Glm),
    ("kimi", Kimi),
    ("moonshot", Kimi),
    ("sonar", Sonar),
    ("phi", Phi),
    ("nova", Nova),
];

/// The shortest beginning that is looked for within a name. Shorter ones are parts of other words.
const SHORTEST_WITHIN: usize = 3;

/// The words before which also a short name is OpenAI's.
const OPENAI: [&str; 2] = ["openai", "azure"];

impl Family {
    /// Whether its models are OpenAI's, and can reason.
    pub(crate) const fn is_reasoning_of_openai(self) -> bool {
        matches!(self, Self::O1 | Self::O3 | Self::O4 | Self::Gpt5 | Self::Gpt6)
    }

    /// The family of `model`.
    pub(crate) fn of(model: &str) -> Self {
        Self::split(model).0
    }

    /// The family of `model`, and the part of its name behind the family's, in lower case. In [`Family::Other`], that
    /// is the whole name without a provider.
    pub(super) fn split(model: &str) -> (Self, Cow<'_, str>) {
        let name = without_provider(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        match at_start(&name).or_else(|| within(&name)) {
            None => (Other, name),
            Some((end, family)) => (family, rest(name, end)),
        }
    }

    /// The beginning of its models' names, which is also its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// The family whose name `name` begins with: where that ends, and the family.
fn at_start(name: &str) -> Option<(usize, Family)> {
    // Comparing one byte first spares most of the work.
    let first = name.as_bytes().first();
    let known = NAMES.iter().find(|(begin, _)| begin.as_bytes().first() == first && name.starts_with(begin));
    known.map(|(begin, of)| (begin.len(), *of)).or_else(|| numbered(name))
}

/// The same for what OpenAI numbers: the o-series, and models that are newer than those that are known (`gpt-7`).
fn numbered(name: &str) -> Option<(usize, Family)> {
    let after = |word: &str| name.strip_prefix("chat").unwrap_or(name).strip_prefix(word);
    let (is_gpt, rest) = match after("gpt") {
        Some(rest) => (true, rest.strip_prefix('-').unwrap_or(rest)),
        None => (false, name.strip_prefix('o')?),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    let family = match (is_gpt, number.parse::<u8>().ok()?) {
        (true, 6..) => Gpt6,
        (true, _) | (false, 0) => return None,
        (false, 1..=2) => O1,
        (false, 3) => O3,
        (false, 4..) => O4,
    };
    let ends = rest.chars().next().is_none_or(|next| !next.is_ascii_alphanumeric());
    (ends && digits <= 2).then_some((name.len().saturating_sub(rest.len()), family))
}

/// The first family's name within `name`, behind a separator: where it ends, and the family.
fn within(name: &str) -> Option<(usize, Family)> {
    let starts = name.match_indices(['.', '-', '_', ':', '@', ' ']).map(|(at, _)| at.saturating_add(1));
    starts.into_iter().find_map(|start| {
        let (before, rest) = name.split_at_checked(start)?;
        let (end, family) = at_start(rest)?;
        let before = before.get(..before.len().saturating_sub(1)).unwrap_or_default();
        let is_its = end >= SHORTEST_WITHIN || OPENAI.iter().any(|owner| before.ends_with(owner));
        is_its.then_some((start.saturating_add(end), family))
    })
}

/// `name` from `at` on.
fn rest(name: Cow<'_, str>, at: usize) -> Cow<'_, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.get(at..).unwrap_or_default()),
        Cow::Owned(mut name) => {
            name.drain(..at);
            Cow::Owned(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator;

    #[test]
    fn families_are_known_by_the_beginnings_of_names() {
        for (model, family, rest) in [
            ("gpt-4o-mini", Gpt4o, "-mini"),
            ("chatgpt-4o-latest", Gpt4o, "-latest"),
            ("gpt-4.1", Gpt4_1, ""),
            ("gpt-4.5-preview", Gpt4, ".5-preview"),
            ("gpt-5.1-codex-mini", Gpt5, ".1-codex-mini"),
            ("gpt-35-turbo", Gpt3_5, "-turbo"),
            ("ft:gpt-4.1-nano:acme::id", Gpt4_1, "-nano:acme::id"),
            ("claude-opus-4-7", Claude, "-opus-4-7"),
            ("us.anthropic.claude-opus-4-7", Claude, "-opus-4-7"),
            ("databricks-claude-3-7-sonnet", Claude, "-3-7-sonnet"),
            ("openai.gpt-oss-120b-1:0", GptOss, "-120b-1:0"),
            ("openai/gpt-4o", Gpt4o, ""),
            ("@cf/meta/llama-3.3-70b", Llama, "-3.3-70b"),
            ("meta-llama/Meta-Llama-3.1-8B", Llama, "-3.1-8b"),
            ("deepseek-r1-distill-llama-70b", Deepseek, "-r1-distill-llama-70b"),
            ("amazon.nova-pro-v1:0", Nova, "-pro-v1:0"),
            ("zai-org/GLM-4.6", Glm, "-4.6"),
            ("mistral.voxtral-small", Mistral, ".voxtral-small"),
            ("gpt-7", Gpt6, ""),
            ("azure/my-gpt-10.2-mini", Gpt6, ".2-mini"),
            ("chatgpt-7-latest", Gpt6, "-latest"),
            ("gpt-5.10", Gpt5, ".10"),
            ("gpt4o-mini", Gpt4o, "-mini"),
            ("gpt-audio-mini", Gpt4o, "-mini"),
            ("o5", O4, ""),
            ("openai/o5-mini", O4, "-mini"),
            ("openai.o3", O3, ""),
            ("azure-o12-pro", O4, "-pro"),
            ("meta.llama4-scout-17b-instruct-v1:0", Llama, "4-scout-17b-instruct-v1:0"),
            ("o365", Other, "o365"),
            ("gpt-neox-20b", Other, "gpt-neox-20b"),
            ("gpt-20b", Other, "gpt-20b"),
            ("gpt2", Other, "gpt2"),
            ("o10-mini", O4, "-mini"),
            ("o1-mini", O1, "-mini"),
            ("other", Other, "other"),
            ("supernova", Other, "supernova"),
            ("qed-o1", Other, "qed-o1"),
            ("", Other, ""),
        ] {
            assert_eq!(Family::split(model), (family, rest.into()), "{model}");
        }
    }

    #[test]
    fn every_name_leads_to_its_own_family() {
        for family in Family::iter() {
            assert_eq!(Family::of(family.name()), family, "a longer name must come before {family:?}");
        }
        for (name, family) in NAMES {
            assert_eq!(Family::of(name), family, "{name}");
        }
    }
}
