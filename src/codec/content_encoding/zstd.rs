//! Zstandard (RFC 8878): frames one after the other, some of which are to be skipped.
//!
//! The decoder reads block by block, so that no more than a block waits for its end, and never more than the window
//! that a frame declares. RFC 9659 limits it to [`MAX_WINDOW`] for a content coding.

use super::stage::{Error, Take};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::fmt;

/// The largest window, in bytes.
const MAX_WINDOW: u64 = 8 << 20;

/// The first four bytes of a frame.
const MAGIC: u32 = 0xFD2F_B528;

/// The first four bytes of a frame to skip, but for the lowest half byte.
const SKIPPABLE: u32 = 0x184D_2A50;

/// The bytes of a block's header.
const BLOCK_HEADER: usize = 3;

/// The most bytes of a block.
const MAX_BLOCK: u32 = 128 << 10;

/// Frames.
pub(super) struct Zstd {
    /// Bytes that are not read yet: a part of a header or of a block.
    kept: Vec<u8>,
    at: At,
    /// Whether a frame has ended.
    has_frame: bool,
}

/// Where in the frames the next byte is.
enum At {
    Header,
    /// In a frame, before a block; whether a checksum ends it.
    Block(Box<FrameDecoder>, bool),
    /// Before so many bytes that nobody reads.
    Skipped(u32),
    /// After the last frame.
    End,
}

impl Default for Zstd {
    fn default() -> Self {
        Self { kept: Vec::new(), at: At::Header, has_frame: false }
    }
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

impl Zstd {
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), Error> {
        self.kept.extend_from_slice(bytes);
        let mut read = 0;
        loop {
            let rest = self.kept.get(read..).unwrap_or_default();
            let Some(step) = step(&mut self.at, rest, self.has_frame, take)? else { break };
            self.has_frame |= step.ends_frame;
            read = read.saturating_add(step.read);
        }
        if read > 0 {
            self.kept.drain(..read.min(self.kept.len()));
        }
        Ok(())
    }

    /// The bytes are over: what a frame that is cut off keeps for its window is decoded too.
    pub(super) fn finish(&mut self, take: &mut Take<'_>) -> Result<(), Error> {
        let At::Block(..) = self.at else { return Ok(()) };
        // An empty last block, and a checksum that nobody verifies, end the frame.
        self.kept.clear();
        self.push(&[1, 0, 0, 0, 0, 0, 0], take)
    }
}

/// What a step has read.
struct Step {
    read: usize,
    ends_frame: bool,
}

/// Reads the next part of `bytes`; none if more bytes must come first.
fn step(at: &mut At, bytes: &[u8], has_frame: bool, take: &mut Take<'_>) -> Result<Option<Step>, Error> {
    let of = |read| Ok(Some(Step { read, ends_frame: false }));
    match at {
        At::Header => {
            let Some(magic) = bytes.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic)) else {
                return Ok(None);
            };
            if magic & !0xF == SKIPPABLE {
                let Some(length) = bytes.get(4..8).and_then(|length| length.first_chunk::<4>()) else {
                    return Ok(None);
                };
                *at = At::Skipped(u32::from_le_bytes(*length));
                return of(8);
            }
            if magic != MAGIC {
                // Nobody reads what follows the last frame.
                return if has_frame { end(at) } else { Err(Error::Damaged) };
            }
            let Some(descriptor) = bytes.get(4) else { return Ok(None) };
            let Some(header) = bytes.get(..header_len(*descriptor)) else { return Ok(None) };
            let mut decoder = Box::new(FrameDecoder::new());
            decoder.set_max_window_size(MAX_WINDOW);
            decoder.init(header).map_err(|error| match error {
                ruzstd::decoding::errors::FrameDecoderError::WindowSizeTooBig { .. } => {
                    Error::TooLarge(MAX_WINDOW)
                }
                _ => Error::Damaged,
            })?;
            *at = At::Block(decoder, descriptor & 4 != 0);
            of(header.len())
        }
        At::Block(decoder, has_checksum) => {
            let Some([a, b, c]) = bytes.first_chunk::<BLOCK_HEADER>().copied() else { return Ok(None) };
            let header = u32::from_le_bytes([a, b, c, 0]);
            let (is_last, is_run) = (header & 1 == 1, header >> 1 & 3 == 1);
            let content = if is_run { 1 } else { header >> 3 };
            if content > MAX_BLOCK {
                return Err(Error::Damaged);
            }
            let length = BLOCK_HEADER.saturating_add(content as usize);
            let Some(block) = bytes.get(..length) else { return Ok(None) };
            // The decoder reads the checksum with the last block. Nobody verifies it.
            let checksum: &[u8] = if is_last && *has_checksum { &[0; 4] } else { &[] };
            let mut block = block.to_vec();
            block.extend_from_slice(checksum);
            decoder
                .decode_blocks(block.as_slice(), BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|_| Error::Damaged)?;
            if let Some(decoded) = decoder.collect().filter(|decoded| !decoded.is_empty()) {
                take(&decoded)?;
            }
            if is_last {
                *at = At::Skipped(if checksum.is_empty() { 0 } else { 4 });
            }
            Ok(Some(Step { read: length, ends_frame: is_last }))
        }
        At::Skipped(0) => {
            *at = At::Header;
            of(0)
        }
        At::Skipped(_) if bytes.is_empty() => Ok(None),
        At::Skipped(left) => {
            let skipped = bytes.len().min(*left as usize);
            *left = left.saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
            of(skipped)
        }
        At::End if bytes.is_empty() => Ok(None),
        At::End => of(bytes.len()),
    }
}

fn end(at: &mut At) -> Result<Option<Step>, Error> {
    *at = At::End;
    Ok(Some(Step { read: 0, ends_frame: false }))
}

/// The length of a frame's header with this descriptor, the magic number included (RFC 8878, section 3.1.1.1).
const fn header_len(descriptor: u8) -> usize {
    let is_single_segment = descriptor & 0x20 != 0;
    let window = if is_single_segment { 0 } else { 1 };
    let dictionary = match descriptor & 3 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let content_size = match descriptor >> 6 {
        0 if is_single_segment => 1,
        0 => 0,
        1 => 2,
        2 => 4,
        _ => 8,
    };
    5 + window + dictionary + content_size
}
