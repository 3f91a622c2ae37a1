//! The endpoints besides chat completions: the filter counts their prompts and charges their answers by the usage that
//! they report.

use crate::caller::Answer;
use crate::gateway::{STRANGER_TOKENS, Store};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::completions("/v1/completions", json!({"prompt": "Hello!", "max_tokens": 30}))]
#[case::completions_of_azure(
    "/any/openai/deployments/gpt-4o/completions?api-version=2024-10-21",
    json!({"prompt": ["Hello!"], "max_tokens": 30})
)]
#[case::completions_streamed(
    "/a/prefix/v1/completions",
    json!({"prompt": "Hello!", "max_tokens": 30, "stream": true, "stream_options": {"include_usage": true}})
)]
#[case::embeddings("/v1/embeddings", json!({"input": "Hello!"}))]
#[case::embeddings_of_azure(
    "/openai/deployments/embed/embeddings?api-version=2024-10-21",
    json!({"input": [[1, 2]]})
)]
#[case::responses("/v1/responses", json!({"input": "Hello!", "max_output_tokens": 30}))]
#[case::responses_streamed(
    "/a/prefix/v1/responses",
    json!({"input": "Hello!", "max_output_tokens": 30, "stream": true})
)]
#[case::messages(
    "/v1/messages",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30})
)]
#[case::messages_streamed(
    "/anthropic/v1/messages",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30, "stream": true})
)]
#[case::gemini(
    "/v1beta/models/gemini-2.5-flash:generateContent",
    json!({"contents": [{"parts": [{"text": "Hello!"}]}], "generationConfig": {"maxOutputTokens": 30}})
)]
#[case::gemini_in_events(
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    json!({"contents": [{"parts": [{"text": "Hello!"}]}], "generationConfig": {"maxOutputTokens": 30}})
)]
#[case::gemini_in_an_array(
    "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:streamGenerateContent",
    json!({"contents": [{"parts": [{"text": "Hello!"}]}], "generationConfig": {"maxOutputTokens": 30}})
)]
#[case::claude_on_vertex(
    "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5:rawPredict",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30})
)]
#[case::compact("/v1/responses/compact", json!({"input": "Hello!", "max_output_tokens": 30}))]
#[case::mistrals_fim("/v1/fim/completions", json!({"prompt": "Hello!", "max_tokens": 30}))]
#[case::mistrals_agents(
    "/v1/agents/completions",
    json!({"agent_id": "a", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30})
)]
#[case::ollamas_chat(
    "/api/chat",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "options": {"num_predict": 30}})
)]
#[case::ollamas_chat_whole(
    "/ollama/api/chat",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "options": {"num_predict": 30}, "stream": false})
)]
#[case::ollamas_generation("/api/generate", json!({"prompt": "Hello!", "options": {"num_predict": 30}}))]
#[case::coheres_chat(
    "/v2/chat",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30})
)]
#[case::coheres_chat_streamed(
    "/cohere/v2/chat",
    json!({"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 30, "stream": true})
)]
#[case::coheres_embed("/v2/embed", json!({"texts": ["Hello!"], "input_type": "search_query"}))]
#[case::rerank("/v2/rerank", json!({"query": "Hello!", "documents": ["Hello!"]}))]
#[tokio::test]
async fn an_endpoint_is_counted_before_and_charged_after(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] path: &str,
    #[case] mut body: Value,
) {
    let gateway = store.gateway().await;
    let key = format!("endpoints-{path}");
    let has_output = !["embed", "rerank"].iter().any(|part| path.contains(part));
    body["model"] = json!("gpt-4o");
    let request = gateway.caller(&key).request(Method::POST, path).json(&body);
    let request = request.header("x-mock-prompt-tokens", "37").header("x-mock-completion-tokens", "11");
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let remaining = |what: &str| {
        let name = if path.ends_with("messages") || path.contains("anthropic/models") {
            format!("anthropic-ratelimit-{what}-tokens-remaining")
        } else {
            format!("x-ratelimit-remaining-{what}-tokens")
        };
        STRANGER_TOKENS - answer.number(&name)
    };
    let estimated = remaining("input");
    assert!((2..20).contains(&estimated), "{estimated} tokens of Hello!");
    assert_eq!(remaining("output"), if has_output { 30 } else { 0 });
    gateway.charged(&key, 1, 37, if has_output { 11 } else { 0 }).await;
}

/// Gemini does not say what embeddings have used.
#[rstest]
#[case::one("embedContent", json!({"content": {"parts": [{"text": "Hello!"}]}}), 2)]
#[case::several(
    "batchEmbedContents",
    json!({"requests": [
        {"content": {"parts": [{"text": "Hello!"}]}},
        {"content": {"parts": [{"text": "Hello!"}]}},
    ]}),
    4
)]
#[tokio::test]
async fn embeddings_without_usage_are_charged_as_counted(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] action: &str,
    #[case] body: Value,
    #[case] tokens: u64,
) {
    let gateway = store.gateway().await;
    let path = format!("/v1beta/models/gemini-embedding-001:{action}");
    let answer = Answer::to(gateway.caller(action).request(Method::POST, &path).json(&body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.charged(action, 1, tokens, 0).await;
}
