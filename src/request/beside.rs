//! Members of a request that no format here knows by name.
//!
//! Servers put more into a prompt than OpenAI and Anthropic do: documents to answer from, a chat template with values
//! for it, a grammar or a schema for the answer (vLLM, SGLang, llama.cpp, TGI, Cohere, Azure's data sources). Their
//! names change from version to version. So whatever is not known to stay out of the prompt counts as text.

use super::content::Texts;
use super::effort::Efforts;
use super::shape::Shape;
use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Keeps the text of the member `name` of a request, unless it is known to stay out of the prompt.
///
/// # Errors
/// The value is not JSON.
pub(super) fn keep<'b, A: MapAccess<'b>>(
    texts: &mut Texts<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    if stays_out(name) { lenient::skip(object) } else { keep_text(texts, object) }
}

/// The same in a request with messages, of which the member may change the `shape`.
///
/// # Errors
/// The value is not JSON.
pub(super) fn read<'b, A: MapAccess<'b>>(
    shape: &mut Shape,
    texts: &mut Texts<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    if Efforts::may_have(name) {
        let text = lenient::text(object)?;
        text.iter().for_each(|text| shape.efforts.take(text));
        texts.extend(text);
        return Ok(());
    }
    if Efforts::has(name) {
        shape.efforts.take(lenient::raw(object)?);
        return Ok(());
    }
    if adds_to_prompt(name) {
        shape.hides |=
            !matches!(lenient::raw(object)?, "null" | "false" | "[]" | "{}" | "\"\"" | "\"disabled\"");
        return Ok(());
    }
    shape.hides |= matches!(name, "data_sources" | "datasources");
    keep(texts, name, object)
}

/// Members, of those that stay out of the prompt as they are, for which the provider adds to it, or takes from it, what
/// the request does not show.
fn adds_to_prompt(name: &str) -> bool {
    matches!(
        name,
        "connectors"
            | "container"
            | "context_management"
            | "conversation"
            | "conversation_id"
            | "mcp_servers"
            | "plugins"
            | "preset"
            | "previous_response_id"
            | "search_parameters"
            | "search_settings"
            | "transforms"
            | "truncation"
            | "venice_parameters"
            | "web_search_options"
    )
}

/// Keeps the text of a member of a message.
///
/// # Errors
/// The value is not JSON.
pub(super) fn keep_of_message<'b, A: MapAccess<'b>>(
    texts: &mut Texts<'b>,
    name: &str,
    object: &mut A,
) -> Result<(), A::Error> {
    if is_about_message(name) { lenient::skip(object) } else { keep_text(texts, object) }
}

fn keep_text<'b, A: MapAccess<'b>>(texts: &mut Texts<'b>, object: &mut A) -> Result<(), A::Error> {
    texts.extend(lenient::text(object)?);
    Ok(())
}

/// Members that say how to answer, whom to bill or where to run, by the API or server that has them. Those that are
/// always numbers or flags need no place here.
#[rustfmt::skip]
fn stays_out(name: &str) -> bool {
    matches!(
        name,
        // OpenAI, and everybody
        "audio" | "background" | "conversation" | "function_call" | "include" | "logit_bias" | "logprobs" | "metadata"
        | "modalities" | "moderation" | "prediction" | "previous_response_id" | "prompt_cache_key"
        | "prompt_cache_options" | "prompt_cache_retention" | "reasoning" | "reasoning_effort" | "safety_identifier"
        | "service_tier" | "stop" | "tool_choice" | "truncation" | "user" | "verbosity" | "web_search_options"
        | "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "n_predict"
        // Anthropic
        | "anthropic_beta" | "anthropic_version" | "betas" | "cache_control" | "container" | "context_management"
        | "inference_geo" | "mcp_servers" | "speed" | "stop_sequences" | "thinking"
        // embeddings
        | "embedding_types" | "encoding_format" | "input_type" | "output_dtype" | "task" | "truncate"
        // OpenRouter, Groq, Mistral, xAI, Venice, LiteLLM
        | "citation_options" | "extra_headers" | "extra_query" | "plugins" | "preset" | "prompt_mode" | "provider"
        | "reasoning_format" | "route" | "safety_model" | "search_parameters" | "search_settings" | "session_id"
        | "trace" | "transforms" | "usage" | "venice_parameters"
        // vLLM, SGLang, llama.cpp, TGI
        | "adapter_id" | "allowed_token_ids" | "bad_words" | "cache_salt" | "dry_sequence_breakers"
        | "grammar_triggers" | "guided_decoding_backend" | "kv_transfer_params" | "logits_processors" | "lora"
        | "lora_path" | "mm_processor_kwargs" | "preserved_tokens" | "request_id" | "rid" | "samplers"
        | "stop_token_ids" | "vllm_xargs"
        // Cohere
        | "citation_quality" | "connectors" | "conversation_id" | "prompt_truncation" | "safety_mode"
    )
}

/// Members of a message that are about it: ids, states, and what the provider sent with it.
#[rustfmt::skip]
fn is_about_message(name: &str) -> bool {
    matches!(
        name,
        "annotations" | "audio" | "cache_control" | "call_id" | "citations" | "created_at" | "encrypted_content"
        | "finish_reason" | "id" | "logprobs" | "metadata" | "model" | "object" | "parsed" | "phase"
        | "provider_options" | "provider_specific_fields" | "reasoning_details" | "reasoning_id" | "reasoning_opaque"
        | "signature" | "status" | "stop_reason" | "stop_sequence" | "timestamp" | "tool_call_id" | "type" | "usage"
    )
}

/// The reasoning in a message of a chat, which some servers give two names at once. The same text counts once.
#[derive(Default)]
pub(super) struct Reasoning<'b>(pub(super) Texts<'b>);

impl<'b> Accept<'b> for Reasoning<'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        if self.0.last() != Some(&text) {
            self.0.push(text);
        }
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "content" | "text" | "thinking" | "reasoning" | "summary" => lenient::offer(object, self),
            _ => lenient::skip(object),
        }
    }
}
