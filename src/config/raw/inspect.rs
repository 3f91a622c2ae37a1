//! The fields of `inspect`.

use super::Secret;
use serde::Deserialize;

/// Where the filter answers about itself, and to whom. Both fields are required.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Inspect {
    /// The path at which the filter answers, such as `/llm-rate-limit`: exactly this one, of whatever host. No request
    /// to it goes on.
    pub path: Option<String>,
    /// The SHA-256, 64 hexadecimal digits, of the token that a request must carry as `authorization: Bearer ...`:
    /// `printf %s TOKEN | sha256sum`. Everybody else gets a 404.
    pub token_sha256: Option<Secret>,
}
