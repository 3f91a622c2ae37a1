//! Ollama's own API: chats, and completions that it calls generation (<https://docs.ollama.com/api/chat>).
//!
//! A chat is as OpenAI's, but that its images are bare data and its options in an object of their own. A schema in
//! `format` limits what the model may say and is in no prompt. A generation goes on from the token ids in `context`.

use super::content::Images;
use super::conversation::Conversation;
use super::{chat, completions};
use crate::codec::lenient;
use serde::de::MapAccess;

/// Reads a member of a chat's body into `prompt`.
///
/// # Errors
/// The value is not JSON.
pub(super) fn chat_member<'b, A: MapAccess<'b>>(
    prompt: &mut Conversation<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    match name {
        "think" => {
            prompt.shape.efforts.take(lenient::raw(object)?);
            Ok(())
        }
        _ if stays_out(name) => lenient::skip(object),
        _ => chat::member(prompt, name, object),
    }
}

/// Reads a member of a generation's body into `prompt`. A system prompt and a template are texts beside the prompt.
///
/// # Errors
/// The value is not JSON.
pub(super) fn generate_member<'b, A: MapAccess<'b>>(
    prompt: &mut completions::Prompt<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    match name {
        "images" => lenient::offer(object, &mut Images(prompt.content())),
        "context" => prompt.take_ids(object),
        "think" => lenient::skip(object),
        _ if stays_out(name) => lenient::skip(object),
        _ => prompt.member(name, object),
    }
}

/// Members that say how to answer and are in no prompt.
fn stays_out(name: &str) -> bool {
    matches!(name, "format" | "keep_alive" | "raw")
}
