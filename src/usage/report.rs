//! The `usage` object, in the names of OpenAI's chat completions and of its Responses API and Anthropic's.

use super::Usage;
use crate::lenient::{self, Accept};
use serde::de::MapAccess;

/// What a `usage` object holds.
#[derive(Debug, Default)]
pub(super) struct Report {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    /// Anthropic counts what it writes to and reads from its cache beside `input_tokens`.
    beside_input: u64,
    cached: Option<u64>,
    reasoning: Option<u64>,
}

impl Report {
    /// The usage, if the object says enough of it: the prompt's tokens at least. Zeros are what some servers send
    /// until they know; no prompt has no token.
    pub(super) fn usage(&self) -> Option<Usage> {
        let rest = |part: Option<u64>| self.total.zip(part).map(|(total, part)| total.saturating_sub(part));
        let output_tokens = self.output.or_else(|| rest(self.input)).unwrap_or(0);
        let input = self.input.or_else(|| rest(self.output).or(self.total))?;
        let input_tokens = input.saturating_add(self.beside_input);
        let usage = Usage {
            input_tokens,
            output_tokens,
            cached_tokens: self.cached,
            reasoning_tokens: self.reasoning,
        };
        (input_tokens > 0 || output_tokens > 0).then_some(usage)
    }
}

impl<'b> Accept<'b> for Report {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "prompt_tokens" | "input_tokens" => self.input = lenient::number(object)?,
            "completion_tokens" | "output_tokens" => self.output = lenient::number(object)?,
            "total_tokens" => self.total = lenient::number(object)?,
            "cache_creation_input_tokens" => {
                self.beside_input = self.beside_input.saturating_add(lenient::number(object)?.unwrap_or(0));
            }
            "cache_read_input_tokens" => {
                self.cached = lenient::number(object)?;
                self.beside_input = self.beside_input.saturating_add(self.cached.unwrap_or(0));
            }
            "prompt_tokens_details" | "input_tokens_details" => {
                lenient::offer(object, &mut Detail("cached_tokens", &mut self.cached))?;
            }
            "completion_tokens_details" | "output_tokens_details" => {
                lenient::offer(object, &mut Detail("reasoning_tokens", &mut self.reasoning))?;
            }
            _ => lenient::skip(object)?,
        }
        Ok(())
    }
}

/// One number out of an object.
struct Detail<'r>(&'static str, &'r mut Option<u64>);

impl<'b> Accept<'b> for Detail<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == self.0 {
            *self.1 = lenient::number(object)?;
            return Ok(());
        }
        lenient::skip(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str) -> Option<Usage> {
        let mut report = Report::default();
        lenient::read(json, &mut report).unwrap();
        report.usage()
    }

    const fn of(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, cached_tokens: None, reasoning_tokens: None }
    }

    #[test]
    fn every_name_is_read() {
        let chat = r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":6,"accepted_prediction_tokens":0}}"#;
        let responses = r#"{"input_tokens":19,"input_tokens_details":{"cached_tokens":4},"output_tokens":10,
            "output_tokens_details":{"reasoning_tokens":6},"total_tokens":29}"#;
        let expected = Usage { cached_tokens: Some(4), reasoning_tokens: Some(6), ..of(19, 10) };
        assert_eq!(usage(chat), Some(expected));
        assert_eq!(usage(responses), Some(expected));
        let anthropic = r#"{"input_tokens":3,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,"output_tokens":7}"#;
        assert_eq!(usage(anthropic), Some(Usage { cached_tokens: Some(100), ..of(123, 7) }));
    }

    #[test]
    fn what_is_missing_is_worked_out_or_left() {
        for (json, expected) in [
            (r#"{"prompt_tokens":5,"total_tokens":5}"#, Some(of(5, 0))),
            (r#"{"prompt_tokens":5,"total_tokens":8}"#, Some(of(5, 3))),
            (r#"{"completion_tokens":5,"total_tokens":8}"#, Some(of(3, 5))),
            (r#"{"total_tokens":8}"#, Some(of(8, 0))),
            (r#"{"output_tokens":8}"#, None),
            (r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, None),
            (r#"{"prompt_tokens":-1,"completion_tokens":"x"}"#, None),
            (r#"{"prompt_tokens":7,"prompt_tokens_details":null}"#, Some(of(7, 0))),
            ("{}", None),
            ("null", None),
            ("[1]", None),
        ] {
            assert_eq!(usage(json), expected, "{json}");
        }
    }
}
