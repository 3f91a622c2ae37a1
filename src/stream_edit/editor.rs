//! Edits one stream: keeps the bytes of an event until it is whole, and then lets them pass or hides them, or a part of
//! them.

use super::Edits;
use super::ending::Ending;
use super::usage_member::UsageMember;
use crate::codec::lenient;
use crate::codec::sse::{Event, Parser};
use crate::usage::PLACES;
use memchr::memchr2;
use std::ops::Range;

/// The most bytes of an event that wait for its end. A larger event passes unchanged, as it arrives.
pub(super) const MAX_BUFFERED: usize = 1 << 20;

/// The bytes that stay allocated between events.
const KEPT_BYTES: usize = 16 << 10;

/// Edits one stream.
#[derive(Debug, Default)]
pub struct StreamEditor {
    edits: Edits,
    parser: Parser,
    block: OpenBlock,
    /// The fate of the last block, if it ended with a carriage return: a line feed that comes next shares it.
    after_return: Option<Fate>,
    ending: Ending,
    /// The filter has ended the stream: the client gets no more of it.
    is_cut: bool,
}

/// The lines since the last blank one.
#[derive(Debug, Default)]
struct OpenBlock {
    /// Bytes that wait for the end of the block.
    buffered: Vec<u8>,
    /// The block grew too large to wait: the client has a part of it.
    is_passing: bool,
}

/// Whether a block reaches the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    /// Without these bytes of its data: a `usage` that is null.
    PassesWithout(Range<usize>),
    Hidden,
}

impl StreamEditor {
    /// An editor that makes these `edits`.
    pub fn new(edits: Edits) -> Self {
        Self { edits, parser: Parser::new(PLACES), ..Self::default() }
    }

    /// Takes a chunk, and returns the bytes to send in its place.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.push_and_read(chunk, |_| ())
    }

    /// Like [`StreamEditor::push`]. Also calls `read` with every event that ends in the chunk, hidden events included.
    pub fn push_and_read(&mut self, chunk: &[u8], mut read: impl FnMut(Event<'_>)) -> Vec<u8> {
        let mut out = Vec::with_capacity(chunk.len());
        let mut parser = std::mem::take(&mut self.parser);
        let mut from = 0;
        parser.push_blocks(chunk, |block| {
            let bytes = chunk.get(from..block.end).unwrap_or_default();
            from = block.end;
            self.end_block(bytes, block.event, &mut out);
            block.event.into_iter().for_each(&mut read);
        });
        self.parser = parser;
        self.buffer(chunk.get(from..).unwrap_or_default(), &mut out);
        out
    }

    /// Ends the stream, and returns the bytes that still wait.
    pub fn finish(&mut self) -> Vec<u8> {
        self.finish_and_read(|_| ())
    }

    /// Like [`StreamEditor::finish`]. Also calls `read` with the event that the end cut off, if there is one.
    pub fn finish_and_read(&mut self, read: impl FnMut(Event<'_>)) -> Vec<u8> {
        std::mem::take(&mut self.parser).finish(read);
        std::mem::take(&mut self.block).buffered
    }

    /// Ends the stream before the upstream does, and returns the events that end it, once. They report to the client
    /// that each of `choices` has reached its maximum, with about `output_tokens` together. None if the stream has not
    /// shown its format, or if the client already has a part of an event.
    pub fn cut(&mut self, choices: u64, output_tokens: u64) -> Option<Vec<u8>> {
        if self.is_cut || self.block.is_passing {
            return None;
        }
        let end = self.ending.write(choices, output_tokens)?;
        self.is_cut = true;
        self.block = OpenBlock::default();
        Some(end.into_bytes())
    }

    /// Takes the last `bytes` of a block.
    fn end_block(&mut self, bytes: &[u8], event: Option<Event<'_>>, out: &mut Vec<u8>) {
        self.buffer(bytes, out);
        if self.is_cut {
            return;
        }
        let is_passing = std::mem::take(&mut self.block.is_passing);
        let event = event.filter(|event| event.is_whole && !is_passing);
        let fate = event.map_or(Fate::Passes, |event| self.edit(event));
        let block = &mut self.block.buffered;
        let left_out = match (&fate, event) {
            (Fate::PassesWithout(range), Some(event)) => place_of_data(block, event.data)
                .map(|at| at.saturating_add(range.start)..at.saturating_add(range.end)),
            (Fate::Hidden, _) => Some(0..block.len()),
            _ => None,
        };
        let left_out = left_out.unwrap_or_default();
        out.extend_from_slice(block.get(..left_out.start).unwrap_or_default());
        out.extend_from_slice(block.get(left_out.end..).unwrap_or_default());
        block.clear();
        block.shrink_to(KEPT_BYTES);
        self.after_return = bytes.ends_with(b"\r").then_some(fate);
    }

    /// Takes `bytes` of a block that is not whole.
    fn buffer(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.is_cut || bytes.is_empty() {
            return;
        }
        let mut bytes = bytes;
        if let Some(fate) = self.after_return.take()
            && let Some(rest) = bytes.strip_prefix(b"\n")
        {
            out.extend((fate != Fate::Hidden).then_some(b'\n'));
            bytes = rest;
        }
        self.block.buffered.extend_from_slice(bytes);
        self.block.is_passing |= self.block.buffered.len() > MAX_BUFFERED;
        if self.block.is_passing {
            out.append(&mut self.block.buffered);
        }
    }

    /// Decides whether a whole event passes, and updates the ending of the stream.
    fn edit(&mut self, event: Event<'_>) -> Fate {
        if self.edits.finishes
            && let Ok(event) = serde_json::from_str(&lenient::mend(event.data))
        {
            self.ending.update(event);
        }
        if !self.edits.hides_usage {
            return Fate::Passes;
        }
        match UsageMember::of(event.data) {
            UsageMember::Null(range) => Fate::PassesWithout(range),
            UsageMember::Alone => Fate::Hidden,
            UsageMember::Absent | UsageMember::Other => Fate::Passes,
        }
    }
}

/// Where the `data` of an event begins in its block; none if it is on several lines.
fn place_of_data(block: &[u8], data: &[u8]) -> Option<usize> {
    let mut rest = block;
    loop {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        if let Some(before) = rest.get(..end)?.strip_suffix(data)
            && before.trim_ascii_end().ends_with(b"data:")
        {
            return Some(block.len().saturating_sub(rest.len()).saturating_add(before.len()));
        }
        rest = rest.get(end.saturating_add(1)..)?;
    }
}
