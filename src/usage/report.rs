//! The `usage` object, in the names that providers give its members.
//!
//! Names are compared without regard to how they join words: `promptTokens` is `prompt_tokens`. A number that is
//! negative, or no number, is not reported.

use super::bill::{Bill, Numbers};
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// One `usage` object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    numbers: Numbers,
    /// The sum of Anthropic's `iterations`. The numbers beside them leave some out, such as compactions and advisors.
    iterations: Bill,
    /// Whether it breaks off.
    is_cut: bool,
}

impl Report {
    /// Reads the next value of `object`.
    pub(super) fn take<'b, A: MapAccess<'b>>(&mut self, object: &mut A) -> Result<(), A::Error> {
        let read = lenient::offer(object, self);
        self.is_cut |= read.is_err();
        read
    }

    /// Whether it has a number.
    pub(super) fn has_any(&self) -> bool {
        (self.numbers, self.iterations) != (Numbers::default(), Bill::default())
    }

    /// The bill that it adds up to.
    pub(super) fn bill(&self) -> Bill {
        Bill { is_cut: self.is_cut, ..self.numbers.bill().or_more(self.iterations) }
    }
}

impl<'b> Accept<'b> for Report {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "iterations" {
            return lenient::offer(object, &mut Iterations(&mut self.iterations));
        }
        self.numbers.member_as_written(name, object)
    }
}

/// An object with a `usage` in it.
pub(super) struct Within<'r>(pub(super) &'r mut Report);

impl<'b> Accept<'b> for Within<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => self.0.take(object),
            _ => lenient::skip(object),
        }
    }
}

/// A list of `usage` objects that add up.
struct Iterations<'b>(&'b mut Bill);

impl<'b> Accept<'b> for Iterations<'_> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut iteration = Numbers::default();
        let read = lenient::offer_element(array, &mut iteration)?;
        *self.0 = self.0.plus(iteration.bill());
        Ok(read)
    }
}

impl<'b> Accept<'b> for Numbers {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let place = match &*in_snake_case(name) {
            "prompt_tokens" | "prompt_token_count" | "prompt_eval_count" => &mut self.prompt,
            "input_tokens" | "input_token_count" => &mut self.input,
            "completion_tokens"
            | "output_tokens"
            | "output_token_count"
            | "candidates_token_count"
            | "eval_count" => &mut self.output,
            "total_tokens" | "total_token_count" => &mut self.total,
            "cache_read_input_tokens" => &mut self.cache_read,
            "cache_creation_input_tokens" | "cache_write_input_tokens" => &mut self.cache_creation,
            // DeepSeek's, Kimi's, Mistral's and Gemini's.
            "prompt_cache_hit_tokens"
            | "cached_tokens"
            | "num_cached_tokens"
            | "cached_content_token_count" => &mut self.cached,
            "tool_use_prompt_token_count" => &mut self.tool_use,
            "prompt_cache_miss_tokens" => &mut self.not_cached,
            "cache_write_tokens" => &mut self.written,
            "reasoning_tokens" | "thoughts_token_count" => &mut self.reasoning,
            "audio_prompt_tokens" | "prompt_audio_tokens" => &mut self.audio,
            // Perplexity's, which it bills beside the prompt.
            "citation_tokens" => &mut self.beside_prompt,
            "prompt_tokens_details" | "input_tokens_details" | "prompt_token_details" => {
                return lenient::offer(object, &mut OfPrompt(self));
            }
            "completion_tokens_details" | "output_tokens_details" | "completion_token_details" => {
                return lenient::offer(object, &mut OfOutput(self));
            }
            // Some nest the numbers once more, Cohere twice over.
            "usage" | "tokens" | "billed_units" => return lenient::offer(object, self),
            // Anthropic's, by how long the cache keeps it.
            "cache_creation" => return lenient::offer(object, &mut Lifetimes(self)),
            _ => return lenient::skip(object),
        };
        // Of members with one meaning the larger counts.
        *place = lenient::number(object)?.max(*place);
        Ok(())
    }
}

/// The details of the prompt.
struct OfPrompt<'n>(&'n mut Numbers);

impl<'b> Accept<'b> for OfPrompt<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let place = match &*in_snake_case(name) {
            "cached_tokens" => &mut self.0.cached,
            "cache_write_tokens" | "cache_creation_tokens" | "cache_creation_input_tokens" => {
                &mut self.0.written
            }
            "audio_tokens" => &mut self.0.audio,
            _ => return lenient::skip(object),
        };
        *place = lenient::number(object)?.max(*place);
        Ok(())
    }
}

/// The details of the output.
struct OfOutput<'n>(&'n mut Numbers);

impl<'b> Accept<'b> for OfOutput<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match &*in_snake_case(name) {
            "reasoning_tokens" | "thinking_tokens" => {
                self.0.reasoning = lenient::number(object)?.max(self.0.reasoning);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

/// What was written to caches of several lifetimes. It adds up to `cache_creation_input_tokens`, where that is given.
struct Lifetimes<'n>(&'n mut Numbers);

impl<'b> Accept<'b> for Lifetimes<'_> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if !in_snake_case(name).ends_with("input_tokens") {
            return lenient::skip(object);
        }
        if let Some(tokens) = lenient::number(object)? {
            self.0.written_by_lifetime = Some(self.0.written_by_lifetime.unwrap_or(0).saturating_add(tokens));
        }
        Ok(())
    }
}

/// `promptTokens` as `prompt_tokens`.
fn in_snake_case(name: &str) -> Cow<'_, str> {
    if !name.contains(|c: char| c.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    let mut snake = String::with_capacity(name.len().saturating_add(4));
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Cow::Owned(snake)
}
