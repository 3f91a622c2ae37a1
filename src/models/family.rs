//! Families of models, by the beginnings of their names: the one list of those names.
//!
//! Metrics are kept per family. Clients choose the names of models, so the list is closed.

use super::without_provider;
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

/// A family of models. Where one name begins another, the longer one comes first.
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
    /// Any other model.
    #[strum(serialize = "other")]
    Other,
}

impl Family {
    /// The family of `model`.
    pub(crate) fn of(model: &str) -> Self {
        Self::split(without_provider(model)).0
    }

    /// The family of the model called `name`, without a provider, and the rest of the name. In [`Family::Other`], the
    /// rest is the whole name.
    pub(super) fn split(name: &str) -> (Self, &str) {
        Self::iter()
            .filter(|family| *family != Self::Other)
            .find_map(|family| Some((family, name.strip_prefix(family.name())?)))
            .unwrap_or((Self::Other, name))
    }

    /// The beginning of its models' names, which is also its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_the_beginnings_of_names() {
        for (model, family, rest) in [
            ("gpt-4o-mini", Family::Gpt4o, "-mini"),
            ("gpt-4.1", Family::Gpt4_1, ""),
            ("gpt-4.5-preview", Family::Gpt4, ".5-preview"),
            ("gpt-5.1-codex-mini", Family::Gpt5, ".1-codex-mini"),
            ("claude-opus-4-7", Family::Claude, "-opus-4-7"),
            ("us.anthropic.claude-opus-4-7", Family::Other, "us.anthropic.claude-opus-4-7"),
            ("other", Family::Other, "other"),
            ("", Family::Other, ""),
        ] {
            assert_eq!(Family::split(model), (family, rest), "{model}");
        }
        assert_eq!(Family::of("openai/gpt-4o"), Family::Gpt4o);
    }

    #[test]
    fn every_name_leads_to_its_own_family() {
        for family in Family::iter() {
            assert_eq!(Family::of(family.name()), family, "a longer name must come before {family:?}");
        }
    }
}
