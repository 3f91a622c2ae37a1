//! How much of a request's documents is inflated: a small request can be made to grow a thousandfold.

use std::io::Read;

/// The most bytes that are inflated of one document.
const OF_DOCUMENT: u64 = 512 * 1024;

/// The most bytes that are inflated of all documents of a request.
const OF_REQUEST: u64 = 4 * 1024 * 1024;

/// What a stream takes of them at least: to begin one is work, too.
const OF_STREAM: u64 = 256;

/// The bytes of a request's documents that may still be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::request) struct Inflatable(u64);

impl Default for Inflatable {
    fn default() -> Self {
        Self(OF_REQUEST)
    }
}

impl Inflatable {
    /// Lets `read` inflate a document.
    pub(super) fn with<T>(&mut self, read: impl FnOnce(&mut Left) -> T) -> T {
        let before = self.0.min(OF_DOCUMENT);
        let mut left = Left(before);
        let found = read(&mut left);
        self.0 = self.0.saturating_sub(before.saturating_sub(left.0));
        found
    }
}

/// The bytes of a document that may still be inflated.
#[derive(Debug)]
pub(super) struct Left(u64);

impl Left {
    /// As much of `bytes` as may be read, which is then spent.
    pub(super) fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let taken = bytes.get(..self.size()).unwrap_or(bytes);
        self.spend(taken.len());
        taken
    }

    /// How many bytes may be read.
    pub(super) fn size(&self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Inflates what the stream has that `raw` begins with, by what `decoder` makes of it.
    pub(super) fn inflate<'r, D: Read + TotalIn>(
        &mut self,
        raw: &'r [u8],
        decoder: impl FnOnce(&'r [u8]) -> D,
    ) -> Inflated {
        if self.0 == 0 {
            return Inflated { bytes: Vec::new(), read: 0, is_cut: true, is_faulty: false };
        }
        // Streams may also be long and inflate to nothing.
        let input = raw.get(..self.size()).unwrap_or(raw);
        let (mut decoder, mut bytes) = (decoder(input), Vec::new());
        // Of a stream that breaks off, everything before the fault counts.
        let is_faulty = decoder.by_ref().take(self.0).read_to_end(&mut bytes).is_err();
        let read = usize::try_from(decoder.total_in()).unwrap_or(usize::MAX).min(input.len());
        let is_cut = bytes.len() >= self.size() || (is_faulty && input.len() < raw.len());
        self.spend(bytes.len().max(read));
        Inflated { bytes, read, is_cut, is_faulty }
    }

    fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub((bytes as u64).max(OF_STREAM));
    }
}

/// A decoder that says how much it has read.
pub(super) trait TotalIn {
    /// The bytes that it has read.
    fn total_in(&self) -> u64;
}

impl TotalIn for flate2::read::ZlibDecoder<&[u8]> {
    fn total_in(&self) -> u64 {
        self.total_in()
    }
}

impl TotalIn for flate2::read::DeflateDecoder<&[u8]> {
    fn total_in(&self) -> u64 {
        self.total_in()
    }
}

/// What a stream has.
pub(super) struct Inflated {
    pub(super) bytes: Vec<u8>,
    /// How much of the stream that was, in bytes.
    pub(super) read: usize,
    /// Whether there may be more, behind a bound.
    pub(super) is_cut: bool,
    /// Whether it breaks off.
    pub(super) is_faulty: bool,
}
