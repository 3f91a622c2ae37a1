//! The actions at the ends of Google's paths: `models/gemini-2.5-flash:generateContent` names a model, and what to do
//! with it.
//!
//! The Gemini API and Vertex AI have them (<https://ai.google.dev/api/all-methods>,
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest>). A name before any other action is no
//! model's: other APIs have colons in names.

use super::path::Reading;

/// What to do with a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `generateContent` and `streamGenerateContent`.
    Generate,
    /// `embedContent` and `batchEmbedContents`.
    Embed,
    /// `countTokens` and `computeTokens`, and Claude's counting of tokens.
    Count,
    /// `rawPredict` and `streamRawPredict` of a model of Anthropic: its own format.
    Anthropic,
    /// The same of Mistral.
    Mistral,
    /// Another one that Google's APIs have.
    Other,
}

impl Action {
    /// The action at the end of `path`, if it has one that Google's APIs have.
    pub(super) fn of(path: &Reading) -> Option<Self> {
        // Hardly any path has one, and every path is asked several times.
        memchr::memchr(b':', path.folded().as_bytes())?;
        let (model, action) = path.segments().next_back()?.rsplit_once(':')?;
        if !matches!(action, "rawpredict" | "streamrawpredict") {
            return Self::named(action);
        }
        let publishers =
            path.segments().zip(path.segments().skip(1)).filter(|(before, _)| *before == "publishers");
        match publishers.map(|(_, publisher)| publisher).last() {
            Some("anthropic") if model == "count-tokens" => Some(Self::Count),
            Some("anthropic") => Some(Self::Anthropic),
            Some("mistralai") => Some(Self::Mistral),
            _ => Some(Self::Other),
        }
    }

    /// The action with this name in lower case.
    fn named(name: &str) -> Option<Self> {
        match name {
            "generatecontent" | "streamgeneratecontent" => Some(Self::Generate),
            "embedcontent" | "batchembedcontents" => Some(Self::Embed),
            "counttokens" | "computetokens" => Some(Self::Count),
            "asyncbatchembedcontent"
            | "batchgeneratecontent"
            | "generateanswer"
            | "predict"
            | "predictlongrunning"
            | "serverstreamingpredict" => Some(Self::Other),
            _ => None,
        }
    }
}

/// The model that `path` names before its action: all after `models`, for in gateways a name may have slashes; else the
/// last segment. None if it has no action.
pub(super) fn model(path: &Reading) -> Option<String> {
    let action = Action::of(path)?;
    let models = path.segments().position(|segment| segment == "models");
    let segments = path.written().count();
    let first = models.map_or(segments.saturating_sub(1), |models| models.saturating_add(1));
    let name = path.written().skip(first).collect::<Vec<_>>().join("/");
    let (name, _) = name.rsplit_once(':')?;
    // The body names the model whose tokens are counted there.
    let is_model = !(name.is_empty() || action == Action::Count && name == "count-tokens");
    is_model.then(|| name.to_owned())
}

/// Whether `path` is one of Google's own: it has an action, or a version that only Google's APIs have, which also offer
/// OpenAI's.
pub(super) fn is_googles(path: &Reading) -> bool {
    let has = |name: &str| path.segments().any(|segment| segment == name);
    Action::of(path).is_some() || (["v1beta", "v1alpha", "v1beta1"].into_iter().any(has) && !has("openai"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::path::readings;

    #[test]
    fn a_path_names_a_model_and_an_action() {
        for (path, action, name) in [
            ("/v1beta/models/gemini-2.5-flash:generateContent?key=x", Action::Generate, "gemini-2.5-flash"),
            ("/v1/models/gemini-2.5-pro:streamGenerateContent?alt=sse", Action::Generate, "gemini-2.5-pro"),
            ("/v1beta/models/gemini-2.5-pro%3AcountTokens", Action::Count, "gemini-2.5-pro"),
            (
                "/v1/projects/p/locations/l/publishers/google/models/Gemini-3:GenerateContent",
                Action::Generate,
                "Gemini-3",
            ),
            (
                "/gemini/v1beta/models/gemini/gemini-2.5:generateContent/",
                Action::Generate,
                "gemini/gemini-2.5",
            ),
            ("/v1beta/tunedModels/mine:generateContent", Action::Generate, "mine"),
            ("/v1/projects/p/locations/l/endpoints/12:generateContent", Action::Generate, "12"),
            ("/v1beta/models/text-embedding-004:batchEmbedContents", Action::Embed, "text-embedding-004"),
            ("/v1beta/models/imagen-4:predict", Action::Other, "imagen-4"),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4-5@20251101:streamRawPredict",
                Action::Anthropic,
                "claude-opus-4-5@20251101",
            ),
            ("/v1/publishers/mistralai/models/codestral:rawPredict", Action::Mistral, "codestral"),
            ("/v1/publishers/meta/models/llama:rawPredict", Action::Other, "llama"),
        ] {
            let path = readings(path).remove(0);
            assert_eq!(Action::of(&path), Some(action), "{path:?}");
            assert_eq!(model(&path).as_deref(), Some(name), "{path:?}");
            assert!(is_googles(&path), "{path:?}");
        }
        for path in ["/v1/models/gpt-4o@latest:free", "/v1beta/models", "/a:b", "/", "/v1/:generatecontents"]
        {
            let path = readings(path).remove(0);
            assert_eq!((Action::of(&path), model(&path)), (None, None), "{path:?}");
        }
        assert_eq!(model(&readings("/v1beta/models/:generateContent").remove(0)), None);
        assert!(is_googles(&readings("/v1beta/cachedContents").remove(0)));
        assert!(!is_googles(&readings("/v1beta/openai/models").remove(0)));
    }
}
