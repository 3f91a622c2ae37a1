//! Where responses say what they cost and how they ended: the members that count in an event or a body that is too
//! large to be read whole.

use crate::codec::outline::Places;

/// The members of events and bodies of every format.
pub const PLACES: Places = Places {
    vital: &[
        "usage",
        // Gemini's.
        "usageMetadata",
        // Ollama's.
        "prompt_eval_count",
        "eval_count",
        // Cohere's, of embeddings and of reranking.
        "meta.billed_units",
        "meta.tokens",
        // Groq's.
        "x_groq.usage",
        // Kimi's, and those of some gateways.
        "choices.usage",
        "choices.delta.usage",
        "choices.message.usage",
        "delta.usage",
        "response.usage",
        "message.usage",
    ],
    others: &[
        "type",
        "object",
        "status",
        "done",
        "error",
        "errors",
        "success",
        "base_resp.status_code",
        "index",
        "delta.stop_reason",
        "choices.index",
        "choices.finish_reason",
        "choices.error",
        "candidates.index",
        "candidates.finishReason",
        "response.status",
        "response.error",
        "x_groq.error",
    ],
};
