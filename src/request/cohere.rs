//! Cohere's embeddings, and reranking by anybody: documents by how well they answer a query.
//!
//! Cohere's chats are read as OpenAI's ([`super::chat`]). Whoever bills reranking by tokens reads the query anew with
//! each document (Jina, Voyage, vLLM); Cohere bills searches, and reports no tokens
//! (<https://docs.cohere.com/reference/rerank>).

use super::completions;
use super::content::{Content, Images, Part};
use super::embeddings;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Reads a member of the body of a request for embeddings into `prompt`: `texts`, `images`, or `inputs` with parts.
///
/// # Errors
/// The value is not JSON.
pub(super) fn embed_member<'b, A: MapAccess<'b>>(
    prompt: &mut embeddings::Prompt<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    match name {
        "texts" => prompt.member("input", object),
        "inputs" => {
            let mut inputs = Documents { prompts: 0, content: prompt.content() };
            lenient::offer(object, &mut inputs)?;
            let prompts = inputs.prompts;
            prompt.add_prompts(prompts);
            Ok(())
        }
        "images" => {
            prompt.add_prompts(1);
            lenient::offer(object, &mut Images(prompt.content()))
        }
        "output_dimension" => lenient::skip(object),
        _ => prompt.member(name, object),
    }
}

/// Reads a member of the body of a request to rerank: each of the documents is a prompt with the query.
///
/// # Errors
/// The value is not JSON.
pub(super) fn rerank_member<'b, A: MapAccess<'b>>(
    prompt: &mut completions::Prompt<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    match name {
        "query" => prompt.member("suffix", object),
        // The second is that of Text Embeddings Inference, the third Mixedbread's.
        "documents" | "texts" | "input" => {
            let mut documents = Documents { prompts: 0, content: prompt.content() };
            lenient::offer(object, &mut documents)?;
            let prompts = documents.prompts;
            prompt.add_prompts(prompts);
            Ok(())
        }
        "rank_fields" | "return_documents" => lenient::skip(object),
        _ => prompt.member(name, object),
    }
}

/// Documents or inputs, or the members of one that is an object: its texts and images.
struct Documents<'p, 'b> {
    prompts: u64,
    content: &'p mut Content<'b>,
}

impl<'b> Accept<'b> for Documents<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.prompts = self.prompts.saturating_add(1);
        self.content.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut document = Document(self.content);
        let read = lenient::offer_element(array, &mut document)?;
        self.prompts = self.prompts.saturating_add(u64::from(read.is_some()));
        Ok(read)
    }

    /// One document, or several in its parts (vLLM).
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        Document(self.content).member(name, object)
    }

    fn end(&mut self) {
        self.prompts = self.prompts.saturating_add(1);
    }
}

struct Document<'p, 'b>(&'p mut Content<'b>);

impl<'b> Accept<'b> for Document<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.0.texts.push(text);
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "image" => lenient::offer(object, &mut Images(self.0)),
            "image_url" => {
                let mut part = Part::new(self.0);
                part.member(name, object)?;
                part.end();
                Ok(())
            }
            "content" => lenient::offer(object, self.0),
            // Cohere ranks by whatever fields a document has.
            _ => {
                self.0.texts.extend(lenient::text(object)?);
                Ok(())
            }
        }
    }
}
