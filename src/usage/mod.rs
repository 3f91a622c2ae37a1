//! What a response really cost: read out of it while it passes, in any chunks, in bounded memory.
//!
//! The upstream's own `usage` is the truth. A stream that sends none is counted by its text, with the tokenizer; a
//! response in a format that is not known here says nothing, and its reservation stands. Formats known: JSON bodies
//! with a top-level `usage`, in OpenAI's names or Anthropic's, and streams of chat completions and completions.
//! Nothing is decompressed here, and whether the response is an error is the session's business.

mod body;
mod choice;
mod member;
mod report;
mod stream;

use crate::tokens::Counter;

/// What a response used, as the upstream reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the answer, reasoning included.
    pub output_tokens: u64,
    /// Of the prompt's tokens, those read from a cache.
    pub cached_tokens: Option<u64>,
    /// Of the answer's tokens, those of reasoning.
    pub reasoning_tokens: Option<u64>,
}

/// What is known when a response has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream told.
    Reported(Usage),
    /// It did not, and the answer's text was counted: corrected by the model's factor.
    Counted {
        /// Tokens of the answer.
        output_tokens: u64,
    },
    /// Nothing: not a format that is known here, or cut off before it said anything.
    Unknown,
}

/// Reads one response.
#[derive(Debug)]
pub struct ResponseReader(Format);

#[derive(Debug)]
enum Format {
    Stream(Box<stream::Reader>),
    Body(body::Reader),
    Other,
}

impl ResponseReader {
    /// Of a response of type `content_type` to a request for so many `choices`, whose text `counter` counts. A
    /// response that names no type is tried as JSON.
    pub fn new(content_type: Option<&str>, choices: u64, counter: Counter) -> Self {
        let kind = content_type.unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Self(match kind.as_str() {
            "text/event-stream" => Format::Stream(Box::new(stream::Reader::new(choices, counter))),
            json if json.ends_with("/json") || json.ends_with("+json") => {
                Format::Body(body::Reader::new(counter))
            }
            _ => Format::Other,
        })
    }

    /// Takes a chunk, which may end anywhere. Gives the outcome as soon as it is certain, which may be before the
    /// response ends, and only once.
    ///
    /// A body's outcome is certain when its `usage` ends. A stream's is certain with the first usage that comes when
    /// every choice has finished, or with `[DONE]`: usage before that may be of the text so far.
    pub fn push(&mut self, chunk: &[u8]) -> Option<Outcome> {
        match &mut self.0 {
            Format::Stream(stream) => stream.push(chunk),
            Format::Body(body) => body.push(chunk),
            Format::Other => None,
        }
    }

    /// The outcome of a response that has ended, in whatever way: what [`ResponseReader::push`] gave, if it did.
    pub fn finish(self) -> Outcome {
        match self.0 {
            Format::Stream(stream) => stream.finish(),
            Format::Body(body) => body.finish(),
            Format::Other => Outcome::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
