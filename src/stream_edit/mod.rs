//! Changes to a stream of events on its way to the client, event by event.
//!
//! Two are made, both only if the configuration asks for them: the usage that the filter asked for in the client's
//! place is hidden from a client that did not ask for it, and a stream that has passed its limit is ended as its API
//! ends one that has reached its maximum ([`Ending`](ending::Ending)). Events that are not changed pass byte for byte;
//! what passes is held back until its event is whole, never longer.

mod chat;
mod ending;
mod messages;
mod responses;

use crate::codec::lenient;
use ending::Ending;
use serde_json::Value;

/// The largest event that is held back. A larger one passes as it comes and is not changed.
const MAX_HELD: usize = 1 << 20;

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// The chunk that holds nothing but usage is hidden.
    pub hides_usage: bool,
    /// The stream may have to be ended.
    pub finishes: bool,
}

impl Edits {
    /// Whether anything is.
    pub const fn any(self) -> bool {
        self.hides_usage || self.finishes
    }
}

/// Edits one stream.
#[derive(Debug, Default)]
pub struct StreamEditor {
    edits: Edits,
    /// The beginning of an event whose end has not come.
    held: Vec<u8>,
    /// The event in `held` began too large to be held: it passes.
    passing: bool,
    /// Nothing has come of the current line.
    line_is_empty: bool,
    /// The last byte was a carriage return, and whether the event that it ended passed, if it ended one.
    after_return: Option<bool>,
    ending: Ending,
    /// The stream was ended here: the rest is swallowed.
    is_cut: bool,
}

impl StreamEditor {
    /// An editor that makes these `edits`.
    pub fn new(edits: Edits) -> Self {
        Self { edits, ..Self::default() }
    }

    /// Takes a chunk; what to send in its place.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(chunk.len());
        for byte in chunk {
            match (self.after_return.take(), byte) {
                // The second half of a line end, which goes where its first half went.
                (Some(passed), b'\n') => {
                    if self.held.is_empty() {
                        out.extend(passed.then_some(b'\n'));
                    } else {
                        self.held.push(b'\n');
                    }
                    continue;
                }
                (_, b'\r' | b'\n') => {
                    self.held.push(*byte);
                    let ends_event = self.line_is_empty;
                    self.line_is_empty = true;
                    let passed = !ends_event || self.end_event(&mut out);
                    self.after_return = (*byte == b'\r').then_some(passed);
                }
                (_, _) => {
                    self.held.push(*byte);
                    self.line_is_empty = false;
                }
            }
            if self.held.len() > MAX_HELD {
                self.passing = true;
            }
            if self.passing && !self.is_cut {
                out.append(&mut self.held);
            }
        }
        if self.is_cut { Vec::new() } else { out }
    }

    /// The stream has ended: what was still held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        if self.is_cut { Vec::new() } else { held }
    }

    /// Ends the stream here; what to send to the client, once. `choices` are told that they reached their length, and
    /// that they have about `output_tokens` together. None if what has come does not tell what the end must look like,
    /// or if half of an event is with the client already.
    pub fn cut(&mut self, choices: u64, output_tokens: u64) -> Option<Vec<u8>> {
        if self.is_cut || self.passing {
            return None;
        }
        let end = self.ending.write(choices, output_tokens)?;
        self.is_cut = true;
        self.held.clear();
        Some(end.into_bytes())
    }

    /// The event in `held` is whole: passes it on, or hides it. Whether it passed.
    fn end_event(&mut self, out: &mut Vec<u8>) -> bool {
        let event = std::mem::take(&mut self.held);
        let hidden = !std::mem::take(&mut self.passing) && self.read(&event);
        if !hidden {
            out.extend_from_slice(&event);
        }
        !hidden
    }

    /// Notes what a whole event is; whether it is to be hidden.
    fn read(&mut self, event: &[u8]) -> bool {
        let mut data = Vec::new();
        let mut parser = crate::codec::sse::Parser::default();
        parser.push(event, |event| data = event.data.to_vec());
        let Ok(event) = serde_json::from_str::<Value>(&lenient::mend(&data)) else { return false };
        let hidden = self.edits.hides_usage && chat::is_usage_alone(&event);
        if self.edits.finishes {
            self.ending.note(event);
        }
        hidden
    }
}

#[cfg(test)]
mod tests;
