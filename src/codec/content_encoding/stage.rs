//! One coding of a body, and the chain that several make.

use super::Fault;
use super::brotli::Brotli;
use super::codings::Coding;
use super::deflate::Deflate;
use super::gzip::Gzip;
use super::zstd::Zstd;

/// About the bytes that a stage holds from its beginning on.
const FIXED_BYTES: u64 = 64 << 10;

/// Why nothing more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The reader has read enough.
    Enough,
    Fault(Fault),
}

/// Takes decoded bytes.
pub(super) type Take<'t> = dyn FnMut(&[u8]) -> Result<(), Stop> + 't;

/// One coding of a body.
#[derive(Debug)]
pub(super) struct Stage {
    coding: Coding,
    decoder: Decoder,
    /// Bytes that it has decoded.
    decoded: u64,
}

#[derive(Debug)]
enum Decoder {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Zstd),
}

/// The bytes are not in the coding that they should be in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Error {
    Damaged,
    /// They need more memory than a reader must have.
    TooLarge(u64),
    Stop(Stop),
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl Stage {
    pub(super) fn new(coding: Coding) -> Self {
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(Gzip::default()),
            Coding::Deflate => Decoder::Deflate(Deflate::default()),
            Coding::Brotli => Decoder::Brotli(Brotli::default()),
            Coding::Zstd => Decoder::Zstd(Zstd::default()),
        };
        Self { coding, decoder, decoded: 0 }
    }

    /// About how many bytes it holds: its window is no larger than what it has decoded.
    pub(super) fn held(&self) -> u64 {
        let window = match self.coding {
            Coding::Gzip | Coding::Deflate => 0,
            Coding::Brotli | Coding::Zstd => 16 << 20,
        };
        FIXED_BYTES.saturating_add(self.decoded.min(window))
    }

    /// Decodes the next bytes; none if there are no more.
    fn push(&mut self, bytes: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), Error> {
        match (&mut self.decoder, bytes) {
            (Decoder::Gzip(gzip), Some(bytes)) => gzip.push(bytes, take),
            (Decoder::Deflate(deflate), Some(bytes)) => deflate.push(bytes, take),
            (Decoder::Deflate(deflate), None) => deflate.finish(take),
            (Decoder::Brotli(brotli), Some(bytes)) => brotli.push(bytes, take),
            (Decoder::Zstd(zstd), Some(bytes)) => zstd.push(bytes, take),
            (Decoder::Zstd(zstd), None) => zstd.finish(take),
            (Decoder::Gzip(_) | Decoder::Brotli(_), None) => Ok(()),
        }
    }
}

/// Sends `bytes` through `stages`, one after the other; none if there are no more. `check` learns how many bytes each
/// stage has decoded so far, and `take` takes what the last one decodes.
pub(super) fn run(
    stages: &mut [Stage],
    bytes: Option<&[u8]>,
    check: &mut dyn FnMut(u64) -> Result<(), Stop>,
    take: &mut Take<'_>,
) -> Result<(), Stop> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        return bytes.map_or(Ok(()), |bytes| {
            check(bytes.len() as u64)?;
            take(bytes)
        });
    };
    let (coding, mut decoded) = (stage.coding, stage.decoded);
    let mut next = |piece: &[u8]| {
        decoded = decoded.saturating_add(piece.len() as u64);
        check(decoded)?;
        if rest.is_empty() { take(piece) } else { run(rest, Some(piece), check, take) }
    };
    let result = stage.push(bytes, &mut next).map_err(|error| match error {
        Error::Damaged => Stop::Fault(Fault::Damaged(coding)),
        Error::TooLarge(most) => Stop::Fault(Fault::TooLarge(most)),
        Error::Stop(stop) => stop,
    });
    stage.decoded = decoded;
    result?;
    if bytes.is_none() && !rest.is_empty() { run(rest, None, check, take) } else { Ok(()) }
}
