//! The codings that a header names.

use std::fmt;

/// Codings one over the other, at most: a reader applies each, and no honest writer needs more than one or two.
const MAX_CODINGS: usize = 8;

/// The codings that the filter asks upstreams for.
const READABLE: [&str; 4] = ["gzip", "x-gzip", "deflate", "identity"];

/// The bytes at the beginning of a body that show its coding.
pub const HEAD_BYTES: usize = 4;

/// A coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951: some leave out the header that RFC 9110 requires.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// The coding of bytes that begin with `head`, of which [`HEAD_BYTES`] are enough, if they show it. No JSON begins
    /// so.
    fn from_head(head: &[u8]) -> Option<Self> {
        match head {
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            // RFC 1950, section 2.2: a window of 32 KiB, and a check of both bytes.
            [0x78, flags, ..] if u16::from_be_bytes([0x78, *flags]).is_multiple_of(31) => Some(Self::Deflate),
            _ => None,
        }
    }

    /// The coding called `name`; `None` for `identity`, which changes nothing.
    fn from_name(name: &str) -> Option<Option<Self>> {
        Some(match name.to_ascii_lowercase().as_str() {
            "identity" => None,
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => return None,
        })
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        })
    }
}

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

/// A `content-encoding` that names an unknown coding, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

impl Codings {
    /// The codings that the value of a `content-encoding` names: a list, in which there may be white space and empty
    /// elements, and case does not matter (RFC 9110, sections 5.6.1 and 8.4).
    ///
    /// # Errors
    /// One of them is unknown, or they are too many.
    pub fn parse(content_encoding: &str) -> Result<Self, Unknown> {
        let names = content_encoding.split(',').map(|name| name.trim_matches([' ', '\t']));
        let codings =
            names.filter(|name| !name.is_empty()).map(|name| Coding::from_name(name).ok_or(Unknown));
        let codings: Vec<Coding> = codings.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        if codings.len() > MAX_CODINGS { Err(Unknown) } else { Ok(Self(codings)) }
    }

    /// The codings of a body that begins with `head`: those that the header names, unless the bytes say that the last
    /// one is another. Decoders that find out the coding by themselves take it for that, whatever the header says.
    #[must_use]
    pub fn corrected(mut self, head: &[u8]) -> Self {
        let Some(found) = Coding::from_head(head) else { return self };
        match self.0.last_mut() {
            // Its streams may begin with any bytes.
            Some(Coding::Brotli) => {}
            Some(last) => *last = found,
            None => self.0.push(found),
        }
        self
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The codings, the first first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Coding> {
        self.0.iter().copied()
    }
}

/// The value to send to the upstream in place of the client's `accept-encoding`: the codings in it that the filter asks
/// for. None if the value need not change.
pub fn narrowed(accept_encoding: &str) -> Option<String> {
    let is_readable = |offer: &&str| {
        let name = offer.split(';').next().unwrap_or_default().trim();
        READABLE.iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let offers: Vec<&str> =
        accept_encoding.split(',').map(str::trim).filter(|offer| !offer.is_empty()).collect();
    let kept: Vec<&str> = offers.iter().copied().filter(is_readable).collect();
    match kept.len() {
        0 => Some("identity".to_owned()),
        n if n == offers.len() => None,
        _ => Some(kept.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_named_as_rfc_9110_allows() {
        use Coding::{Brotli, Deflate, Gzip, Zstd};
        for (value, expected) in [
            ("", Ok(vec![])),
            ("identity", Ok(vec![])),
            ("GZip", Ok(vec![Gzip])),
            ("x-gzip", Ok(vec![Gzip])),
            (" \tbr\t ", Ok(vec![Brotli])),
            (",, deflate ,identity,\tZSTD,", Ok(vec![Deflate, Zstd])),
            ("gzip,gzip", Ok(vec![Gzip, Gzip])),
            ("gzip, compress", Err(Unknown)),
            ("gzip;q=1", Err(Unknown)),
            ("gzip br", Err(Unknown)),
            ("gzip,gzip,gzip,gzip,gzip,gzip,gzip,gzip,gzip", Err(Unknown)),
        ] {
            assert_eq!(Codings::parse(value), expected.map(Codings), "{value:?}");
        }
    }

    #[test]
    fn only_known_codings_are_asked_for() {
        assert_eq!(narrowed("gzip, deflate, br, zstd").as_deref(), Some("gzip, deflate"));
        assert_eq!(narrowed("br;q=1.0, gzip;q=0.8, *;q=0.1").as_deref(), Some("gzip;q=0.8"));
        assert_eq!(narrowed("br").as_deref(), Some("identity"));
        assert_eq!(narrowed("").as_deref(), Some("identity"));
        assert_eq!(narrowed("gzip, deflate"), None);
        assert_eq!(narrowed("identity"), None);
    }
}
