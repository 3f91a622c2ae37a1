//! How much a client wants a model to reason, under all names that servers have for it.
//!
//! | member | server |
//! |---|---|
//! | `reasoning_effort`, `reasoning: {"effort": …}` | OpenAI, and most others |
//! | `reasoning: {"enabled": …, "max_tokens": …}` | OpenRouter |
//! | `thinking: {"type": …, "budget_tokens": …}` | Anthropic, GLM, DeepSeek |
//! | `enable_thinking`, `thinking_budget` | Qwen |
//! | the same in `chat_template_kwargs`, `extra_body` | vLLM, SGLang, clients that pass it on |
//! | `thinking_config: {"thinking_budget": …, "thinking_level": …}` in `extra_body.google` | Gemini |
//!
//! If one of several values asks for reasoning, some server may follow it.

use crate::codec::lenient::{self, Accept};
use crate::tokens::Effort;
use serde::de::MapAccess;

/// What a request says about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Efforts {
    is_asked: bool,
    is_off: bool,
}

impl Efforts {
    /// Whether the member `name` of a request says something about it.
    pub(super) fn has(name: &str) -> bool {
        matches!(name, "reasoning" | "reasoning_effort" | "thinking" | "enable_thinking" | "thinking_budget")
            || Self::may_have(name)
    }

    /// Whether the member `name` may say something about it beside other things.
    pub(super) fn may_have(name: &str) -> bool {
        matches!(name, "chat_template_kwargs" | "extra_body")
    }

    /// Takes the value of such a member, JSON.
    pub(super) fn take(&mut self, value: &str) {
        if value.starts_with(['{', '[']) {
            // Of a value that breaks off, everything before the fault counts.
            let _ = lenient::read(value, self);
            return;
        }
        match value.trim_matches('"').trim().to_ascii_lowercase().as_str() {
            "none" | "minimal" | "disabled" | "off" | "false" | "0" => self.is_off = true,
            // The server decides.
            "" | "null" | "auto" | "adaptive" | "default" | "-1" => {}
            _ => self.is_asked = true,
        }
    }

    /// How much it is.
    pub(super) const fn effort(self) -> Effort {
        match (self.is_asked, self.is_off) {
            (true, _) => Effort::Asked,
            (false, true) => Effort::Off,
            (false, false) => Effort::Unsaid,
        }
    }
}

impl<'b> Accept<'b> for Efforts {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "effort" | "type" | "enabled" | "max_tokens" | "budget_tokens" | "thinking_config"
            | "thinking_level" | "google" => self.take(lenient::raw(object)?),
            _ if Self::has(name) => self.take(lenient::raw(object)?),
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_for_reasoning_or_for_none_in_many_ways() {
        let effort = |values: &[&str]| {
            let mut efforts = Efforts::default();
            values.iter().for_each(|value| efforts.take(value));
            efforts.effort()
        };
        for value in [
            r#""none""#,
            r#""Minimal""#,
            "false",
            "0",
            r#"{"effort":"none"}"#,
            r#"{"enabled":false}"#,
            r#"{"max_tokens":0}"#,
            r#"{"type":"disabled"}"#,
            r#"{"enable_thinking":false}"#,
            r#"{"chat_template_kwargs":{"thinking":false}}"#,
            r#"{"google":{"thinking_config":{"thinking_budget":0}}}"#,
            r#"{"reasoning":{"effort":"none","summary":"auto"}}"#,
        ] {
            assert_eq!(effort(&[value]), Effort::Off, "{value}");
            assert_eq!(effort(&[value, r#""high""#]), Effort::Asked, "{value}");
        }
        for value in [
            r#""low""#,
            r#"{"effort":"xhigh"}"#,
            r#"{"type":"enabled","budget_tokens":2000}"#,
            "true",
            "2048",
        ] {
            assert_eq!(effort(&[value]), Effort::Asked, "{value}");
        }
        for value in
            ["null", r#"{"summary":"auto"}"#, r#"{"type":"adaptive"}"#, r#"{"effort":null}"#, "{", "[]"]
        {
            assert_eq!(effort(&[value]), Effort::Unsaid, "{value}");
        }
    }
}
