//! The API endpoint that a path leads to, and the Azure deployment that it names.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// An endpoint of an LLM API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// OpenAI's `/chat/completions`.
    ChatCompletions,
    /// OpenAI's older `/completions`.
    Completions,
    /// OpenAI's `/embeddings`.
    Embeddings,
    /// OpenAI's `/responses`.
    Responses,
    /// Anthropic's `/messages`.
    Messages,
}

impl Endpoint {
    /// The endpoint of `path`, by its last segments. The path may have any prefix and a query. None for paths that are
    /// not limited.
    pub fn from_path(path: &str) -> Option<Self> {
        let path = decoded(path);
        let mut segments = path.split('/').rev().filter(|segment| !segment.is_empty());
        match (segments.next()?, segments.next()) {
            ("completions", Some("chat")) => Some(Self::ChatCompletions),
            ("completions", _) => Some(Self::Completions),
            ("embeddings", _) => Some(Self::Embeddings),
            ("responses", _) => Some(Self::Responses),
            ("messages", _) => Some(Self::Messages),
            _ => None,
        }
    }
}

/// The deployment that `path` names: Azure's `/openai/deployments/{name}/…`, after any prefix.
pub fn deployment(path: &str) -> Option<String> {
    let path = decoded(path);
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    while let Some(segment) = segments.next() {
        if segment == "openai" && segments.clone().next() == Some("deployments") {
            return segments.nth(1).map(str::to_owned);
        }
    }
    None
}

/// The path, decoded and without its query. Many servers decode paths, so encoding a path must not evade a limit.
fn decoded(path: &str) -> Cow<'_, str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    percent_decode_str(path).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_paths_name_deployments() {
        for (path, name) in [
            ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", Some("gpt-4o")),
            ("/azure//openai/deployments/my%20model/embeddings", Some("my model")),
            ("/openai/deployments", None),
            ("/openai/v1/responses", None),
            ("/deployments/gpt-4o/chat/completions", None),
            ("", None),
        ] {
            assert_eq!(deployment(path).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn the_end_of_a_path_determines_its_endpoint() {
        for (path, endpoint) in [
            ("/v1/chat/completions", Some(Endpoint::ChatCompletions)),
            ("/chat/completions", Some(Endpoint::ChatCompletions)),
            (
                "/openai/deployments/gpt-4/chat/completions?api-version=2024-06-01",
                Some(Endpoint::ChatCompletions),
            ),
            ("/openai/v1/responses?api-version=preview", Some(Endpoint::Responses)),
            ("/v1/chat/completions/", Some(Endpoint::ChatCompletions)),
            ("/v1//chat//completions", Some(Endpoint::ChatCompletions)),
            ("/v1/%63hat/completion%73", Some(Endpoint::ChatCompletions)),
            ("/v1/chat%2Fcompletions", Some(Endpoint::ChatCompletions)),
            ("/v1/completions", Some(Endpoint::Completions)),
            ("/v1/embeddings?x=/chat/completions", Some(Endpoint::Embeddings)),
            ("/v1/responses", Some(Endpoint::Responses)),
            ("/anthropic/v1/messages", Some(Endpoint::Messages)),
            ("/v1/messages/count_tokens", None),
            ("/v1/responses/resp_1", None),
            ("/v1/models", None),
            ("/mychat/incompletions", None),
            ("/", None),
            ("", None),
            ("%FF%", None),
        ] {
            assert_eq!(Endpoint::from_path(path), endpoint, "{path}");
        }
    }
}
