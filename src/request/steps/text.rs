//! From a body's bytes to JSON with an index, step by step.

use super::Bounds;
use crate::codec::indexed::{Indexed, Indexing};
use crate::codec::loose_json::{Fault, Rewriter};
use crate::codec::transcode::Transcoder;

/// The arrays and objects that are closed in one step, at the end of a text that breaks off.
const CLOSED: usize = 32 * 1024;

/// A body on its way to JSON.
#[derive(Debug)]
pub(super) struct Incoming {
    state: State,
    /// Bytes that are not read yet.
    waiting: Vec<u8>,
    /// How many of them were read.
    read: usize,
    /// Whether they are the beginning of a character.
    is_cut_off: bool,
    is_over: bool,
    bounds: Bounds,
}

#[derive(Debug)]
enum State {
    /// All so far is JSON in UTF-8.
    Strict(Indexing),
    /// It is rewritten.
    Loose { transcoder: Option<Transcoder>, rewriter: Box<Rewriter> },
    /// It was rewritten, and is indexed.
    Rewritten { json: String, read: usize, indexing: Indexing },
    /// All is done.
    Done,
}

/// What a step has done.
pub(super) enum Step {
    /// So much work.
    Worked(u64),
    /// The body has been read.
    Read {
        body: Indexed,
        /// Whether it is the body as it was sent.
        is_as_sent: bool,
    },
    /// No reader reads it.
    Faulty(Fault),
}

impl Incoming {
    pub(super) fn new(size: usize, bounds: Bounds) -> Self {
        let state = State::Strict(Indexing::with(size, bounds.long.0, bounds.long.1));
        Self { state, waiting: Vec::new(), read: 0, is_cut_off: false, is_over: false, bounds }
    }

    pub(super) const fn wants_bytes(&self) -> bool {
        let is_reading = matches!(self.state, State::Strict(_) | State::Loose { .. });
        is_reading && !self.is_over && (self.is_cut_off || self.read >= self.waiting.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> u64 {
        if self.is_hopeless() || self.read >= self.waiting.len() {
            self.waiting.clear();
            self.read = 0;
        }
        self.is_cut_off = false;
        self.waiting.extend_from_slice(bytes);
        (bytes.len() / 32) as u64
    }

    /// Whether no reader reads it, whatever follows.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(&self.state, State::Loose { rewriter, .. } if rewriter.is_hopeless())
    }

    pub(super) const fn finish(&mut self) {
        self.is_over = true;
    }

    pub(super) fn held(&self) -> u64 {
        let state = match &self.state {
            State::Strict(indexing) => indexing.held(),
            State::Loose { rewriter, .. } => rewriter.held(),
            State::Rewritten { json, indexing, .. } => indexing.held().saturating_add(json.capacity() as u64),
            State::Done => 0,
        };
        state.saturating_add(self.waiting.capacity() as u64)
    }

    pub(super) fn step(&mut self) -> Step {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Strict(indexing) => self.strict(indexing),
            State::Loose { transcoder, rewriter } => self.loose(transcoder, rewriter),
            State::Rewritten { json, read, indexing } => self.rewritten(json, read, indexing),
            State::Done => Step::Worked(0),
        }
    }

    /// The next bytes, up to `most`; none if there are none now.
    fn next(&self, most: usize) -> Option<&[u8]> {
        let rest = self.waiting.get(self.read..).filter(|rest| !rest.is_empty())?;
        rest.get(..most.min(rest.len()))
    }

    fn strict(&mut self, mut indexing: Indexing) -> Step {
        let Some(bytes) = self.next(self.bounds.piece) else {
            if !self.is_over {
                self.state = State::Strict(indexing);
                return Step::Worked(0);
            }
            return match indexing.finish() {
                Ok(body) => Step::Read { body, is_as_sent: true },
                Err(text) => self.rewrite(text),
            };
        };
        let (text, is_malformed) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(fault) => {
                let (valid, _) = bytes.split_at_checked(fault.valid_up_to()).unwrap_or((bytes, &[]));
                let is_cut_off =
                    fault.error_len().is_none() && (!self.is_over || bytes.len() == self.bounds.piece);
                (std::str::from_utf8(valid).unwrap_or_default(), !is_cut_off)
            }
        };
        let work = 1 + (text.len() / 8) as u64;
        let (length, is_strict) = (text.len(), indexing.push(text).is_ok());
        self.read = self.read.saturating_add(length);
        if !is_strict || is_malformed {
            return self.rewrite(indexing.into_text());
        }
        self.state = State::Strict(indexing);
        if length == 0 {
            // The beginning of a character: the rest is to come, and this is moved to be before it.
            self.waiting.drain(..self.read);
            self.read = 0;
            self.is_cut_off = true;
        }
        Step::Worked(work)
    }

    /// Begins again, since the bytes are not what every reader reads. `text` is what has been read of them.
    fn rewrite(&mut self, text: String) -> Step {
        let mut bytes = text.into_bytes();
        let waiting = self.waiting.get(self.read..).unwrap_or_default();
        bytes.extend_from_slice(waiting);
        self.waiting = bytes;
        self.read = 0;
        self.state = State::Loose { transcoder: Some(Transcoder::default()), rewriter: Box::default() };
        Step::Worked(1)
    }

    fn loose(&mut self, transcoder: Option<Transcoder>, mut rewriter: Box<Rewriter>) -> Step {
        let Some(mut reading) = transcoder else {
            if !rewriter.close(CLOSED) {
                self.state = State::Loose { transcoder: None, rewriter };
                return Step::Worked((CLOSED / 2) as u64);
            }
            if let Some(fault) = rewriter.fault() {
                return Step::Faulty(fault);
            }
            let json = rewriter.finish().json;
            self.waiting = Vec::new();
            self.read = 0;
            let indexing = Indexing::with(json.len(), self.bounds.long.0, self.bounds.long.1);
            self.state = State::Rewritten { json, read: 0, indexing };
            return Step::Worked(1);
        };
        if rewriter.is_hopeless() {
            self.read = self.waiting.len();
        }
        let Some(bytes) = self.next(self.bounds.loose) else {
            if !self.is_over {
                self.state = State::Loose { transcoder: Some(reading), rewriter };
                return Step::Worked(0);
            }
            reading.finish(&mut |piece| rewriter.push(piece));
            self.state = State::Loose { transcoder: None, rewriter };
            return Step::Worked(1);
        };
        reading.push(bytes, &mut |piece| rewriter.push(piece));
        let length = bytes.len();
        self.read = self.read.saturating_add(length);
        self.state = State::Loose { transcoder: Some(reading), rewriter };
        Step::Worked(1 + (length / 2) as u64)
    }

    fn rewritten(&mut self, json: String, read: usize, mut indexing: Indexing) -> Step {
        let rest = json.get(read..).unwrap_or_default();
        let cut = (self.bounds.piece.min(rest.len())..=rest.len()).find(|at| rest.is_char_boundary(*at));
        let piece = rest.get(..cut.unwrap_or(rest.len())).unwrap_or_default();
        if piece.is_empty() {
            return match indexing.finish() {
                Ok(body) => Step::Read { body, is_as_sent: false },
                Err(_) => Step::Faulty(Fault::whole("expected JSON")),
            };
        }
        if indexing.push(piece).is_err() {
            return Step::Faulty(Fault::whole("expected JSON"));
        }
        let work = 1 + (piece.len() / 8) as u64;
        let read = read.saturating_add(piece.len());
        self.state = State::Rewritten { json, read, indexing };
        Step::Worked(work)
    }
}
