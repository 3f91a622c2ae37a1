//! The API endpoint that a path leads to, and the model that it names.

use super::action::{self, Action};
use super::path::Reading;
use crate::codec::name;
use crate::policy::Candidates;

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
    /// Google's `:generateContent` and `:streamGenerateContent`.
    Gemini,
    /// Google's `:embedContent` and `:batchEmbedContents`.
    GeminiEmbeddings,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/generate`.
    OllamaGenerate,
    /// Cohere's `/v2/chat`.
    CohereChat,
    /// Cohere's `/v2/embed`.
    CohereEmbed,
    /// `/rerank`, of Cohere, Jina and others.
    Rerank,
    /// An endpoint whose bodies have no format that the filter knows.
    Other(Api),
}

/// The API that an endpoint belongs to, as far as errors and headers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's, and every API that has its errors.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Google's.
    Google,
    /// Ollama's.
    Ollama,
    /// Cohere's.
    Cohere,
}

impl Endpoint {
    /// The endpoint whose format the end of a path names. None if it names none.
    pub fn of(path: &Reading) -> Option<Self> {
        match Action::of(path) {
            Some(Action::Generate) => return Some(Self::Gemini),
            Some(Action::Embed) => return Some(Self::GeminiEmbeddings),
            Some(Action::Anthropic) => return Some(Self::Messages),
            Some(Action::Mistral) => return Some(Self::ChatCompletions),
            Some(Action::Count | Action::Other) => return None,
            None => {}
        }
        let mut segments = path.segments().rev();
        let last = segments.next()?;
        // Some servers take an extension at the end for a choice of format.
        let last = last.split('.').next().unwrap_or(last);
        match (last, segments.next(), segments.next()) {
            // Mistral's agents are asked like its models.
            ("completions", Some("chat" | "agents"), _) => Some(Self::ChatCompletions),
            ("completions", _, _) => Some(Self::Completions),
            ("chat", Some("api"), _) => Some(Self::OllamaChat),
            ("chat", Some("v2"), _) => Some(Self::CohereChat),
            ("embed", Some("v1" | "v2"), _) => Some(Self::CohereEmbed),
            ("rerank" | "reranking", _, _) => Some(Self::Rerank),
            ("generate", Some("api"), _) => Some(Self::OllamaGenerate),
            // Ollama's embeddings are asked for like OpenAI's.
            ("embeddings", _, _) | ("embed", Some("api"), _) => Some(Self::Embeddings),
            ("responses", _, _) | ("compact", Some("responses"), _) => Some(Self::Responses),
            // OpenAI's messages in a thread are no prompt yet.
            ("messages", Some(_), Some("threads")) => None,
            ("messages", _, _) => Some(Self::Messages),
            _ => None,
        }
    }

    /// The endpoint of `path` if bodies are not read in its format.
    pub fn other(path: &Reading) -> Self {
        if let Some(endpoint) = Self::of(path) {
            return Self::Other(endpoint.api());
        }
        let is_anthropic = |(segment, next): (&str, &str)| {
            segment == "anthropic" || (segment == "messages" && matches!(next, "count_tokens" | "batches"))
        };
        let mut pairs = path.segments().zip(path.segments().skip(1));
        Self::Other(match () {
            () if action::is_googles(path) => Api::Google,
            () if pairs.any(is_anthropic) => Api::Anthropic,
            () => Api::OpenAi,
        })
    }

    /// This endpoint, or the one beside it that `path` leads to: one name in the configuration stands for all that
    /// Gemini's API generates and embeds.
    pub fn at(self, path: &Reading) -> Self {
        match self {
            Self::Gemini if Action::of(path) == Some(Action::Embed) => Self::GeminiEmbeddings,
            _ => self,
        }
    }

    /// Whether one request of `path` leads to free counting of tokens.
    pub fn counts_tokens(path: &Reading) -> bool {
        Action::of(path) == Some(Action::Count)
    }

    /// The API that it belongs to.
    pub const fn api(self) -> Api {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Embeddings | Self::Responses => Api::OpenAi,
            Self::Messages => Api::Anthropic,
            Self::Gemini | Self::GeminiEmbeddings => Api::Google,
            Self::OllamaChat | Self::OllamaGenerate => Api::Ollama,
            Self::CohereChat | Self::CohereEmbed | Self::Rerank => Api::Cohere,
            Self::Other(api) => api,
        }
    }

    /// Whether the filter knows the format of its bodies.
    pub const fn has_format(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether its answers have output tokens, as far as the filter knows.
    pub const fn has_output(self) -> bool {
        self.has_format()
            && !matches!(self, Self::Embeddings | Self::GeminiEmbeddings | Self::CohereEmbed | Self::Rerank)
    }

    /// Whether its answers are streams unless a request says otherwise.
    pub(super) const fn streams_by_default(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaGenerate)
    }

    /// The number of segments that name it at the end of a path.
    const fn segments(self) -> usize {
        match self {
            Self::ChatCompletions
            | Self::OllamaChat
            | Self::OllamaGenerate
            | Self::CohereChat
            | Self::CohereEmbed => 2,
            Self::Completions | Self::Embeddings | Self::Responses | Self::Messages | Self::Rerank => 1,
            Self::Gemini | Self::GeminiEmbeddings | Self::Other(_) => 0,
        }
    }
}

/// The model that `path`, which leads to `endpoint`, names: Azure's `/openai/deployments/{name}/…` or the older
/// `/engines/{name}/…`, after any prefix. In gateways that name models in this way, a name may have slashes. Azure's
/// chats over one's own data had `extensions` between the name and the endpoint. Google's paths name it before their
/// action.
///
/// A name that is too long to be kept may be any model's.
pub fn deployment(path: &Reading, endpoint: Endpoint) -> Option<Candidates> {
    if let Some(model) = action::model(path) {
        return Some(named(model));
    }
    let ends_with_endpoint = Endpoint::of(path) == Some(endpoint);
    let mut before = "";
    let names = path.segments().position(|segment| {
        let is_azure = before == "openai" && segment == "deployments";
        before = segment;
        // A gateway may have removed the beginning of the path.
        is_azure || (matches!(segment, "deployments" | "engines") && ends_with_endpoint)
    })?;
    let rest: Vec<_> = path.written().skip(names.saturating_add(1)).collect();
    let length = if ends_with_endpoint { rest.len().saturating_sub(endpoint.segments()) } else { 1 };
    let name = rest.get(..length)?;
    let name = match name {
        [name @ .., last] if !name.is_empty() && last.eq_ignore_ascii_case("extensions") => name,
        _ => name,
    };
    if name.is_empty() {
        return None;
    }
    Some(named(name.join("/")))
}

fn named(name: String) -> Candidates {
    let (name, is_cut) = name::harmless_part(name.into());
    let name = name.into_owned();
    if is_cut { Candidates::Any(vec![name]) } else { Candidates::One(name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::path::readings;

    fn reading(path: &str) -> Reading {
        readings(path).remove(0)
    }

    #[test]
    fn some_paths_name_models() {
        for (path, name) in [
            ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", Some("gpt-4o")),
            ("/azure//openai/deployments/my%20model/embeddings", Some("my model")),
            ("/OpenAI/Deployments/My-GPT/Chat/Completions", Some("My-GPT")),
            ("/openai/deployments/openai/gpt-4o/chat/completions", Some("openai/gpt-4o")),
            ("/openai/deployments/dear/cheap/%2e%2e/chat/completions", Some("dear")),
            ("/openai/deployments/gpt-4o/extensions/chat/completions?api-version=2023-12-01", Some("gpt-4o")),
            ("/openai/deployments/extensions/chat/completions", Some("extensions")),
            ("/openai/deployments/gpt%2D4o;x=y//chat/completions/", Some("gpt-4o")),
            ("/openai/deployments/whisper/audio/transcriptions", Some("whisper")),
            ("/openai/deployments/chat/completions", None),
            ("/openai/deployments/gpt-image-1/images/generations", Some("gpt-image-1")),
            ("/deployments/o1/chat/completions", Some("o1")),
            ("/apim/deployments/o1/embeddings", Some("o1")),
            ("/deployments/o1/restart", None),
            ("/v1/engines/davinci/completions", Some("davinci")),
            ("/v1/engines/davinci/search", None),
            ("/openai/deployments", None),
            ("/openai/v1/responses", None),
            ("", None),
        ] {
            let path = &reading(path);
            let endpoint = Endpoint::of(path).unwrap_or(Endpoint::other(path));
            let name = name.map(|name| Candidates::One(name.to_owned()));
            assert_eq!(deployment(path, endpoint), name, "{path:?}");
        }
        let long = format!("/openai/deployments/{}/o3/chat/completions", "x".repeat(300));
        let cut = Candidates::Any(vec!["x".repeat(256)]);
        assert_eq!(deployment(&reading(&long), Endpoint::ChatCompletions), Some(cut));
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
            ("/v1/Chat/Completions", Some(Endpoint::ChatCompletions)),
            ("/v1/chat/completions.json", Some(Endpoint::ChatCompletions)),
            ("/v1/completions", Some(Endpoint::Completions)),
            ("/v1/embeddings?x=/chat/completions", Some(Endpoint::Embeddings)),
            ("/v1/responses", Some(Endpoint::Responses)),
            ("/anthropic/v1/messages", Some(Endpoint::Messages)),
            ("/v1/threads/messages", Some(Endpoint::Messages)),
            ("/threads/acme/v1/messages", Some(Endpoint::Messages)),
            ("/v1/threads/thread_1/messages", None),
            ("/openai/threads/thread_1/messages/?api-version=1", None),
            ("/v1/messages/count_tokens", None),
            ("/v1/responses/resp_1", None),
            ("/v1/responses/compact", Some(Endpoint::Responses)),
            ("/v1/fim/completions", Some(Endpoint::Completions)),
            ("/v1/agents/completions", Some(Endpoint::ChatCompletions)),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4-5:rawPredict",
                Some(Endpoint::Messages),
            ),
            ("/v1/publishers/anthropic/models/count-tokens:rawPredict", None),
            ("/v1/models", None),
            ("/v1beta/models/gemini-2.5-flash:generateContent", Some(Endpoint::Gemini)),
            ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", Some(Endpoint::Gemini)),
            ("/v1beta/models/gemini-embedding-001:embedContent", Some(Endpoint::GeminiEmbeddings)),
            ("/v1beta/models/gemini-2.5-flash:countTokens", None),
            ("/v1beta/openai/chat/completions", Some(Endpoint::ChatCompletions)),
            ("/api/chat", Some(Endpoint::OllamaChat)),
            ("/ollama/api/generate", Some(Endpoint::OllamaGenerate)),
            ("/api/embed", Some(Endpoint::Embeddings)),
            ("/v2/chat", Some(Endpoint::CohereChat)),
            ("/cohere/v2/embed", Some(Endpoint::CohereEmbed)),
            ("/v2/rerank", Some(Endpoint::Rerank)),
            ("/v1/rerank", Some(Endpoint::Rerank)),
            ("/v1/reranking", Some(Endpoint::Rerank)),
            ("/rerank", Some(Endpoint::Rerank)),
            ("/v1/chat", None),
            ("/chat", None),
            ("/v1/generate", None),
            ("/mychat/incompletions", None),
            ("/", None),
            ("", None),
            ("%FF%", None),
        ] {
            assert_eq!(Endpoint::of(&reading(path)), endpoint, "{path}");
        }
    }

    #[test]
    fn the_api_of_any_path_is_known_by_its_segments() {
        for (path, api) in [
            ("/v1/messages/count_tokens", Api::Anthropic),
            ("/v1/messages/batches/b1/cancel", Api::Anthropic),
            ("/anthropic/v1/files", Api::Anthropic),
            ("/v1/threads/t/messages", Api::OpenAi),
            ("/v1/files", Api::OpenAi),
            ("/v1beta/cachedContents", Api::Google),
            ("/v1beta/models/gemini-2.5-flash:countTokens", Api::Google),
        ] {
            assert_eq!(Endpoint::other(&reading(path)).api(), api, "{path}");
        }
        assert_eq!((Endpoint::Messages.api(), Endpoint::Responses.api()), (Api::Anthropic, Api::OpenAi));
    }
}
