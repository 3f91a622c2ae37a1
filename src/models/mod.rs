//! Every table of model names. To support a new model, edit the files here and nothing else.
//!
//! | what is new | where | if the table does not know the model |
//! |---|---|---|
//! | a family, by the beginning of its models' names | [`Family`] | `other` in metrics |
//! | the encoding of its text | the crate `tiktoken-rs`, see `encoding.rs` | `o200k_base` |
//! | the factor that corrects a count of its text, a generation of Claude | [`Claude`] | 1 |
//! | what its images cost | [`ImageRule`] | as for GPT-4o |
//! | what its messages and tools cost beside their text | [`MessageTokens`], [`ToolTokens`] | as for GPT-4o |
//!
//! Each file has a test that lists models with their values: add the new model there, and its row to
//! `docs/counting.md`. The names of families are written in [`Family`] only; the other tables refer to a family and
//! write what follows its name.
//!
//! The tables hold numbers and rules. The arithmetic on them is in [`crate::tokens`] for text and in
//! [`crate::request`] for prompts and images. Prices are not here: the configuration sets them.

mod claude;
mod encoding;
mod family;
mod image;
mod prompt;

pub use claude::Claude;
pub use encoding::Encodings;
pub(crate) use family::Family;
#[cfg(test)]
pub(crate) use image::RULES as IMAGE_RULES;
pub(crate) use image::{Bounds, ImageRule};
pub(crate) use prompt::{CLAUDE_TOOLS_PROMPT, MessageTokens, ToolTokens};

/// The model's own name, without the name of a provider or a gateway before it: the part after the last `/`.
fn without_provider(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(_, name)| name)
}
