//! gzip (RFC 1952): members one after the other. Whatever comes after them is not read, as by most readers.

use super::deflate::Inflate;
use super::stage::{Error, Take};

/// A gzip file.
#[derive(Debug, Default)]
pub(super) struct Gzip {
    at: At,
    /// Whether a member has ended.
    has_member: bool,
}

/// Where in a member the next byte is.
#[derive(Debug)]
enum At {
    Header(Header),
    Body(Inflate),
    /// Before so many bytes of checksum and length.
    Trailer(u8),
    /// After the last member.
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Header(Header::default())
    }
}

impl Gzip {
    pub(super) fn push(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), Error> {
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            match &mut self.at {
                At::Header(header) => {
                    rest = after;
                    match header.push(*byte) {
                        Some(true) => self.at = At::Body(Inflate::default()),
                        Some(false) if self.has_member => self.at = At::End,
                        Some(false) => return Err(Error::Damaged),
                        None => {}
                    }
                }
                At::Body(inflate) => {
                    let Some(left) = inflate.push(rest, take)? else { return Ok(()) };
                    (rest, self.at) = (left, At::Trailer(8));
                }
                At::Trailer(left) => {
                    rest = after;
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        (self.at, self.has_member) = (At::default(), true);
                    }
                }
                At::End => return Ok(()),
            }
        }
        Ok(())
    }
}

/// The header of a member, byte by byte.
#[derive(Debug, Default)]
struct Header {
    part: Part,
    flags: u8,
}

/// A part of a header.
#[derive(Debug)]
enum Part {
    /// The ten bytes that every header has, before this one.
    Fixed(usize),
    /// The length of the extra field, before its first or second byte.
    ExtraLength(Option<u8>),
    /// So many bytes of the extra field.
    Extra(u16),
    /// Up to a zero.
    Name,
    Comment,
    /// So many bytes of a checksum.
    Checksum(u8),
}

impl Default for Part {
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl Header {
    const CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;

    /// Whether the header ends with `byte`, or is none; nothing if it goes on.
    fn push(&mut self, byte: u8) -> Option<bool> {
        match &mut self.part {
            Part::Fixed(at) => {
                match (*at, byte) {
                    (0, 0x1F) | (1, 0x8B) | (2, 8) | (4..=8, _) => {}
                    (3, flags) => self.flags = flags,
                    (9, _) => return self.after(0),
                    _ => return Some(false),
                }
                *at = at.saturating_add(1);
                None
            }
            Part::ExtraLength(low @ None) => {
                *low = Some(byte);
                None
            }
            Part::ExtraLength(Some(low)) => match u16::from_le_bytes([*low, byte]) {
                0 => self.after(Self::EXTRA),
                length => {
                    self.part = Part::Extra(length);
                    None
                }
            },
            Part::Extra(left) => {
                *left = left.saturating_sub(1);
                if *left == 0 { self.after(Self::EXTRA) } else { None }
            }
            Part::Name if byte == 0 => self.after(Self::NAME),
            Part::Comment if byte == 0 => self.after(Self::COMMENT),
            Part::Name | Part::Comment => None,
            Part::Checksum(left) => {
                *left = left.saturating_sub(1);
                if *left == 0 { Some(true) } else { None }
            }
        }
    }

    /// Goes on to the part after the one with this flag.
    fn after(&mut self, flag: u8) -> Option<bool> {
        let parts = [
            (Self::EXTRA, Part::ExtraLength(None)),
            (Self::NAME, Part::Name),
            (Self::COMMENT, Part::Comment),
        ];
        for (next, part) in parts {
            if next > flag && self.flags & next != 0 {
                self.part = part;
                return None;
            }
        }
        if self.flags & Self::CHECKSUM == 0 {
            return Some(true);
        }
        self.part = Part::Checksum(2);
        None
    }
}
