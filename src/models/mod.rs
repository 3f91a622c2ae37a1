//! Every table of model names. To support a new model, edit the files here and nothing else.
//!
//! | file | its table, by model | an unknown model |
//! |---|---|---|
//! | `family.rs` | the family, for metrics and for the other tables | is `other` |
//! | `version.rs` | the version, of which the other tables take the newest row that is not after it | is the newest |
//! | `encoding.rs` | the encoding of text: the crate `tiktoken-rs` has the table | has `o200k_base` |
//! | `claude.rs` | the generation of Claude, and the prompt that it has for tools | counts as Claude 5 |
//! | `image.rs` | the rule for images | has patches of 28 pixels |
//! | `document.rs` | what pages and text of documents cost | counts as OpenAI's |
//! | `rules.rs` | factors, what messages, tools and calls cost, what is exact | counts as GPT-4o, and is not exact |
//! | `reasoning.rs` | whether its answers hold reasoning that the client may not see | shows all of its answer |
//!
//! Each file has a test that lists models with their values: add the new model there too, and to `docs/counting.md`.
//! Only `family.rs` spells the names of families; the other tables name a family and spell the rest of a model's name.
//!
//! The tables hold numbers and rules. The arithmetic is in [`crate::tokens`] for text and in [`crate::request`] for
//! prompts and images. Prices are not here: the configuration sets them.

mod claude;
mod document;
mod encoding;
mod family;
mod image;
mod reasoning;
mod rules;
mod version;

pub use claude::Claude;
pub(crate) use document::DocumentRule;
pub use encoding::Encodings;
pub(crate) use family::Family;
#[cfg(test)]
pub(crate) use image::RULES as IMAGE_RULES;
pub(crate) use image::{Bounds, ImageRule};
pub(crate) use reasoning::{never_reasons, reasons, shows_all_reasoning};
pub(crate) use rules::{Rules, Structure};
use version::Version;

use crate::tokens::PromptKind;

/// Whether prompts of this `kind` for `model` are counted exactly.
pub(crate) fn counts_exactly(model: &str, kind: PromptKind) -> bool {
    Rules::of(model).is_exact(kind)
}

/// The model's own name: the part after the last `/`, without the name of a provider or a gateway.
fn without_provider(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, name)| name)
}
