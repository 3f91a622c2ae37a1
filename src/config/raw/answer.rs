//! The fields that say what clients are told.

use serde::Deserialize;

/// What a refusal says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rejection {
    /// The error's message. `{limit}`, `{metric}`, `{window}`, `{retry_after}` and `{name}` are filled in; `{{` and
    /// `}}` are braces.
    pub message: Option<String>,
}

/// Which headers tell clients about their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// Those of the API that is called.
    #[default]
    Auto,
    /// OpenAI's, whatever the API.
    Openai,
    /// None.
    None,
}
