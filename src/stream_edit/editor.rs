//! Edits one stream: keeps the bytes of an event until it is whole, and then lets them pass or hides them, or a part of
//! them.

use super::ending::Ending;
use super::{Edits, chat, null_usage::null_usage};
use crate::codec::lenient;
use crate::codec::sse::{Event, Parser};
use crate::usage::PLACES;
use memchr::memmem;
use serde_json::Value;

/// The most bytes of an event that wait for its end. A larger event passes unchanged, as it arrives.
pub(super) const MAX_BUFFERED: usize = 1 << 20;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    /// Without a `usage` that is null.
    PassesInPart,
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
        let OpenBlock { buffered, is_passing } = std::mem::take(&mut self.block);
        if self.is_cut {
            return;
        }
        let event = event.filter(|event| event.is_whole && !is_passing);
        let fate = event.map_or(Fate::Passes, |event| self.edit(event));
        match (fate, event) {
            (Fate::PassesInPart, Some(event)) => out.extend(without_null_usage(buffered, event.data)),
            (Fate::Passes | Fate::PassesInPart, _) => out.extend_from_slice(&buffered),
            (Fate::Hidden, _) => {}
        }
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
        let Ok(event) = serde_json::from_str::<Value>(&lenient::mend(event.data)) else {
            return Fate::Passes;
        };
        let fate = match event.get("usage") {
            Some(usage) if self.edits.hides_usage && usage.is_null() => Fate::PassesInPart,
            Some(_) if self.edits.hides_usage && chat::is_usage_alone(&event) => Fate::Hidden,
            _ => Fate::Passes,
        };
        if self.edits.finishes {
            self.ending.update(event);
        }
        fate
    }
}

/// The bytes of a block without the `usage` that is null in its `data`. All of them if the data is on several lines.
fn without_null_usage(mut block: Vec<u8>, data: &[u8]) -> Vec<u8> {
    if let Some(begins) = memmem::find(&block, data)
        && let Some(range) = null_usage(data)
    {
        block.drain(begins.saturating_add(range.start)..begins.saturating_add(range.end));
    }
    block
}
