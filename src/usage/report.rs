//! The `usage` object, in the names of OpenAI's chat completions, of its Responses API, and of Anthropic.

use super::Usage;
use crate::codec::lenient::{self, Accept};
use crate::quantity::Units;
use serde::de::MapAccess;

/// The numbers of `usage` objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// `prompt_tokens`: the whole prompt, including any part that has a number of its own.
    prompt: Option<u64>,
    /// `input_tokens`: for Anthropic, the prompt without its cached parts.
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    /// Anthropic's tokens written to a cache.
    cache_creation: Option<u64>,
    /// Anthropic's tokens read from a cache.
    cache_read: Option<u64>,
    /// OpenAI's tokens read from a cache, a part of the prompt.
    cached: Option<u64>,
    reasoning: Option<u64>,
}

impl Report {
    /// The usage; none unless the prompt's tokens are reported. All zeros are no usage: every prompt has a token, and
    /// some servers send zeros until they know the usage.
    pub(super) fn usage(&self) -> Option<Usage> {
        let units = |number: Option<u64>| number.map(Units::new);
        let cached =
            units(self.cache_creation).unwrap_or_default() + units(self.cache_read).unwrap_or_default();
        let input = self.prompt.or_else(|| units(self.input).map(|input| (input + cached).get()));
        let rest = |part| units(self.total).zip(units(part)).map(|(total, part)| (total - part).get());
        let usage = Usage {
            input_tokens: input.or_else(|| rest(self.output).or(self.total))?,
            output_tokens: self.output.or_else(|| rest(input)).unwrap_or(0),
            cached_tokens: self.cached.or(self.cache_read),
            cache_creation_tokens: self.cache_creation,
            reasoning_tokens: self.reasoning,
        };
        (usage.input_tokens > 0 || usage.output_tokens > 0).then_some(usage)
    }

    /// Takes the numbers that `later` has and keeps the others: a stream may report the prompt's tokens at its
    /// beginning and the answer's at its end. Returns whether `later` has any number but zero.
    pub(super) fn update(&mut self, later: &Self) -> bool {
        let mut has_any = false;
        let mut update = |field: &mut Option<u64>, later: Option<u64>| {
            // Usage never falls back to zero.
            if later.is_some_and(|tokens| tokens > 0) || field.is_none() {
                *field = later;
            }
            has_any |= later.is_some_and(|tokens| tokens > 0);
        };
        update(&mut self.prompt, later.prompt);
        update(&mut self.input, later.input);
        update(&mut self.output, later.output);
        update(&mut self.total, later.total);
        update(&mut self.cache_creation, later.cache_creation);
        update(&mut self.cache_read, later.cache_read);
        update(&mut self.cached, later.cached);
        update(&mut self.reasoning, later.reasoning);
        has_any
    }
}

impl<'b> Accept<'b> for Report {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "prompt_tokens" => self.prompt = lenient::number(object)?,
            "input_tokens" => self.input = lenient::number(object)?,
            "completion_tokens" | "output_tokens" => self.output = lenient::number(object)?,
            "total_tokens" => self.total = lenient::number(object)?,
            "cache_creation_input_tokens" => self.cache_creation = lenient::number(object)?,
            "cache_read_input_tokens" => self.cache_read = lenient::number(object)?,
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

/// One number of an object: the member's name, and the place for its value.
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
        Usage {
            input_tokens,
            output_tokens,
            cached_tokens: None,
            cache_creation_tokens: None,
            reasoning_tokens: None,
        }
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
        let anthropic = r#"{"input_tokens":3,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,
            "output_tokens":7}"#;
        let expected = Usage { cached_tokens: Some(100), cache_creation_tokens: Some(20), ..of(123, 7) };
        assert_eq!(usage(anthropic), Some(expected));
        // Gateways that translate add Anthropic's numbers to OpenAI's, which include them.
        let translated = r#"{"prompt_tokens":123,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,
            "completion_tokens":7}"#;
        assert_eq!(usage(translated), Some(expected));
    }

    #[test]
    fn a_later_report_updates_the_numbers_that_it_has() {
        let mut report = Report::default();
        let mut update = |json| {
            let mut later = Report::default();
            lenient::read(json, &mut later).unwrap();
            (report.update(&later), report.usage())
        };
        let start = r#"{"input_tokens":25,"cache_read_input_tokens":0,"output_tokens":1}"#;
        assert_eq!(update(start), (true, Some(Usage { cached_tokens: Some(0), ..of(25, 1) })));
        assert!(!update("{}").0);
        assert!(!update(r#"{"input_tokens":0,"output_tokens":0}"#).0);
        let end = r#"{"output_tokens":15}"#;
        assert_eq!(update(end), (true, Some(Usage { cached_tokens: Some(0), ..of(25, 15) })));
        let whole = r#"{"input_tokens":20,"cache_read_input_tokens":10,"output_tokens":16}"#;
        assert_eq!(update(whole), (true, Some(Usage { cached_tokens: Some(10), ..of(30, 16) })));
    }

    #[test]
    fn a_missing_number_is_derived_from_the_others_or_zero() {
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
