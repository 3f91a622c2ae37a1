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
//! | the same in `generationConfig`, in either spelling | Gemini's own API |
//!
//! If one of several values asks for reasoning, some server may follow it. No server looks for it deeper than
//! [`MAX_LEVELS`] of these objects in each other.

use crate::codec::lenient::{self, Accept};
use crate::tokens::Effort;
use serde::de::MapAccess;

/// The objects in each other that are read; what is deeper is skipped. The value of each is read anew, so serde's limit
/// does not hold for them.
const MAX_LEVELS: u8 = 8;

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
        self.take_within(value, MAX_LEVELS);
    }

    /// The same, of which so many `levels` are read.
    fn take_within(&mut self, value: &str, levels: u8) {
        if value.starts_with(['{', '[']) {
            if let Some(levels) = levels.checked_sub(1) {
                // Of a value that breaks off, everything before the fault counts.
                let _ = lenient::read(value, &mut Level { efforts: self, levels });
            }
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

/// An object that may say something about it.
struct Level<'e> {
    efforts: &'e mut Efforts,
    /// The levels that may follow.
    levels: u8,
}

impl<'b> Accept<'b> for Level<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let is_one = matches!(
            name,
            "effort"
                | "type"
                | "enabled"
                | "max_tokens"
                | "budget_tokens"
                | "thinking_config"
                | "thinking_level"
                | "thinkingbudget"
                | "thinkinglevel"
                | "google"
        );
        if !is_one && !Efforts::has(name) {
            return lenient::skip(object);
        }
        self.efforts.take_within(lenient::raw(object)?, self.levels);
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

    #[test]
    fn objects_in_each_other_are_read_to_a_depth_that_no_server_has() {
        let within = |levels: usize, name: &str, value: &str| {
            format!("{}{value}{}", format!("{{\"{name}\":").repeat(levels), "}".repeat(levels))
        };
        let effort = |value: &str| {
            let mut efforts = Efforts::default();
            efforts.take(value);
            efforts.effort()
        };
        let most = usize::from(MAX_LEVELS);
        assert_eq!(effort(&within(most, "extra_body", "false")), Effort::Off);
        assert_eq!(effort(&within(most + 1, "extra_body", "false")), Effort::Unsaid);
        // A request cannot exhaust the stack of who reads it.
        let read = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            for name in ["thinking", "reasoning", "extra_body", "google", "chat_template_kwargs"] {
                assert_eq!(effort(&within(100_000, name, "0")), Effort::Unsaid, "{name}");
                assert_eq!(effort(&within(100_000, name, "")), Effort::Unsaid, "{name}");
                assert_eq!(effort(&format!("{{\"{name}\":").repeat(100_000)), Effort::Unsaid, "{name}");
            }
        });
        read.unwrap().join().unwrap();
    }
}
