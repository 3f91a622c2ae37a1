//! Decodes compressed bodies for their reader, as they arrive. Whoever the body is for still gets its bytes as they
//! are.
//!
//! The codings are `gzip`, `deflate`, `br` and `zstd`, alone or one over the other (RFC 9110, section 8.4). A decoder
//! works in small steps and within [`Bounds`], so that no body can fill the VM's memory or block its worker. It does
//! not verify checksums: a body is the same to all its readers, whether they do or not.

mod brotli;
mod codings;
mod deflate;
mod gzip;
mod stage;
mod zstd;

pub use codings::{Coding, Codings, HEAD_BYTES, Unknown, narrowed};

use stage::{Stage, Stop};

/// The bytes that are decoded at a time.
const STEP: usize = 1024;

/// How much a decoder decodes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most bytes, of the body or of any coding in it.
    most: u64,
    /// The most bytes for each byte of the body, beyond [`FREE`]; none for any number.
    ratio: Option<u64>,
}

/// Decoded bytes that are no reason to look at the ratio. Even text of a single word is no larger.
const FREE: u64 = 8 << 20;

impl Bounds {
    /// Of a response, whose rest is not read beyond them.
    pub const RESPONSE: Self = Self { most: 256 << 20, ratio: None };

    /// Of a request: a body may be as large decoded as the shipped configuration lets it be without a coding. Text is
    /// rarely compressed to a twentieth, a bomb to a thousandth and less.
    pub const REQUEST: Self = Self { most: 32 << 20, ratio: Some(100) };

    /// The most bytes, of the body or of any coding in it.
    pub const fn most(self) -> u64 {
        self.most
    }

    fn check(self, read: u64, decoded: u64) -> Result<(), Fault> {
        if decoded > self.most {
            return Err(Fault::TooLarge(self.most));
        }
        match self.ratio {
            Some(ratio) if decoded > FREE.max(read.saturating_mul(ratio)) => Err(Fault::TooCompressed(ratio)),
            _ => Ok(()),
        }
    }
}

/// Why a body is not decoded further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not in this coding, or needs what this decoder does not have.
    Damaged(Coding),
    /// It has more bytes than this.
    TooLarge(u64),
    /// It has more bytes than this for each byte of the coded body.
    TooCompressed(u64),
}

/// Decodes one body.
#[derive(Debug)]
pub struct Decoder {
    /// The coding that was applied last comes first.
    stages: Vec<Stage>,
    bounds: Bounds,
    read: u64,
    decoded: u64,
    fault: Option<Fault>,
}

impl Decoder {
    /// A decoder for a response with this `content-encoding`. None if a coding is unknown.
    pub fn of_response(content_encoding: Option<&str>) -> Option<Self> {
        let codings = Codings::parse(content_encoding.unwrap_or_default()).ok()?;
        Some(Self::new(&codings, Bounds::RESPONSE))
    }

    /// A decoder for a body in these codings.
    pub fn new(codings: &Codings, bounds: Bounds) -> Self {
        let stages = codings.iter().rev().map(Stage::new).collect();
        Self { stages, bounds, read: 0, decoded: 0, fault: None }
    }

    /// Decodes a chunk and passes the result to `read`, in pieces, until `read` returns true.
    pub fn push(&mut self, chunk: &[u8], mut read: impl FnMut(&[u8]) -> bool) {
        if self.stages.is_empty() {
            read(chunk);
            return;
        }
        for step in chunk.chunks(STEP) {
            self.read = self.read.saturating_add(step.len() as u64);
            let stopped = self.step(Some(step), &mut read);
            if stopped {
                return;
            }
        }
    }

    /// The body is over: passes what is left to `read`.
    pub fn finish(&mut self, mut read: impl FnMut(&[u8]) -> bool) {
        self.step(None, &mut read);
    }

    /// Why the body is not decoded further, if it is not.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// The bytes that it has decoded.
    pub const fn decoded(&self) -> u64 {
        self.decoded
    }

    /// About how many bytes of memory the decoder holds.
    pub fn held(&self) -> u64 {
        self.stages.iter().map(Stage::held).fold(0, u64::saturating_add)
    }

    /// Whether no more is to be decoded.
    fn step(&mut self, step: Option<&[u8]>, read: &mut impl FnMut(&[u8]) -> bool) -> bool {
        if self.fault.is_some() {
            return true;
        }
        let Self { stages, bounds, read: coded, decoded, .. } = self;
        let mut check = |stage_decoded: u64| bounds.check(*coded, stage_decoded).map_err(Stop::Fault);
        let mut take = |piece: &[u8]| {
            *decoded = decoded.saturating_add(piece.len() as u64);
            if read(piece) { Err(Stop::Enough) } else { Ok(()) }
        };
        match stage::run(stages, step, &mut check, &mut take) {
            Ok(()) => false,
            Err(Stop::Enough) => true,
            Err(Stop::Fault(fault)) => {
                self.fault = Some(fault);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
