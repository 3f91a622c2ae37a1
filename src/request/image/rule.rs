//! What an image costs, by the rule that its model's maker publishes.
//!
//! OpenAI's guide "Images and vision", section "Calculating costs", as of 2026: older models cut an image into tiles
//! of 512 pixels, later ones cover it with patches of 32. Anthropic's guide "Vision", section "Resolution and token
//! cost": patches of 28 pixels, which is where its older rule of thumb, width times height by 750, comes from. A model
//! that neither names counts as GPT-4o does.

use super::{Detail, Image, Size};
use crate::tokens::{Claude, without_provider};

/// How a model's images are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::request) enum Rule {
    /// A base, and each tile of 512 pixels.
    Tiles { base: u64, tile: u64 },
    /// Patches of 32 pixels, at most so many for a detail, times a multiplier in hundredths.
    Patches { high: Bounds, auto: Bounds, original: Bounds, hundredths: u64 },
    /// Patches of 28 pixels, at most so many.
    Claude(Bounds),
}

/// What an image is scaled down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::request) struct Bounds {
    /// Patches.
    patches: u64,
    /// Pixels of the longer side.
    side: u32,
}

const fn bounds(patches: u64, side: u32) -> Bounds {
    Bounds { patches, side }
}

/// Patches of 512 pixels square, the version that low detail shows.
const LOW: Bounds = bounds(256, 512);
const SMALL: Bounds = bounds(1_536, 2_048);
const LARGE: Bounds = bounds(2_500, 2_048);
const ORIGINAL: Bounds = bounds(10_000, 6_000);

const fn tiles(base: u64, tile: u64) -> Rule {
    Rule::Tiles { base, tile }
}

const fn small_patches(hundredths: u64) -> Rule {
    Rule::Patches { high: SMALL, auto: SMALL, original: SMALL, hundredths }
}

/// The beginnings of models' names; the first that fits counts.
const RULES: [(&str, Rule); 24] = [
    ("gpt-4o-mini", tiles(2_833, 5_667)),
    ("gpt-4.1-mini", small_patches(162)),
    ("gpt-4.1-nano", small_patches(246)),
    ("o4-mini", small_patches(172)),
    ("o1", tiles(75, 150)),
    ("o3", tiles(75, 150)),
    ("computer-use-preview", tiles(65, 129)),
    ("gpt-5-mini", small_patches(162)),
    ("gpt-5-nano", small_patches(246)),
    ("gpt-5-codex-mini", small_patches(100)),
    ("gpt-5.1-codex-mini", small_patches(100)),
    ("gpt-5.2", small_patches(100)),
    ("gpt-5.3", small_patches(100)),
    ("gpt-5.4-mini", small_patches(162)),
    ("gpt-5.4-nano", small_patches(246)),
    ("gpt-5.4", Rule::Patches { high: LARGE, auto: LARGE, original: ORIGINAL, hundredths: 100 }),
    ("gpt-5.1", tiles(70, 140)),
    ("gpt-5-", tiles(70, 140)),
    ("gpt-5.", Rule::Patches { high: LARGE, auto: ORIGINAL, original: ORIGINAL, hundredths: 100 }),
    ("gpt-5", tiles(70, 140)),
    ("gpt-4o", tiles(85, 170)),
    ("gpt-4.1", tiles(85, 170)),
    ("gpt-4.5", tiles(85, 170)),
    ("", tiles(85, 170)),
];

impl Rule {
    /// The rule of `model`.
    pub(in crate::request) fn of(model: &str) -> Self {
        match Claude::from_model(model) {
            Some(Claude::Before4_7) => return Self::Claude(bounds(1_568, 1_568)),
            Some(Claude::Since4_7) => return Self::Claude(bounds(4_784, 2_576)),
            None => {}
        }
        let name = without_provider(model);
        let name = name.strip_prefix("ft:").unwrap_or(name);
        let found = RULES.iter().find(|(beginning, _)| name.starts_with(beginning));
        found.map_or(tiles(85, 170), |(_, rule)| *rule)
    }

    /// Tokens of `image`.
    pub(in crate::request) fn tokens(self, image: Image) -> u64 {
        let Image { size: Size { width, height }, detail } = image;
        let (width, height) = (f64::from(width), f64::from(height));
        match self {
            Self::Tiles { base, .. } if detail == Detail::Low => base,
            Self::Tiles { base, tile } => {
                base.saturating_add(tile.saturating_mul(count_tiles(width, height)))
            }
            Self::Patches { high, auto, original, hundredths } => {
                let bounds = match detail {
                    Detail::Low => LOW,
                    Detail::High => high,
                    Detail::Auto => auto,
                    Detail::Original => original,
                };
                count_patches(width, height, bounds).saturating_mul(hundredths).div_ceil(100)
            }
            Self::Claude(bounds) => count_claude_patches(width, height, bounds),
        }
    }
}

/// Squares of 512 pixels, once the image fits a square of 2,048 and its shorter side is at most 768.
fn count_tiles(width: f64, height: f64) -> u64 {
    let scale = (2_048.0 / width.max(height)).min(1.0);
    let scale = scale * (768.0 / (width.min(height) * scale)).min(1.0);
    // Whole pixels: an image of 2,050 x 513 has been billed for one row of tiles.
    count_squares((width * scale).round(), (height * scale).round(), 512.0)
}

/// Squares of 32 pixels, once the image is within `bounds`: OpenAI's formula, which scales down to a whole number of
/// patches along one side.
fn count_patches(width: f64, height: f64, bounds: Bounds) -> u64 {
    let (width, height) = within(width, height, bounds.side);
    let patches = count_squares(width, height, 32.0);
    if patches <= bounds.patches {
        return patches;
    }
    let shrink = (32.0 * 32.0 * bounds.patches as f64 / (width * height)).sqrt();
    let whole = |side: f64| {
        let patches = side * shrink / 32.0;
        if patches < 1.0 { 1.0 } else { patches.floor() / patches }
    };
    let shrink = shrink * whole(width).min(whole(height));
    count_squares(width * shrink, height * shrink, 32.0).min(bounds.patches)
}

/// Squares of 28 pixels, once the image is within `bounds`. Anthropic publishes no formula; its examples are the
/// largest size that fits.
fn count_claude_patches(width: f64, height: f64, bounds: Bounds) -> u64 {
    let (width, height) = within(width, height, bounds.side);
    let count = |scale: f64| count_squares(width * scale, height * scale, 28.0);
    if count(1.0) <= bounds.patches {
        return count(1.0);
    }
    let (mut fits, mut step) = (0.0, 0.5);
    // Halving 40 times finds the scale to far less than a pixel.
    for _ in 0..40 {
        if count(fits + step) <= bounds.patches {
            fits += step;
        }
        step /= 2.0;
    }
    count(fits)
}

/// The sides, scaled down to where the longer one has `side` pixels.
fn within(width: f64, height: f64, side: u32) -> (f64, f64) {
    let scale = (f64::from(side) / width.max(height)).min(1.0);
    (width * scale, height * scale)
}

/// Squares that cover the image. A side that is a whole number of squares but for rounding is that number.
fn count_squares(width: f64, height: f64, square: f64) -> u64 {
    let along = |side: f64| ((side / square - 1e-9).ceil().max(1.0)) as u64;
    along(width).saturating_mul(along(height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(model: &str, width: u32, height: u32, detail: Detail) -> u64 {
        Rule::of(model).tokens(Image { size: Size { width, height }, detail })
    }

    /// The guides' own examples, and prompts whose tokens others have measured.
    #[test]
    fn published_examples_are_matched() {
        use Detail::{Auto, High, Low, Original};
        for (model, width, height, detail, expected) in [
            ("gpt-4o", 1024, 1024, High, 765),
            ("gpt-4o", 2048, 4096, High, 1105),
            ("gpt-4o", 4096, 8192, Low, 85),
            ("gpt-4o", 128, 64, High, 255),
            ("gpt-4o-mini", 128, 64, High, 2833 + 5667),
            ("gpt-4.1", 2049, 513, High, 85 + 8 * 170),
            ("gpt-4.1", 2050, 513, High, 85 + 4 * 170),
            ("o3", 128, 64, High, 225),
            ("gpt-5", 1024, 1024, Auto, 630),
            ("openai/gpt-5-chat-latest", 1024, 1024, Low, 70),
            ("computer-use-preview", 1024, 768, High, 65 + 4 * 129),
            ("gpt-4.1-mini", 1024, 1024, Auto, 1659),
            ("gpt-4.1-mini", 1800, 2400, Auto, 2353),
            ("ft:gpt-4.1-nano:acme::id", 1024, 1024, Auto, 2520),
            ("o4-mini-2025-04-16", 1800, 2400, Low, (12 * 16_u64 * 172).div_ceil(100)),
            ("gpt-5.2", 1800, 2400, Auto, 1452),
            ("gpt-5.4", 1024, 1024, High, 1024),
            ("gpt-5.5", 3200, 3200, Auto, 10_000),
            ("gpt-5.5", 3200, 3200, High, 2500),
            ("gpt-5.4-mini", 3200, 3200, Original, (1521_u64 * 162).div_ceil(100)),
            ("claude-3-opus-20240229", 200, 200, Auto, 64),
            ("claude-sonnet-4-6", 1000, 1000, Auto, 1296),
            // An A4 page at 130 dots an inch becomes 924 x 1307, and a screen of 4K 1456 x 819.
            ("claude-haiku-4-5", 1075, 1520, Auto, 33 * 47),
            ("claude-haiku-4-5", 3840, 2160, Auto, 52 * 30),
            ("anthropic/claude-opus-4.7", 1280, 1600, Auto, 2668),
            ("", 1024, 1024, Auto, 765),
        ] {
            assert_eq!(tokens(model, width, height, detail), expected, "{model} {width}x{height}");
        }
    }

    proptest! {
        #[test]
        fn any_size_has_a_cost_within_the_bounds(
            (_, rule) in prop::sample::select(RULES.to_vec()),
            width in 1..=u32::MAX,
            height in 1..=u32::MAX,
            detail in prop::sample::select(vec![Detail::Auto, Detail::Low, Detail::High, Detail::Original]),
        ) {
            let tokens = rule.tokens(Image { size: Size { width, height }, detail });
            let most = match rule {
                // A side of 2,048 by one of 768 at most.
                Rule::Tiles { base, tile } => base + 8 * tile,
                Rule::Patches { hundredths, .. } => 10_000 * hundredths / 100,
                Rule::Claude(bounds) => bounds.patches,
            };
            prop_assert!((1..=most).contains(&tokens));
        }
    }
}
