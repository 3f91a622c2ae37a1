//! The rule by which a model's images are counted.
//!
//! OpenAI's guide "Images and vision", section "Calculating costs", as of 2026: older models cut an image into tiles
//! of 512 pixels, later ones cover it with patches of 32. Anthropic's guide "Vision", section "Resolution and token
//! cost": patches of 28 pixels, which explains its older rule of thumb, width times height divided by 750. Google's
//! guide "Image understanding": 258 tokens for an image of at most 384 pixels a side, and for each crop of a larger
//! one. Qwen's, GLM's, Mistral's and Llama's are in the code that prepares images for these open models. The
//! multipliers of GPT-5 mini and nano are what recorded usage shows, and so are the patches of 28 pixels for all other
//! models.

use super::Claude;
use super::Family::{
    self, Gemini, Gemma, Glm, Gpt3_5, Gpt4, Gpt4_1, Gpt4o, Gpt5, Gpt6, Grok, Llama, Mistral, O1, O3, O4,
    Other, Qwen,
};
use super::version::{Row, Version, row_of};

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
    /// Patches of so many pixels, to which an image is scaled up or down, and these tokens beside them: Qwen's and
    /// GLM's.
    Scaled { side: u32, least: u64, each: u64 },
    /// Patches of 28 pixels, and a token for each row of them: Mistral's.
    Rows(Bounds),
    /// So many tokens for each tile of 336 pixels, of at most sixteen, and for the whole where there are several:
    /// Llama's.
    Canvas(u64),
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

const FIRST: Version = Version::FIRST;

/// By family, version and a word in the name.
pub(crate) const RULES: [Row<ImageRule>; 35] = [
    (Gpt4o, FIRST, "-mini", tiles(2_833, 5_667)),
    (Gpt4o, FIRST, "", GPT_4O),
    (Gpt4_1, FIRST, "-mini", small_patches(162)),
    (Gpt4_1, FIRST, "-nano", small_patches(246)),
    (Gpt4_1, FIRST, "", GPT_4O),
    (Gpt4, FIRST, "", GPT_4O),
    (O1, FIRST, "", tiles(75, 150)),
    (O3, FIRST, "", tiles(75, 150)),
    (O4, FIRST, "-mini", small_patches(172)),
    (O4, FIRST, "", tiles(75, 150)),
    (Gpt5, FIRST, "-mini", small_patches(120)),
    (Gpt5, FIRST, "-nano", small_patches(150)),
    (Gpt5, FIRST, "-codex-mini", small_patches(100)),
    (Gpt5, FIRST, "", tiles(70, 140)),
    (Gpt5, Version::new(0, 1), "-codex-mini", small_patches(100)),
    (Gpt5, Version::new(0, 1), "", tiles(70, 140)),
    (Gpt5, Version::new(0, 2), "", small_patches(100)),
    (Gpt5, Version::new(0, 4), "-mini", small_patches(162)),
    (Gpt5, Version::new(0, 4), "-nano", small_patches(246)),
    (Gpt5, Version::new(0, 4), "", large_patches(LARGE)),
    (Gpt5, Version::new(0, 5), "", large_patches(ORIGINAL)),
    (Gpt6, FIRST, "", large_patches(ORIGINAL)),
    (Gpt3_5, FIRST, "", GPT_4O),
    (Gemini, FIRST, "", ImageRule::Crops(258)),
    (Gemma, FIRST, "", ImageRule::Crops(258)),
    (Grok, FIRST, "", ImageRule::Crops(258)),
    (Qwen, FIRST, "", ImageRule::Scaled { side: 28, least: 4, each: 2 }),
    (Qwen, Version::new(3, 0), "", ImageRule::Scaled { side: 32, least: 64, each: 2 }),
    (Glm, FIRST, "", ImageRule::Scaled { side: 28, least: 16, each: 3 }),
    (Mistral, FIRST, "", ImageRule::Rows(bounds(3_025, 1_540))),
    (Llama, FIRST, "", UNKNOWN),
    (Llama, Version::new(4, 0), "", ImageRule::Canvas(145)),
    (Other, FIRST, "computer-use-preview", tiles(65, 129)),
    (Other, FIRST, "gpt-", GPT_4O),
    (Other, FIRST, "", UNKNOWN),
];

/// What models of a family that is not listed count.
const UNKNOWN: ImageRule = ImageRule::Claude(bounds(4_784, 2_576));

impl ImageRule {
    /// The rule of `model`.
    pub(crate) fn of(model: &str) -> Self {
        match Claude::of(model) {
            Some(claude) if claude.is_since_4_7() => return Self::Claude(bounds(4_784, 2_576)),
            Some(_) => return Self::Claude(bounds(1_568, 1_568)),
            None => {}
        }
        let (family, rest) = Family::split(model);
        row_of(&RULES, family, &rest).copied().unwrap_or(UNKNOWN)
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
            ("gpt-5.10", large_patches(ORIGINAL)),
            ("gpt-7", large_patches(ORIGINAL)),
            ("o5", tiles(75, 150)),
            ("openai/gpt-5.4-mini-2026-03-01", small_patches(162)),
            ("gpt-5-chat-latest", tiles(70, 140)),
            ("computer-use-preview-2025-03-11", tiles(65, 129)),
            ("claude-3-haiku", ImageRule::Claude(bounds(1_568, 1_568))),
            ("claude-opus-4-7", ImageRule::Claude(bounds(4_784, 2_576))),
            ("gpt-5-mini", small_patches(120)),
            ("gpt-4-turbo", GPT_4O),
            ("google/gemini-2.5-flash", ImageRule::Crops(258)),
            ("meta.llama4-scout-17b-instruct-v1:0", ImageRule::Canvas(145)),
            ("llama-3.2-11b-vision", UNKNOWN),
            ("Qwen/Qwen2.5-VL-7B-Instruct", ImageRule::Scaled { side: 28, least: 4, each: 2 }),
            ("qwen3-vl-8b", ImageRule::Scaled { side: 32, least: 64, each: 2 }),
            ("nova-lite", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(ImageRule::of(model), rule, "{model}");
        }
    }
}
