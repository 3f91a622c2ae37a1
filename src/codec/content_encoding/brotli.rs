//! Brotli (RFC 7932).

use super::stage::{Error, Take};
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use std::fmt;

/// How many bytes are decoded at a time.
const BUFFER: usize = 16 << 10;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// A Brotli stream.
pub(super) struct Brotli {
    /// None once the stream has ended: nobody reads what follows.
    state: Option<Box<State>>,
    buffer: Vec<u8>,
}

impl Default for Brotli {
    fn default() -> Self {
        let alloc = StandardAlloc::default;
        // Only strict streams are in the coding `br`: others have windows of up to a gigabyte.
        let state = State::new_strict(alloc(), alloc(), alloc());
        Self { state: Some(Box::new(state)), buffer: vec![0; BUFFER] }
    }
}

impl fmt::Debug for Brotli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brotli").field("has_ended", &self.state.is_none()).finish_non_exhaustive()
    }
}

impl Brotli {
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), Error> {
        let (mut left, mut read) = (bytes.len(), 0);
        while let Some(state) = &mut self.state {
            let (mut room, mut written) = (self.buffer.len(), 0);
            let result = BrotliDecompressStream(
                &mut left,
                &mut read,
                bytes,
                &mut room,
                &mut written,
                &mut self.buffer,
                &mut 0,
                state,
            );
            let decoded = self.buffer.get(..written).unwrap_or_default();
            if !decoded.is_empty() {
                take(decoded)?;
            }
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => return Ok(()),
                BrotliResult::ResultSuccess => self.state = None,
                BrotliResult::ResultFailure => return Err(Error::Damaged),
            }
        }
        Ok(())
    }
}
