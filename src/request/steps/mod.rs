//! Reads a large body in steps, so that no step keeps a worker from its other requests for long.
//!
//! It finds the same as [`Request::read`](super::Request::read), however its bytes are cut into pieces, for any body
//! whose elements and texts are not too many or too large (`structure`):
//!
//! 1. **Bytes.** They are checked to be JSON while they come. Where they are not,
//!    [`loose_json`](crate::codec::loose_json) rewrites them, and the result is checked in their place.
//! 2. **Structure.** The request's places take their values, some members or elements in each step. Texts are put
//!    aside: the places of those that are in the body, the rest as copies.
//! 3. **Count.** The texts are counted in slices ([`Counting`]).
//!
//! Nothing here knows time. Each step does about as much work as [`STEP_WORK`] says, whatever the body is, but for what
//! `docs/design.md` names.

mod counting;
mod structure;
mod text;

pub use counting::Counting;

use super::{Endpoint, Request};
use crate::codec::indexed::{Indexed, LONG_CONTAINER, LONG_STRING};
use crate::codec::loose_json::Fault;
use structure::Structure;
use text::Incoming;

/// The work of a step. One unit is about the time in which a byte of English is counted, 40 nanoseconds in the VM.
pub const STEP_WORK: u64 = 48 * 1024;

/// The most bytes of a body that one step takes.
pub const PIECE: usize = 128 * 1024;

/// How much is done in one step. Tests choose less, to cut whatever can be cut.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// The bytes that are checked.
    piece: usize,
    /// The bytes that are rewritten. That takes about four times as long.
    loose: usize,
    /// The bytes between long values that are read, and then to the end of the value.
    structure: usize,
    /// The lengths from which strings, and arrays and objects, are long.
    long: (usize, usize),
}

impl Bounds {
    const USUAL: Self =
        Self { piece: PIECE, loose: 32 * 1024, structure: 64 * 1024, long: (LONG_STRING, LONG_CONTAINER) };
}

/// A body that is being read.
#[derive(Debug)]
pub struct Reading {
    endpoint: Endpoint,
    stage: Stage,
    /// The size of the body so far, in bytes.
    size: u64,
    bounds: Bounds,
}

#[derive(Debug)]
enum Stage {
    Text(Incoming),
    Structure(Structure),
    Read(Read),
}

/// A body that was read.
#[derive(Debug)]
pub struct Read {
    /// The request, without its texts.
    pub request: Request<'static>,
    /// Its texts, to be counted.
    pub texts: Texts,
}

/// The texts of a request.
#[derive(Debug, Default)]
pub struct Texts {
    body: Indexed,
    texts: Vec<counting::Queued>,
}

impl Texts {
    /// The body, as JSON.
    pub fn body(&self) -> &str {
        self.body.text()
    }
}

impl Reading {
    /// Reads a body of about `size` bytes that is sent to `endpoint`.
    pub fn new(endpoint: Endpoint, size: usize) -> Self {
        Self::with(endpoint, size, Bounds::USUAL)
    }

    fn with(endpoint: Endpoint, size: usize, bounds: Bounds) -> Self {
        Self { endpoint, stage: Stage::Text(Incoming::new(size, bounds)), size: 0, bounds }
    }

    /// Whether it waits for more of the body, or for its end.
    pub const fn wants_bytes(&self) -> bool {
        matches!(&self.stage, Stage::Text(incoming) if incoming.wants_bytes())
    }

    /// Takes the next bytes of the body, at most [`PIECE`]. Returns the work that it was.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        self.size = self.size.saturating_add(bytes.len() as u64);
        match &mut self.stage {
            Stage::Text(incoming) => incoming.push(bytes),
            Stage::Structure(_) | Stage::Read(_) => 0,
        }
    }

    /// Whether no reader reads it, whatever follows: then the rest need not be pushed.
    pub fn is_hopeless(&self) -> bool {
        matches!(&self.stage, Stage::Text(incoming) if incoming.is_hopeless())
    }

    /// The body is over.
    pub fn finish(&mut self) {
        if let Stage::Text(incoming) = &mut self.stage {
            incoming.finish();
        }
    }

    /// Does some of the work that needs no more bytes. Returns how much that was; none if there is none.
    pub fn step(&mut self) -> u64 {
        let (endpoint, size, bounds) = (self.endpoint, self.size, self.bounds);
        match &mut self.stage {
            Stage::Text(incoming) => match incoming.step() {
                text::Step::Worked(work) => work,
                text::Step::Read { body, is_as_sent } => {
                    self.stage = Stage::Structure(Structure::new(endpoint, size, body, is_as_sent));
                    1
                }
                text::Step::Faulty(fault) => {
                    let request = Request { fault: Some(fault), ..Request::new(endpoint, size) };
                    self.stage = Stage::Read(Read { request, texts: Texts::default() });
                    1
                }
            },
            Stage::Structure(structure) => {
                let work = structure.step(bounds.structure);
                if let Some(read) = structure.take_read() {
                    self.stage = Stage::Read(read);
                }
                work
            }
            Stage::Read(_) => 0,
        }
    }

    /// Whether it has been read.
    pub const fn is_read(&self) -> bool {
        matches!(self.stage, Stage::Read(_))
    }

    /// What was read; a fault if it was not read to its end.
    pub fn into_read(self) -> Read {
        match self.stage {
            Stage::Read(read) => read,
            Stage::Text(_) | Stage::Structure(_) => {
                let fault = Some(Fault::whole("expected JSON"));
                let request = Request { fault, ..Request::new(self.endpoint, self.size) };
                Read { request, texts: Texts::default() }
            }
        }
    }

    /// About how many bytes of memory it takes.
    pub fn held(&self) -> u64 {
        match &self.stage {
            Stage::Text(incoming) => incoming.held(),
            Stage::Structure(structure) => structure.held(),
            Stage::Read(read) => read.texts.held(),
        }
    }
}

#[cfg(test)]
mod tests;
