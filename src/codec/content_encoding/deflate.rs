//! DEFLATE, with the zlib header that RFC 9110 requires or without it.

use super::stage::{Error, Take};
use flate2::{Decompress, FlushDecompress, Status};

/// How many bytes are decoded at a time.
const BUFFER: usize = 16 << 10;

/// A DEFLATE stream (RFC 1951).
#[derive(Debug)]
pub(super) struct Inflate {
    stream: Decompress,
    buffer: Vec<u8>,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { stream: Decompress::new(false), buffer: vec![0; BUFFER] }
    }
}

impl Inflate {
    /// Decodes `bytes`; returns those after the end of the stream, if it has ended.
    pub(super) fn push<'b>(
        &mut self,
        bytes: &'b [u8],
        take: &mut Take<'_>,
    ) -> Result<Option<&'b [u8]>, Error> {
        let mut rest = bytes;
        loop {
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress(rest, &mut self.buffer, FlushDecompress::Sync);
            let status = status.map_err(|_| Error::Damaged)?;
            let read = usize::try_from(self.stream.total_in() - read).unwrap_or(usize::MAX);
            let written = usize::try_from(self.stream.total_out() - written).unwrap_or(usize::MAX);
            rest = rest.get(read..).unwrap_or_default();
            if let Some(decoded) = self.buffer.get(..written)
                && !decoded.is_empty()
            {
                take(decoded)?;
            }
            if status == Status::StreamEnd {
                return Ok(Some(rest));
            }
            if rest.is_empty() && written < self.buffer.len() {
                return Ok(None);
            }
            if read == 0 && written == 0 {
                // The stream cannot go on.
                return Err(Error::Damaged);
            }
        }
    }
}

/// The coding `deflate`.
#[derive(Debug)]
pub(super) enum Deflate {
    /// The first bytes, which say whether there is a header.
    Unbegun(Vec<u8>),
    Begun(Inflate),
    /// What follows is the checksum, and nothing that any reader reads.
    Ended,
}

/// Bytes that say whether there is a header.
const HEAD: usize = 5;

impl Default for Deflate {
    fn default() -> Self {
        Self::Unbegun(Vec::new())
    }
}

impl Deflate {
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), Error> {
        match self {
            Self::Unbegun(head) => {
                head.extend_from_slice(bytes);
                if head.len() >= HEAD { self.begin(take) } else { Ok(()) }
            }
            Self::Begun(inflate) => {
                if inflate.push(bytes, take)?.is_some() {
                    *self = Self::Ended;
                }
                Ok(())
            }
            Self::Ended => Ok(()),
        }
    }

    pub(super) fn finish(&mut self, take: &mut Take<'_>) -> Result<(), Error> {
        if matches!(self, Self::Unbegun(_)) { self.begin(take) } else { Ok(()) }
    }

    fn begin(&mut self, take: &mut Take<'_>) -> Result<(), Error> {
        let Self::Unbegun(head) = std::mem::replace(self, Self::Begun(Inflate::default())) else {
            return Ok(());
        };
        let header = header_len(&head)?;
        self.push(head.get(header..).unwrap_or_default(), take)
    }
}

/// The length of the zlib header that `head` begins with: two bytes or none.
fn header_len(head: &[u8]) -> Result<usize, Error> {
    let [method, flags, rest @ ..] = head else { return Ok(0) };
    // The low half is 8, and both are a multiple of 31 (RFC 1950, section 2.2).
    let is_zlib = method & 0x0F == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31);
    if !is_zlib {
        return Ok(0);
    }
    // The same bytes may begin a stored block, whose length comes twice. Then readers differ on what they mean. Nor
    // does anybody know a dictionary.
    let is_stored =
        matches!(rest, [high, low_again, high_again, ..] if *low_again == !flags && *high_again == !high);
    if is_stored || flags & 0x20 != 0 { Err(Error::Damaged) } else { Ok(2) }
}
