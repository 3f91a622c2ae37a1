//! The rule by which a model's images are counted.
//!
//! OpenAI's guide "Images and vision", section "Calculating costs", as of 2026: older models cut an image into tiles
//! of 512 pixels, later ones cover it with patches of 32. Anthropic's guide "Vision", section "Resolution and token
//! cost": patches of 28 pixels, which explains its older rule of thumb, width times height divided by 750. Google's
//! guide "Image understanding": 258 tokens for an image of at most 384 pixels a side, and for each crop of a larger
//! one. The multipliers of GPT-5 mini and nano are what recorded usage shows, and so are the patches of 28 pixels for
//! the models of others, which Mistral's and Qwen's have.

use super::Claude;
use super::Family::{self, Gemini, Gemma, Gpt3_5, Gpt4, Gpt4_1, Gpt4o, Gpt5, Gpt6, Grok, O1, O3, O4, Other};

/// A rule that counts images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageRule {
    /// A base, and each tile of 512 pixels. Low detail costs the base alone.
    Tiles { base: u64, tile: u64 },
    /// Patches of 32 pixels, within bounds for each detail, times a multiplier in hundredths.
    Patches { low: Bounds, high: Bounds, auto: Bounds, original: Bounds, hundredths: u64 },
    /// Patches of 28 pixels, within bounds.
    Claude(Bounds),
    /// So many tokens for a small image, and for each crop of a larger one: Gemini's.
    Crops(u64),
}

/// The largest size that a model sees; larger images are scaled down to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Patches.
    pub(crate) patches: u64,
    /// Pixels of the longer side.
    pub(crate) side: u32,
}

const fn bounds(patches: u64, side: u32) -> Bounds {
    Bounds { patches, side }
}

/// The patches of a square of 512 pixels, the version that low detail shows.
const LOW: Bounds = bounds(256, 512);
const SMALL: Bounds = bounds(1_536, 2_048);
const LARGE: Bounds = bounds(2_500, 2_048);
const ORIGINAL: Bounds = bounds(10_000, 6_000);

const fn tiles(base: u64, tile: u64) -> ImageRule {
    ImageRule::Tiles { base, tile }
}

const fn small_patches(hundredths: u64) -> ImageRule {
    ImageRule::Patches { low: LOW, high: SMALL, auto: SMALL, original: SMALL, hundredths }
}

const fn large_patches(auto: Bounds) -> ImageRule {
    ImageRule::Patches { low: LOW, high: LARGE, auto, original: ORIGINAL, hundredths: 100 }
}

const GPT_4O: ImageRule = tiles(85, 170);

/// By family and the beginning of the rest of the name. The first match counts.
pub(crate) const RULES: [(Family, &str, ImageRule); 29] = [
    (Gpt4o, "-mini", tiles(2_833, 5_667)),
    (Gpt4o, "", GPT_4O),
    (Gpt4_1, "-mini", small_patches(162)),
    (Gpt4_1, "-nano", small_patches(246)),
    (Gpt4_1, "", GPT_4O),
    (Gpt4, "", GPT_4O),
    (O1, "", tiles(75, 150)),
    (O3, "", tiles(75, 150)),
    (O4, "-mini", small_patches(172)),
    (Gpt5, "-mini", small_patches(120)),
    (Gpt5, "-nano", small_patches(150)),
    (Gpt5, "-codex-mini", small_patches(100)),
    (Gpt5, ".1-codex-mini", small_patches(100)),
    (Gpt5, ".1", tiles(70, 140)),
    (Gpt5, ".2", small_patches(100)),
    (Gpt5, ".3", small_patches(100)),
    (Gpt5, ".4-mini", small_patches(162)),
    (Gpt5, ".4-nano", small_patches(246)),
    (Gpt5, ".4", large_patches(LARGE)),
    // GPT-5.5 and later.
    (Gpt5, ".", large_patches(ORIGINAL)),
    (Gpt5, "", tiles(70, 140)),
    (Gpt6, "", large_patches(ORIGINAL)),
    (Gpt3_5, "", GPT_4O),
    (Gemini, "", ImageRule::Crops(258)),
    (Gemma, "", ImageRule::Crops(258)),
    (Grok, "", ImageRule::Crops(258)),
    (Other, "computer-use-preview", tiles(65, 129)),
    (Other, "gpt", GPT_4O),
    (Other, "", UNKNOWN),
];

/// What models of a family that is not listed count. Mistral's and Qwen's see larger images, but no others do.
const UNKNOWN: ImageRule = ImageRule::Claude(bounds(4_784, 2_576));

impl ImageRule {
    /// The rule of `model`.
    pub(crate) fn of(model: &str) -> Self {
        match Claude::of(model) {
            Some(claude) if claude.is_since_4_7() => return Self::Claude(bounds(4_784, 2_576)),
            Some(_) => return Self::Claude(bounds(1_568, 1_568)),
            None => {}
        }
        let (family, version) = Family::split(model);
        let mut rules = RULES.iter();
        let found = rules.find(|(of, beginning, _)| *of == family && version.starts_with(beginning));
        found.map_or(UNKNOWN, |(_, _, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_published_rules() {
        for (model, rule) in [
            ("gpt-4o-mini-2024-07-18", tiles(2_833, 5_667)),
            ("ft:gpt-4.1-nano:acme::id", small_patches(246)),
            ("gpt-4.5-preview", GPT_4O),
            ("o1", tiles(75, 150)),
            ("openai/gpt-5.1-chat-latest", tiles(70, 140)),
            ("gpt-5.1-codex-mini", small_patches(100)),
            ("gpt-5.4", large_patches(LARGE)),
            ("gpt-5.6", large_patches(ORIGINAL)),
            ("gpt-5-chat-latest", tiles(70, 140)),
            ("computer-use-preview-2025-03-11", tiles(65, 129)),
            ("claude-3-haiku", ImageRule::Claude(bounds(1_568, 1_568))),
            ("claude-opus-4-7", ImageRule::Claude(bounds(4_784, 2_576))),
            ("gpt-5-mini", small_patches(120)),
            ("gpt-4-turbo", GPT_4O),
            ("google/gemini-2.5-flash", ImageRule::Crops(258)),
            ("llama-4", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(ImageRule::of(model), rule, "{model}");
        }
    }
}
