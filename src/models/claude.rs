//! Generations of Claude. Anthropic publishes neither its tokenizers nor the prompt that it adds for tools: text is
//! counted in `o200k_base` and multiplied by a factor, and the prompt has the size that recorded usage shows.

use super::Family;
use crate::quantity::Units;

/// A generation of Claude: all its models count text, tools and images in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claude {
    /// Claude 1, 2 and 3 but for Opus, and Claude 3.5 Haiku.
    Three,
    /// Claude 3 Opus.
    ThreeOpus,
    /// Claude 3.5 Sonnet.
    ThreeFive,
    /// Claude 3.7, 4 and 4.1.
    Four,
    /// Claude 4.5.
    FourFive,
    /// Claude 4.6.
    FourSix,
    /// Claude 4.7 and later of Claude 4.
    FourSeven,
    /// Claude 5, and all later models.
    Five,
}

use Claude::{Five, Four, FourFive, FourSeven, FourSix, Three, ThreeFive, ThreeOpus};

/// The beginnings of the text after `claude` in the names of models, with hyphens for full stops. The longest counts.
/// All other names are those of later models.
const GENERATIONS: [(&str, Claude); 34] = [
    ("-1", Three),
    ("-2", Three),
    ("-v1", Three),
    ("-v2", Three),
    ("-instant", Three),
    ("-3-haiku", Three),
    ("-3-sonnet", Three),
    ("-3-opus", ThreeOpus),
    ("-3-5-haiku", Three),
    ("-3-5-sonnet", ThreeFive),
    ("-3-7", Four),
    ("-3", Three),
    ("-4-5", FourFive),
    ("-4-6", FourSix),
    ("-4-7", FourSeven),
    ("-4-8", FourSeven),
    ("-4", Four),
    ("-haiku-4-5", FourFive),
    ("-haiku-4-6", FourSix),
    ("-haiku-4", FourFive),
    ("-haiku-3-5", Three),
    ("-sonnet-3-5", ThreeFive),
    ("-sonnet-3-7", Four),
    ("-sonnet-4-5", FourFive),
    ("-sonnet-4-6", FourSix),
    ("-sonnet-4-7", FourSeven),
    ("-sonnet-4-8", FourSeven),
    ("-sonnet-4", Four),
    ("-opus-3", ThreeOpus),
    ("-opus-4-5", FourFive),
    ("-opus-4-6", FourSix),
    ("-opus-4-7", FourSeven),
    ("-opus-4-8", FourSeven),
    ("-opus-4", Four),
];

impl Claude {
    /// The generation of `model`, by its name on any platform. None for other models.
    pub fn of(model: &str) -> Option<Self> {
        let (family, version) = Family::split(model);
        (family == Family::Claude).then(|| Self::of_version(&version.replace(['.', '_'], "-")))
    }

    fn of_version(version: &str) -> Self {
        let known = GENERATIONS.iter().filter(|(begin, _)| version.starts_with(begin));
        known.max_by_key(|(begin, _)| begin.len()).map_or(Five, |(_, generation)| *generation)
    }

    /// Whether its images are larger, and its texts have more tokens, than before Claude 4.7.
    pub(super) fn is_since_4_7(self) -> bool {
        self >= FourSeven
    }

    /// Tokens of the prompt that Anthropic adds for tools: where the model may choose, and where it must call one.
    pub(super) const fn tools_prompt(self) -> [Units; 2] {
        let [may, must] = match self {
            Three => [260, 350],
            ThreeOpus => [530, 290],
            ThreeFive => [294, 294],
            Four => [310, 280],
            FourFive | FourSix => [490, 590],
            FourSeven => [690, 830],
            Five => [350, 490],
        };
        [Units::new(may), Units::new(must)]
    }

    /// Whether thinking of earlier turns costs anything.
    pub(super) fn keeps_thinking(self) -> bool {
        self >= FourSix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_known_by_any_platforms_names() {
        for (model, generation) in [
            ("claude-3-5-sonnet-20241022", Some(ThreeFive)),
            ("anthropic.claude-v2:1", Some(Three)),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Some(Four)),
            ("anthropic/claude-3.5-haiku", Some(Three)),
            ("claude-3-opus@20240229", Some(ThreeOpus)),
            ("anthropic/claude-sonnet-4", Some(Four)),
            ("claude-sonnet-4@20250514", Some(Four)),
            ("claude-opus-4-20250514", Some(Four)),
            ("claude-opus-4-1-20250805", Some(Four)),
            ("claude-haiku-4-5-20251001", Some(FourFive)),
            ("claude-opus-4.6", Some(FourSix)),
            ("claude-4-sonnet", Some(Four)),
            ("databricks-claude-3-7-sonnet", Some(Four)),
            ("claude-opus-4-7", Some(FourSeven)),
            ("global.anthropic.claude-opus-4-8", Some(FourSeven)),
            ("claude-sonnet-5", Some(Five)),
            ("Claude-Opus-9", Some(Five)),
            ("gpt-4o", None),
            ("", None),
        ] {
            assert_eq!(Claude::of(model), generation, "{model}");
        }
    }
}
