//! The tokens of an image: tiles and patches, by the published rules.
//!
//! [`crate::models`] has each model's rule, and the sources of the rules.

use super::{Detail, Image, Size};
use crate::models::{Bounds, ImageRule};
use crate::quantity::Units;

/// Tokens of an image beside its patches, as recorded usage shows: of OpenAI's models, and of Claude.
const PATCHES_EACH: u64 = 1;
const CLAUDE_EACH: u64 = 4;

/// The most patches of an image that is scaled to whole ones.
const MAX_SCALED: u64 = 16_384;

/// The sides of a canvas's tiles in pixels, the most tiles, and the tokens beside them.
const CANVAS_TILE: u32 = 336;
const MAX_CANVAS: u32 = 16;
const CANVAS_EACH: u64 = 2;

/// The most crops of an image.
const MAX_CROPS: u64 = 7;

impl Image {
    /// Its tokens, by the rule of its model, in the detail that costs most.
    pub(in crate::request) fn tokens(self, rule: ImageRule) -> Units {
        let tokens = |detail| match self.size {
            Some(size) => size.tokens(detail, rule),
            None => most(detail, rule),
        };
        self.details.iter().map(tokens).max().unwrap_or_default()
    }
}

/// The most tokens of any image in `detail`.
fn most(detail: Detail, rule: ImageRule) -> Units {
    // The dearest sizes: two by four tiles, and as many patches or crops as there may be.
    let size = match rule {
        ImageRule::Tiles { .. } => Size { width: 2_048, height: 768 },
        ImageRule::Claude(bounds) => return Units::new(bounds.patches.saturating_add(CLAUDE_EACH)),
        ImageRule::Patches { .. } | ImageRule::Crops(_) | ImageRule::Rows(_) => {
            Size { width: 1 << 14, height: 1 << 14 }
        }
        ImageRule::Scaled { each, .. } => return Units::new(MAX_SCALED.saturating_add(each)),
        ImageRule::Canvas(_) => Size { width: CANVAS_TILE * MAX_CANVAS, height: 1 },
    };
    size.tokens(detail, rule)
}

impl Size {
    fn tokens(self, detail: Detail, rule: ImageRule) -> Units {
        let Self { width, height } = self;
        let (width, height) = (f64::from(width), f64::from(height));
        match rule {
            ImageRule::Tiles { base, .. } if detail == Detail::Low => Units::new(base),
            ImageRule::Tiles { base, tile } => {
                Units::new(base) + Units::new(tile) * count_tiles(width, height)
            }
            ImageRule::Patches { low, high, auto, original, hundredths } => {
                let bounds = match detail {
                    Detail::Low => low,
                    Detail::High => high,
                    Detail::Auto => auto,
                    Detail::Original => original,
                };
                let patches = Units::new(count_patches(width, height, bounds));
                Units::new((patches * hundredths).get().div_ceil(100).saturating_add(PATCHES_EACH))
            }
            ImageRule::Claude(bounds) => {
                Units::new(count_claude_patches(width, height, bounds).saturating_add(CLAUDE_EACH))
            }
            ImageRule::Crops(crop) => Units::new(crop) * count_crops(width, height),
            ImageRule::Scaled { side, least, each } => {
                Units::new(count_scaled(width, height, side.into(), least).saturating_add(each))
            }
            ImageRule::Rows(bounds) => {
                let (width, height) = within(width, height, bounds.side);
                let (patches, rows) = (count_squares(width, height, 28.0), count_squares(28.0, height, 28.0));
                Units::new(patches.saturating_add(rows).saturating_add(1))
            }
            ImageRule::Canvas(tile) => {
                let tiles = self.canvas_tiles();
                let whole = u64::from(tiles > 1);
                Units::new(tile) * tiles.saturating_add(whole) + Units::new(CANVAS_EACH)
            }
        }
    }

    /// The tiles of the canvas that the image fits best: the smallest on which it need not shrink, or else the one on
    /// which it shrinks least, and of several like that the one with the fewest tiles.
    fn canvas_tiles(self) -> u64 {
        let tile = u64::from(CANVAS_TILE);
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let sides = (1..=u64::from(MAX_CANVAS))
            .flat_map(|columns| (1..=u64::from(MAX_CANVAS) / columns).map(move |rows| (columns, rows)));
        let scale = |(columns, rows): (u64, u64)| {
            let (across, down) =
                ((columns * tile) as f64 / width as f64, (rows * tile) as f64 / height as f64);
            across.min(down)
        };
        let better = |one: (u64, u64), other: (u64, u64)| {
            let (of_one, of_other) = (scale(one), scale(other));
            let fewer = one.0 * one.1 < other.0 * other.1;
            match (of_one >= 1.0, of_other >= 1.0) {
                (true, true) => of_one < of_other || (of_one <= of_other && fewer),
                (false, false) => of_one > of_other || (of_one >= of_other && fewer),
                (grows, _) => grows,
            }
        };
        let best = sides.reduce(|best, next| if better(next, best) { next } else { best });
        best.map_or(1, |(columns, rows)| columns * rows)
    }
}

/// Patches with sides of `side` pixels, each side of the image rounded to whole ones; at least `least` of them, and at
/// most [`MAX_SCALED`].
fn count_scaled(width: f64, height: f64, side: f64, least: u64) -> u64 {
    let (width, height) = (width / side, height / side);
    let patches = |scale: f64, round: fn(f64) -> f64| {
        let along = |length: f64| round(length * scale).max(1.0) as u64;
        along(width).saturating_mul(along(height))
    };
    let rounded = patches(1.0, f64::round_ties_even);
    let to = |patches: u64| (patches as f64 / (width * height)).sqrt();
    if rounded > MAX_SCALED {
        patches(to(MAX_SCALED), f64::floor).min(MAX_SCALED)
    } else if rounded < least {
        patches(to(least), f64::ceil).min(MAX_SCALED)
    } else {
        rounded
    }
}

/// Crops of two thirds of the shorter side, of 256 to 768 pixels.
fn count_crops(width: f64, height: f64) -> u64 {
    if width.max(height) <= 384.0 {
        return 1;
    }
    let crop = (width.min(height) / 1.5).floor().clamp(256.0, 768.0);
    count_squares(width, height, crop).min(MAX_CROPS)
}

/// Squares of 512 pixels, once the image fits a square of 2,048 and its shorter side is at most 768.
fn count_tiles(width: f64, height: f64) -> u64 {
    let scale = (2_048.0 / width.max(height)).min(1.0);
    let scale = scale * (768.0 / (width.min(height) * scale)).min(1.0);
    // Whole pixels: OpenAI has charged one row of tiles for an image of 2,050 x 513.
    count_squares((width * scale).round(), (height * scale).round(), 512.0)
}

/// Squares of 32 pixels, once the image is within `bounds`: OpenAI's formula, which scales an image down to a whole
/// number of patches along one side.
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

/// Squares of 28 pixels, once the image is within `bounds`. Anthropic publishes no formula; in its examples, images are
/// scaled down to the largest size that fits.
fn count_claude_patches(width: f64, height: f64, bounds: Bounds) -> u64 {
    let (width, height) = within(width, height, bounds.side);
    let count = |scale: f64| count_squares(width * scale, height * scale, 28.0);
    if count(1.0) <= bounds.patches {
        return count(1.0);
    }
    let (mut fits, mut step) = (0.0, 0.5);
    // Halving 40 times finds the scale with an error of far less than a pixel.
    for _ in 0..40 {
        if count(fits + step) <= bounds.patches {
            fits += step;
        }
        step /= 2.0;
    }
    count(fits)
}

/// The sides, scaled down until the longer one has at most `side` pixels.
fn within(width: f64, height: f64, side: u32) -> (f64, f64) {
    let scale = (f64::from(side) / width.max(height)).min(1.0);
    (width * scale, height * scale)
}

/// Squares that cover the image. A side that exceeds a whole number of squares by a rounding error has that number.
fn count_squares(width: f64, height: f64, square: f64) -> u64 {
    // Sides have at most 32 bits, so that the product has at most 64.
    let along = |side: f64| ((side / square - 1e-9).ceil().max(1.0)) as u64;
    along(width) * along(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::IMAGE_RULES;
    use crate::request::image::Details;
    use proptest::prelude::*;

    fn tokens(model: &str, width: u32, height: u32, detail: Detail) -> u64 {
        let mut details = Details::default();
        details.add(detail);
        Image { size: Some(Size { width, height }), details }.tokens(ImageRule::of(model)).get()
    }

    /// The guides' own examples, and prompts with measured token counts.
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
            ("gpt-4.1-mini", 1024, 1024, Auto, 1659 + 1),
            ("gpt-4.1-mini", 1800, 2400, Auto, 2353 + 1),
            ("ft:gpt-4.1-nano:acme::id", 1024, 1024, Auto, 2520 + 1),
            ("o4-mini-2025-04-16", 1800, 2400, Low, (12 * 16_u64 * 172).div_ceil(100) + 1),
            ("gpt-5.2", 1800, 2400, Auto, 1452 + 1),
            ("gpt-5.4", 1024, 1024, High, 1024 + 1),
            ("gpt-5.5", 3200, 3200, Auto, 10_000 + 1),
            ("gpt-5.5", 3200, 3200, High, 2500 + 1),
            ("gpt-5.4-mini", 3200, 3200, Original, (1521_u64 * 162).div_ceil(100) + 1),
            ("claude-3-opus-20240229", 200, 200, Auto, 64 + 4),
            ("claude-sonnet-4-6", 1000, 1000, Auto, 1296 + 4),
            // An A4 page at 130 dots per inch becomes 924 x 1307, and a 4K screen 1456 x 819.
            ("claude-haiku-4-5", 1075, 1520, Auto, 33 * 47 + 4),
            ("claude-haiku-4-5", 3840, 2160, Auto, 52 * 30 + 4),
            ("anthropic/claude-opus-4.7", 1280, 1600, Auto, 2668 + 4),
            ("gpt-5-mini", 1024, 1024, Auto, (1024_u64 * 120).div_ceil(100) + 1),
            ("gemini-2.5-flash", 300, 384, Auto, 258),
            ("gemini-2.5-flash", 960, 540, Auto, 6 * 258),
            ("mistral-small", 64, 64, Auto, 9 + 4),
            ("", 1024, 1024, Auto, 37 * 37 + 4),
        ] {
            assert_eq!(tokens(model, width, height, detail), expected, "{model} {width}x{height}");
        }
    }

    #[test]
    fn of_several_details_the_dearest_counts() {
        let mut details = Details::default();
        let size = Size { width: 1024, height: 1024 };
        let mut add = |detail| {
            details.add(detail);
            Image { size: Some(size), details }.tokens(ImageRule::of("gpt-4o")).get()
        };
        assert_eq!([add(Detail::Low), add(Detail::High), add(Detail::Low)], [85, 765, 765]);
    }

    proptest! {
        #[test]
        fn any_size_has_a_cost_within_the_bounds(
            (_, _, _, rule) in prop::sample::select(IMAGE_RULES.to_vec()),
            width in 1..=u32::MAX,
            height in 1..=u32::MAX,
            detail in prop::sample::select(vec![Detail::Auto, Detail::Low, Detail::High, Detail::Original]),
        ) {
            let tokens = Size { width, height }.tokens(detail, rule).get();
            let max = match rule {
                // A side of 2,048 by one of 768 at most.
                ImageRule::Tiles { base, tile } => base + 8 * tile,
                ImageRule::Patches { hundredths, .. } => 10_000 * hundredths / 100 + PATCHES_EACH,
                ImageRule::Claude(bounds) => bounds.patches + CLAUDE_EACH,
                ImageRule::Crops(crop) => MAX_CROPS * crop,
                ImageRule::Scaled { each, .. } => MAX_SCALED + each,
                ImageRule::Rows(bounds) => bounds.patches + 55 + 1,
                ImageRule::Canvas(tile) => 17 * tile + CANVAS_EACH,
            };
            let most = match rule {
                ImageRule::Patches { .. } => max,
                _ => most(detail, rule).get(),
            };
            prop_assert!(tokens <= most);
            prop_assert!((1..=max).contains(&tokens));
        }
    }
}
