//! What is known of the tokenizers of Anthropic's models, which are not published.
//!
//! Claude's text is counted in `o200k_base` and multiplied by a factor, which the configuration's `encodings` can
//! replace.

use super::{Factor, without_provider};

/// A generation of Claude, as far as generations count differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claude {
    /// Up to Claude 4.6.
    Before4_7,
    /// Claude 4.7 and all later ones.
    Since4_7,
}

/// What the names of models before Claude 4.7 have in them. The versions of later ones are not known yet.
const BEFORE_4_7: [&str; 21] = [
    "claude-1",
    "claude-2",
    "claude-3",
    "claude-v1",
    "claude-v2",
    "claude-instant",
    "claude-haiku-4",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2",
    "claude-opus-4-5",
    "claude-opus-4-6",
    "claude-opus-4@",
    "claude-opus-4:",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2",
    "claude-sonnet-4-5",
    "claude-sonnet-4-6",
    "claude-sonnet-4@",
    "claude-sonnet-4:",
    "claude-4-",
];

impl Claude {
    /// The generation that `model` is of, by whatever name a platform offers it. None for other models.
    pub fn from_model(model: &str) -> Option<Self> {
        let name = without_provider(model).to_ascii_lowercase().replace('.', "-");
        let name = name.get(name.find("claude")?..)?;
        let is_before = BEFORE_4_7.iter().any(|beginning| name.starts_with(beginning))
            || matches!(name, "claude-opus-4" | "claude-sonnet-4");
        Some(if is_before { Self::Before4_7 } else { Self::Since4_7 })
    }

    /// What a count in `o200k_base` is multiplied by.
    ///
    /// Before 4.7 it is 1.2: comparisons of Claude 3.5 and GPT-4o find 16 % more tokens in English, 21 % in
    /// mathematics and 30 % in Python, others of Claude 4.5 9 % in English and 14 % in tables. Since 4.7 it is 1.6:
    /// Anthropic's documentation says that the same text has about 30 % more tokens than before.
    pub(super) fn factor(self) -> Factor {
        Factor::from_tenths(match self {
            Self::Before4_7 => 12,
            Self::Since4_7 => 16,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_known_by_any_platforms_names() {
        for (model, generation) in [
            ("claude-3-5-sonnet-20241022", Some(Claude::Before4_7)),
            ("anthropic.claude-v2:1", Some(Claude::Before4_7)),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Some(Claude::Before4_7)),
            ("anthropic/claude-3.5-haiku", Some(Claude::Before4_7)),
            ("anthropic/claude-sonnet-4", Some(Claude::Before4_7)),
            ("claude-sonnet-4@20250514", Some(Claude::Before4_7)),
            ("claude-opus-4-20250514", Some(Claude::Before4_7)),
            ("claude-haiku-4-5-20251001", Some(Claude::Before4_7)),
            ("claude-opus-4.6", Some(Claude::Before4_7)),
            ("claude-opus-4-7", Some(Claude::Since4_7)),
            ("global.anthropic.claude-opus-4-8", Some(Claude::Since4_7)),
            ("claude-sonnet-5", Some(Claude::Since4_7)),
            ("Claude-Opus-9", Some(Claude::Since4_7)),
            ("gpt-4o", None),
            ("", None),
        ] {
            assert_eq!(Claude::from_model(model), generation, "{model}");
        }
    }
}
