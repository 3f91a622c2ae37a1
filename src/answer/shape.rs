//! Errors in the shape of each API, as its clients read them.

use super::{Dialect, Headers, Reply};
use crate::config;
use crate::quantity::Millis;
use crate::request::Api;
use serde_json::Value;

/// An error that every API can express.
pub(super) struct ApiError<'a> {
    pub(super) status: u32,
    pub(super) message: &'a str,
    /// OpenAI's type and code.
    pub(super) openai: (&'a str, &'a str),
    /// Anthropic's type.
    pub(super) anthropic: &'a str,
}

impl Dialect {
    /// The API whose shape errors have: that of the endpoint, unless the configuration names one.
    const fn api(self) -> Api {
        match self.headers {
            config::Headers::Openai => Api::OpenAi,
            config::Headers::Anthropic => Api::Anthropic,
            config::Headers::Auto | config::Headers::Ietf | config::Headers::None => self.endpoint.api(),
        }
    }
}

impl ApiError<'_> {
    /// The answer to a client that speaks `dialect`, with these `headers` and the type of its body.
    pub(super) fn reply(&self, dialect: Dialect, headers: Headers) -> Reply {
        self.reply_after(None, dialect, headers)
    }

    /// The same, which says when to send the request again, if that may help.
    pub(super) fn reply_after(&self, wait: Option<Millis>, dialect: Dialect, mut headers: Headers) -> Reply {
        headers.insert(0, ("content-type", "application/json".into()));
        let body = match dialect.api() {
            Api::OpenAi => self.for_openai(),
            Api::Anthropic => self.for_anthropic(),
            Api::Google => self.for_google(wait),
            Api::Ollama => self.for_ollama(),
            Api::Cohere => self.for_cohere(),
        };
        Reply { status: self.status, headers, body: body.into_bytes() }
    }

    /// <https://platform.openai.com/docs/guides/error-codes>
    fn for_openai(&self) -> String {
        let ((kind, code), message) = (self.openai, Value::from(self.message));
        format!(r#"{{"error":{{"code":"{code}","message":{message},"param":null,"type":"{kind}"}}}}"#)
    }

    /// <https://docs.anthropic.com/en/api/errors#error-shapes>
    fn for_anthropic(&self) -> String {
        let (kind, message) = (self.anthropic, Value::from(self.message));
        format!(r#"{{"error":{{"message":{message},"type":"{kind}"}},"type":"error"}}"#)
    }

    /// <https://docs.ollama.com/api/errors>
    fn for_ollama(&self) -> String {
        format!(r#"{{"error":{}}}"#, Value::from(self.message))
    }

    /// <https://docs.cohere.com/reference/errors>
    fn for_cohere(&self) -> String {
        format!(r#"{{"message":{}}}"#, Value::from(self.message))
    }

    /// <https://cloud.google.com/apis/design/errors#http_mapping>. Clients read the wait in `RetryInfo`, and no header.
    fn for_google(&self, wait: Option<Millis>) -> String {
        let status = match self.status {
            401 => "UNAUTHENTICATED",
            403 => "PERMISSION_DENIED",
            426 => "FAILED_PRECONDITION",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            _ => "INVALID_ARGUMENT",
        };
        let (code, message) = (self.status, Value::from(self.message));
        let details = wait.map_or_else(String::new, |wait| {
            let (seconds, millis) = (wait.get() / 1_000, wait.get() % 1_000);
            let info = "type.googleapis.com/google.rpc.RetryInfo";
            format!(r#","details":[{{"@type":"{info}","retryDelay":"{seconds}.{millis:03}s"}}]"#)
        });
        format!(r#"{{"error":{{"code":{code},"message":{message},"status":"{status}"{details}}}}}"#)
    }
}
