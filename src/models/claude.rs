//! Generations of Claude. Anthropic publishes neither its tokenizers nor the prompt that it adds for tools: text is
//! counted in `o200k_base` and multiplied by a factor, and the prompt has the size that recorded usage shows.

use super::{Family, Version};
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

/// From which version on each generation is: of all models, or of those with this word in their names. Of those that
/// fit, the last counts, so that a model that is not listed counts as the newest before it.
const GENERATIONS: [(Version, &str, Claude); 11] = [
    (Version::FIRST, "", Three),
    (Version::new(3, 0), "opus", ThreeOpus),
    (Version::new(3, 5), "sonnet", ThreeFive),
    (Version::new(3, 5), "opus", ThreeFive),
    (Version::new(3, 7), "", Four),
    (Version::new(4, 0), "haiku", FourFive),
    (Version::new(4, 5), "", FourFive),
    (Version::new(4, 6), "", FourSix),
    (Version::new(4, 7), "", FourSeven),
    (Version::new(5, 0), "", Five),
    (Version::NEWEST, "", Five),
];

impl Claude {
    /// The generation of `model`, by its name on any platform. None for other models.
    pub fn of(model: &str) -> Option<Self> {
        let (family, rest) = Family::split(model);
        (family == Family::Claude).then(|| Self::of_rest(&rest))
    }

    /// The generation of a model by the `rest` of its name.
    fn of_rest(rest: &str) -> Self {
        let version = Version::find(rest).unwrap_or(Version::NEWEST);
        let is_it = |(since, word, _): &&(Version, &str, Self)| *since <= version && rest.contains(word);
        GENERATIONS.iter().rev().find(is_it).map_or(Five, |(_, _, generation)| *generation)
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
            ("claude-opus-4-9", Some(FourSeven)),
            ("eu.anthropic.claude-haiku-4-10-20270101-v1:0", Some(FourSeven)),
            ("claude-3-5-sonnet-20241022-v2:0", Some(ThreeFive)),
            ("claude-3-haiku@20240307", Some(Three)),
            ("claude-opus-3", Some(ThreeOpus)),
            ("claude-instant-v1", Some(Three)),
            ("anthropic/claude-6", Some(Five)),
            ("claude-latest", Some(Five)),
            ("gpt-4o", None),
            ("", None),
        ] {
            assert_eq!(Claude::of(model), generation, "{model}");
        }
    }
}
