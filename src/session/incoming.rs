//! The body of a request while it comes: read at its end, and decoded as it comes if it is in a coding.
//!
//! The upstream gets the body as it came. A body of more than [`SMALL`] bytes is not read here but in steps
//! ([`super::reading`]). Decoded bytes take memory that the client chooses, so the bodies of one worker that are on
//! their way hold [`MAX_HELD`] together, and each decodes no more than [`DECODED`] bytes at a time; whatever comes
//! beyond that is decoded at its end, in steps.

use super::held::{Held, MAX_HELD, Share};
use crate::answer::refusal::BadBody;
use crate::codec::content_encoding::{Bounds, Codings, Decoder, Fault as CodingFault, HEAD_BYTES};
use crate::codec::loose_json::Fault;
use std::ops::Range;

/// The most bytes of a body that is read at once, as it came and decoded: 64 KiB. Counting them takes a few
/// milliseconds.
pub(super) const SMALL: usize = 64 * 1024;

/// The bytes that are decoded at a time, and perhaps those of one step of the decoder more.
const DECODED: usize = 128 * 1024;

/// The bytes of a body that are decoded at a time, at most.
const CODED: usize = 64 * 1024;

/// The bytes after which the decoder is asked how much it has decoded.
const CODED_STEP: usize = 1024;

/// Reads some bytes of what has come of a body.
pub type Buffer<'a> = dyn Fn(Range<usize>) -> Vec<u8> + 'a;

/// A body on its way.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It is read at its end.
    Plain,
    /// It is decoded.
    Coded(Codings, Option<Decoding>),
    /// It is not read.
    Bad(BadBody),
}

/// A body that has come.
#[derive(Debug)]
pub(super) enum Arrived {
    /// As it came.
    Plain(Vec<u8>),
    /// Decoded, with the body as it came.
    Decoded { decoded: Vec<u8>, as_sent: Vec<u8> },
    /// Nobody can tell what it says.
    Bad {
        bad: BadBody,
        /// The size in bytes, if that is known.
        size: Option<u64>,
        /// The body as it came, which an upstream reads that does not mind its headers.
        as_sent: Vec<u8>,
    },
    /// Too large to be read at once.
    Large(Incoming),
}

/// What has come of a body, decoded.
#[derive(Debug)]
pub(super) struct Decoding {
    decoder: Decoder,
    decoded: Vec<u8>,
    /// Bytes of the body that were decoded.
    read: usize,
    /// Bytes of `decoded` that were taken.
    taken: usize,
    is_finished: bool,
    share: Share,
}

impl Incoming {
    /// The body of a request with these values of `content-encoding` and `content-type`, empty where there are none.
    pub(super) fn new(content_encoding: &str, content_type: &str, held: &Held) -> Self {
        let codings = match Codings::parse(content_encoding) {
            Ok(codings) => codings,
            Err(_) => return Self::Bad(BadBody::UnknownCoding),
        };
        // Who reads the parts of such a body does not read what comes before the first.
        if is_of_type(content_type, "multipart/") {
            return Self::Bad(BadBody::Unreadable(Fault::whole("expected JSON, found a body in parts")));
        }
        if let Some(charset) = foreign_charset(content_type) {
            let fault = Fault::whole(format!("expected JSON in Unicode, found the charset {charset:?}"));
            return Self::Bad(BadBody::Unreadable(fault));
        }
        if codings.is_empty() {
            return Self::Plain;
        }
        let decoding = Decoding::new(&codings, held);
        Self::Coded(codings, Some(decoding))
    }

    /// The whole `body`, decoded, however large it is.
    pub(super) fn read(self, body: &[u8]) -> Result<Vec<u8>, BadBody> {
        let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
        let codings = match self.corrected(&buffer, body.len()) {
            Self::Plain => return Ok(body.to_vec()),
            Self::Bad(bad) => return Err(bad),
            Self::Coded(codings, _) => codings,
        };
        let mut decoding = Decoding::new(&codings, &Held::default());
        let mut decoded = Vec::new();
        while !decoding.is_over() {
            decoding.step(&buffer, body.len())?;
            decoded.extend(decoding.take(usize::MAX).unwrap_or_default());
        }
        Ok(decoded)
    }

    /// Why the body is not read, if it is not.
    pub(super) const fn bad(&self) -> Option<&BadBody> {
        match self {
            Self::Bad(bad) => Some(bad),
            Self::Plain | Self::Coded(..) => None,
        }
    }

    /// A part of the body came, `size` bytes so far.
    #[must_use]
    pub(super) fn push(self, buffer: &Buffer<'_>, size: usize) -> Self {
        if matches!(self, Self::Plain) {
            // Its end is soon enough.
            return self;
        }
        match self.corrected(buffer, size) {
            // Nobody knows its coding for certain.
            other if size < HEAD_BYTES => other,
            Self::Coded(codings, Some(decoding)) => match decoding.push(buffer, size) {
                Ok(decoding) => Self::Coded(codings, decoding),
                Err(bad) => Self::Bad(bad),
            },
            other => other,
        }
    }

    /// The same, in the coding that its first bytes show, if nothing has been decoded.
    fn corrected(self, buffer: &Buffer<'_>, size: usize) -> Self {
        let head = || buffer(0..size.min(HEAD_BYTES));
        match self {
            Self::Plain => {
                let codings = Codings::default().corrected(&head());
                if codings.is_empty() { Self::Plain } else { Self::Coded(codings, None) }
            }
            Self::Coded(codings, Some(decoding)) if decoding.read == 0 => {
                let corrected = codings.clone().corrected(&head());
                let is_right = corrected == codings;
                Self::Coded(corrected, is_right.then_some(decoding))
            }
            other => other,
        }
    }

    /// The body is whole.
    pub(super) fn finish(self, buffer: &Buffer<'_>, size: usize) -> Arrived {
        let is_small = size <= SMALL;
        if is_small && matches!(self, Self::Plain) {
            let bytes = buffer(0..size);
            let codings = Codings::default().corrected(&bytes);
            if codings.is_empty() {
                return Arrived::Plain(bytes);
            }
            return Self::Coded(codings, None).finish(buffer, size);
        }
        match self.corrected(buffer, size) {
            Self::Coded(codings, decoding) if is_small => {
                let mut decoding = decoding.unwrap_or_else(|| Decoding::new(&codings, &Held::default()));
                match decoding.decode_small(buffer, size) {
                    Ok(Some(decoded)) => Arrived::Decoded { decoded, as_sent: buffer(0..size) },
                    Ok(None) => Arrived::Large(Self::Coded(codings, Some(decoding))),
                    Err(bad) => Arrived::Bad { bad, size: None, as_sent: buffer(0..size) },
                }
            }
            Self::Bad(bad) if is_small => {
                let as_sent = buffer(0..size);
                let size = matches!(bad, BadBody::Unreadable(_)).then_some(as_sent.len() as u64);
                Arrived::Bad { bad, size, as_sent }
            }
            large => Arrived::Large(large),
        }
    }
}

impl Decoding {
    pub(super) fn new(codings: &Codings, held: &Held) -> Self {
        Self {
            decoder: Decoder::new(codings, Bounds::REQUEST),
            decoded: Vec::new(),
            read: 0,
            taken: 0,
            is_finished: false,
            share: held.share(),
        }
    }

    /// Decodes what has come, or some of it; none if it holds too much for now.
    fn push(mut self, buffer: &Buffer<'_>, size: usize) -> Result<Option<Self>, BadBody> {
        if self.read < size {
            self.decode(buffer, size)?;
        }
        self.share.set((self.decoded.len() as u64).saturating_add(self.decoder.held()));
        Ok((self.share.of_all() <= MAX_HELD).then_some(self))
    }

    /// Decodes all of a body, if there is little.
    fn decode_small(&mut self, buffer: &Buffer<'_>, size: usize) -> Result<Option<Vec<u8>>, BadBody> {
        if self.read < size {
            self.decode(buffer, size)?;
        }
        if self.read < size || self.decoded.len() > SMALL {
            return Ok(None);
        }
        self.decode(buffer, size)?;
        Ok((self.decoded.len() <= SMALL).then(|| std::mem::take(&mut self.decoded)))
    }

    /// Decodes some more of a body that is whole, unless enough of it waits to be taken. Returns the work that this
    /// was.
    pub(super) fn step(&mut self, buffer: &Buffer<'_>, size: usize) -> Result<u64, BadBody> {
        if self.taken < self.decoded.len() {
            return Ok(0);
        }
        self.decoded.clear();
        self.taken = 0;
        let before = self.read;
        self.decode(buffer, size)?;
        let coded = self.read.saturating_sub(before);
        Ok(1 + (self.decoded.len().saturating_add(coded) / 4) as u64)
    }

    /// The next decoded bytes, at most so many; none if more must be decoded first.
    pub(super) fn take(&mut self, most: usize) -> Option<&[u8]> {
        let rest = self.decoded.get(self.taken..).filter(|rest| !rest.is_empty())?;
        let taken = rest.get(..most.min(rest.len()))?;
        self.taken = self.taken.saturating_add(taken.len());
        Some(taken)
    }

    /// Whether all was decoded, and taken.
    pub(super) const fn is_over(&self) -> bool {
        self.is_finished && self.taken >= self.decoded.len()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn held(&self) -> u64 {
        (self.decoded.capacity() as u64).saturating_add(self.decoder.held())
    }

    /// Decodes some of what has come; or, if that was decoded, what the end of the body leaves.
    fn decode(&mut self, buffer: &Buffer<'_>, size: usize) -> Result<(), BadBody> {
        let decoded = &mut self.decoded;
        let mut take = |piece: &[u8]| {
            decoded.extend_from_slice(piece);
            false
        };
        if self.read >= size {
            if !std::mem::replace(&mut self.is_finished, true) {
                self.decoder.finish(take);
            }
            return self.decoder.fault().map_or(Ok(()), |fault| Err(bad_body(fault)));
        }
        let chunk = buffer(self.read..size.min(self.read.saturating_add(CODED)));
        if chunk.is_empty() {
            // There is less than was said.
            self.read = size;
        }
        let mut left = DECODED;
        for step in chunk.chunks(CODED_STEP) {
            let before = decoded_len(&self.decoder);
            self.decoder.push(step, &mut take);
            self.read = self.read.saturating_add(step.len());
            self.decoder.fault().map_or(Ok(()), |fault| Err(bad_body(fault)))?;
            left = left.saturating_sub(decoded_len(&self.decoder).saturating_sub(before));
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// The bytes that have been decoded so far.
fn decoded_len(decoder: &Decoder) -> usize {
    usize::try_from(decoder.decoded()).unwrap_or(usize::MAX)
}

fn bad_body(fault: CodingFault) -> BadBody {
    match fault {
        CodingFault::Damaged(coding) => BadBody::Unreadable(Fault::whole(format!(
            "expected the content coding {coding}, found other bytes"
        ))),
        CodingFault::TooLarge(most) => BadBody::TooLarge(most),
        CodingFault::TooCompressed(ratio) => BadBody::TooCompressed(ratio),
    }
}

/// Whether a `content-type` says that the body is a form.
pub(super) fn is_form(content_type: &str) -> bool {
    is_of_type(content_type, "application/x-www-form-urlencoded")
}

/// Whether a `content-type`, or one of several that Envoy has joined, begins with `media_type`.
fn is_of_type(content_type: &str, media_type: &str) -> bool {
    content_type.split(',').any(|one| {
        let begin = one.trim_start().get(..media_type.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(media_type))
    })
}

/// The `charset` of a `content-type`, if JSON's own characters have other bytes in it than in ASCII, or may be a part
/// of others. Readers find UTF-16 and UTF-32 by the bytes themselves.
fn foreign_charset(content_type: &str) -> Option<&str> {
    const FAMILIES: [&str; 11] = [
        "utf-8",
        "utf8",
        "utf-16",
        "utf16",
        "utf-32",
        "utf32",
        "us-ascii",
        "ascii",
        "iso-8859-",
        "latin1",
        "windows-125",
    ];
    let parameters = content_type.split(';').skip(1);
    let mut charsets = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then_some(value)
    });
    charsets.find(|charset| {
        let begins =
            |family: &str| charset.get(..family.len()).is_some_and(|s| s.eq_ignore_ascii_case(family));
        !FAMILIES.iter().any(|family| begins(family))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::cell::Cell;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn charsets_in_which_json_looks_different_are_not_read() {
        for (content_type, expected) in [
            ("application/json", None),
            ("application/json; charset=UTF-8", None),
            ("application/json;charset=\"utf-16le\"; x=y", None),
            ("text/plain; Charset = ISO-8859-1", None),
            ("application/json; charset=", None),
            ("application/json; charset=utf-7", Some("utf-7")),
            ("application/json; charset=utf-8; charset=cp037", Some("cp037")),
            ("application/json; charset='gbk'", Some("gbk")),
        ] {
            assert_eq!(foreign_charset(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn a_body_is_in_the_coding_that_its_bytes_show() {
        let text = r#"{"model":"gpt-4o"}"#.repeat(100);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(text.as_bytes()).unwrap();
        let zlib = zlib.finish().unwrap();
        let gzip_of = gzip(&zlib);
        let gzip = gzip(text.as_bytes());
        for (header, body) in [
            ("", &gzip),
            ("identity", &gzip),
            ("deflate", &gzip),
            ("zstd", &gzip),
            ("gzip", &zlib),
            ("", &zlib),
            ("deflate, deflate", &gzip_of),
        ] {
            for step in [1, 3, 7, 10_000] {
                let buffer = |range: Range<usize>| body.get(range).unwrap_or_default().to_vec();
                let mut incoming = Incoming::new(header, "application/json", &Held::default());
                for size in (1..body.len()).step_by(step) {
                    incoming = incoming.push(&buffer, size);
                }
                let arrived = incoming.finish(&buffer, body.len());
                let Arrived::Decoded { decoded, as_sent } = arrived else { panic!("{header} {arrived:?}") };
                assert_eq!((decoded, &as_sent), (text.clone().into_bytes(), body), "{header} {step}");
            }
        }
        let plain = |_: Range<usize>| b"{x".to_vec();
        assert!(matches!(Incoming::Plain.finish(&plain, 2), Arrived::Plain(_)));
    }

    #[test]
    fn forms_and_parts_are_found_by_their_type() {
        assert!(is_form("application/X-WWW-form-urlencoded; charset=utf-8"));
        assert!(is_form("application/json, application/x-www-form-urlencoded"));
        assert!(!is_form("application/json") && !is_form(""));
        for content_type in ["Multipart/form-data; boundary=b", "application/json,multipart/mixed"] {
            assert!(Incoming::new("", content_type, &Held::default()).bad().is_some(), "{content_type}");
        }
    }

    #[test]
    fn a_coded_body_is_decoded_as_it_comes_and_never_twice() {
        let body = gzip(b"{\"model\":\"gpt-4o\"}");
        let held = Held::default();
        let mut incoming = Incoming::new("gzip", "", &held);
        let furthest = Cell::new(0);
        for end in HEAD_BYTES + 1..=body.len() {
            let buffer = |range: Range<usize>| {
                // The first bytes show the coding, too.
                if furthest.get() > 0 || range.len() > HEAD_BYTES {
                    assert_eq!(range, furthest.replace(end)..end, "every byte is read once");
                }
                body[range].to_vec()
            };
            incoming = incoming.push(&buffer, end);
        }
        assert!(held.all() > 0);
        let Arrived::Decoded { decoded, as_sent } =
            incoming.finish(&|range| body[range].to_vec(), body.len())
        else {
            panic!("decoded")
        };
        assert_eq!(as_sent, body);
        assert_eq!((decoded.as_slice(), held.all()), (&b"{\"model\":\"gpt-4o\"}"[..], 0));
    }

    #[test]
    fn a_body_is_small_if_it_is_so_in_its_coding_and_decoded() {
        let of = |coding, body: &[u8]| {
            let incoming = Incoming::new(coding, "", &Held::default());
            !matches!(incoming.finish(&|range| body[range].to_vec(), body.len()), Arrived::Large(_))
        };
        assert!(of("", &vec![b'a'; SMALL]) && !of("", &vec![b'a'; SMALL + 1]));
        assert!(of("gzip", &gzip(&vec![b'a'; SMALL])) && !of("gzip", &gzip(&vec![b'a'; SMALL + 1])));
    }

    #[test]
    fn a_body_decodes_little_at_a_time() {
        let text = vec![b'a'; 6 << 20];
        let body = gzip(&text);
        let incoming = Incoming::new("gzip", "", &Held::default());
        let Arrived::Large(Incoming::Coded(_, Some(mut decoding))) =
            incoming.finish(&|range| body[range].to_vec(), body.len())
        else {
            panic!("large")
        };
        let mut decoded = 0;
        while !decoding.is_over() {
            while let Some(piece) = decoding.take(1_000_000) {
                // One step of the decoder may decode a thousand times its bytes.
                assert!(
                    piece.len() <= DECODED + CODED_STEP * 1_032 && piece.iter().all(|byte| *byte == b'a')
                );
                decoded += piece.len();
            }
            decoding.step(&|range| body[range].to_vec(), body.len()).unwrap();
        }
        assert_eq!(decoded, text.len());
    }

    #[test]
    fn bodies_that_hold_too_much_together_are_decoded_at_their_end() {
        let body = gzip(&vec![b'a'; 6 << 20]);
        let held = Held::default();
        let mut all: Vec<_> = (0..30).map(|_| Incoming::new("gzip", "", &held)).collect();
        for _ in 0..100 {
            let push = |incoming: Incoming| incoming.push(&|range| body[range].to_vec(), body.len());
            all = all.into_iter().map(push).collect();
        }
        let decoding = all.iter().filter(|incoming| matches!(incoming, Incoming::Coded(_, Some(_)))).count();
        assert!((15..22).contains(&decoding) && held.all() <= MAX_HELD, "{decoding}");
        drop(all);
        assert_eq!(held.all(), 0, "clients that leave hold nothing");
    }

    #[test]
    fn what_cannot_be_decoded_is_bad() {
        let of = |coding, bytes: &'static [u8]| {
            let incoming = Incoming::new(coding, "", &Held::default());
            match incoming.finish(&|range| bytes.get(range).unwrap_or_default().to_vec(), bytes.len()) {
                Arrived::Bad { bad, size, .. } => (bad.reason(), size),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of("compress", b"{}"), ("encoding", None));
        assert_eq!(of("br", b"\xFF{}"), ("unreadable", None));
        let incoming = Incoming::new("", "application/json;charset=utf-7", &Held::default());
        assert_eq!(incoming.bad().map(BadBody::reason), Some("unreadable"));
        let Arrived::Bad { size, as_sent, .. } = incoming.finish(&|_| b"+AHs-".to_vec(), 5) else {
            panic!("bad")
        };
        assert_eq!((size, as_sent), (Some(5), b"+AHs-".to_vec()));
    }
}
