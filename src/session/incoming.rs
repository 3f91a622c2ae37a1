//! The body of a request while it comes: read at its end, and decoded as it comes if it is in a coding.
//!
//! The upstream gets the body as it came. Decoded bytes take memory that the client chooses, so the bodies of one
//! worker that are on their way hold [`MAX_HELD`] together; whatever comes beyond that is decoded at its end.

use crate::answer::refusal::BadBody;
use crate::codec::content_encoding::{Bounds, Codings, Decoder, Fault as CodingFault};
use crate::codec::loose_json::Fault;
use std::cell::Cell;
use std::rc::Rc;

/// The bytes that bodies on their way hold in a worker, decoded, at most: 128 MiB.
const MAX_HELD: u64 = 128 << 20;

/// Bytes that the bodies of a worker hold.
#[derive(Clone, Debug, Default)]
pub struct Held(Rc<Cell<u64>>);

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
}

/// What has come of a body, decoded.
#[derive(Debug)]
pub(super) struct Decoding {
    decoder: Decoder,
    decoded: Vec<u8>,
    /// Bytes of the body that were decoded.
    read: usize,
    share: Share,
}

/// The part of [`Held`] that one body holds, for as long as it does.
#[derive(Debug)]
struct Share {
    held: Held,
    bytes: u64,
}

impl Share {
    fn set(&mut self, bytes: u64) {
        let others = self.held.0.get().saturating_sub(self.bytes);
        self.held.0.set(others.saturating_add(bytes));
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
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

    /// Why the body is not read, if it is not.
    pub(super) const fn bad(&self) -> Option<&BadBody> {
        match self {
            Self::Bad(bad) => Some(bad),
            Self::Plain | Self::Coded(..) => None,
        }
    }

    /// A part of the body came: `buffer` reads all that has come, from a byte on.
    #[must_use]
    pub(super) fn push(self, buffer: &dyn Fn(usize) -> Vec<u8>) -> Self {
        match self {
            Self::Coded(codings, Some(decoding)) => match decoding.push(buffer) {
                Ok(decoding) => Self::Coded(codings, decoding),
                Err(bad) => Self::Bad(bad),
            },
            other => other,
        }
    }

    /// The body is whole.
    pub(super) fn finish(self, buffer: &dyn Fn(usize) -> Vec<u8>) -> Arrived {
        match self {
            Self::Plain => Arrived::Plain(buffer(0)),
            Self::Coded(codings, decoding) => {
                let decoding = decoding.unwrap_or_else(|| Decoding::new(&codings, &Held::default()));
                match decoding.finish(buffer) {
                    Ok(decoded) => Arrived::Decoded { decoded, as_sent: buffer(0) },
                    Err(bad) => Arrived::Bad { bad, size: None, as_sent: buffer(0) },
                }
            }
            Self::Bad(bad) => {
                let as_sent = buffer(0);
                let size = matches!(bad, BadBody::Unreadable(_)).then_some(as_sent.len() as u64);
                Arrived::Bad { bad, size, as_sent }
            }
        }
    }
}

impl Decoding {
    fn new(codings: &Codings, held: &Held) -> Self {
        let share = Share { held: held.clone(), bytes: 0 };
        Self { decoder: Decoder::new(codings, Bounds::REQUEST), decoded: Vec::new(), read: 0, share }
    }

    /// Decodes what has come; none if it holds too much for now.
    fn push(mut self, buffer: &dyn Fn(usize) -> Vec<u8>) -> Result<Option<Self>, BadBody> {
        self.decode(buffer)?;
        self.share.set((self.decoded.len() as u64).saturating_add(self.decoder.held()));
        Ok((self.share.held.0.get() <= MAX_HELD).then_some(self))
    }

    fn finish(mut self, buffer: &dyn Fn(usize) -> Vec<u8>) -> Result<Vec<u8>, BadBody> {
        self.decode(buffer)?;
        let decoded = &mut self.decoded;
        self.decoder.finish(|piece| {
            decoded.extend_from_slice(piece);
            false
        });
        self.decoder.fault().map_or(Ok(()), |fault| Err(bad_body(fault)))?;
        Ok(std::mem::take(&mut self.decoded))
    }

    fn decode(&mut self, buffer: &dyn Fn(usize) -> Vec<u8>) -> Result<(), BadBody> {
        let chunk = buffer(self.read);
        self.read = self.read.saturating_add(chunk.len());
        let decoded = &mut self.decoded;
        self.decoder.push(&chunk, |piece| {
            decoded.extend_from_slice(piece);
            false
        });
        self.decoder.fault().map_or(Ok(()), |fault| Err(bad_body(fault)))
    }
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
        for end in 1..=body.len() {
            let buffer = |from: usize| {
                assert_eq!(from, furthest.replace(end), "every byte is read once");
                body[from..end].to_vec()
            };
            incoming = incoming.push(&buffer);
        }
        assert!(held.0.get() > 0);
        let Arrived::Decoded { decoded, as_sent } = incoming.finish(&|from| body[from..].to_vec()) else {
            panic!("decoded")
        };
        assert_eq!(as_sent, body);
        assert_eq!((decoded.as_slice(), held.0.get()), (&b"{\"model\":\"gpt-4o\"}"[..], 0));
    }

    #[test]
    fn bodies_that_hold_too_much_together_are_decoded_at_their_end() {
        let text = vec![b'a'; 6 << 20];
        let body = gzip(&text);
        let held = Held::default();
        let mut all: Vec<_> = (0..30).map(|_| Incoming::new("gzip", "", &held)).collect();
        all = all.into_iter().map(|incoming| incoming.push(&|from| body[from..].to_vec())).collect();
        let decoding = all.iter().filter(|incoming| matches!(incoming, Incoming::Coded(_, Some(_)))).count();
        assert!((15..22).contains(&decoding) && held.0.get() <= MAX_HELD, "{decoding}");
        for incoming in all {
            let Arrived::Decoded { decoded, .. } = incoming.finish(&|from| body[from..].to_vec()) else {
                panic!("decoded")
            };
            assert_eq!(decoded.len(), text.len());
        }
        assert_eq!(held.0.get(), 0);
        drop(Incoming::new("gzip", "", &held).push(&|from| body[from..].to_vec()));
        assert_eq!(held.0.get(), 0, "a client that leaves holds nothing");
    }

    #[test]
    fn what_cannot_be_decoded_is_bad() {
        let of = |coding, bytes: &'static [u8]| {
            let incoming = Incoming::new(coding, "", &Held::default());
            match incoming.finish(&|from| bytes.get(from..).unwrap_or_default().to_vec()) {
                Arrived::Bad { bad, size, .. } => (bad.reason(), size),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(of("compress", b"{}"), ("unknown_coding", None));
        assert_eq!(of("br", b"\xFF{}"), ("unreadable", None));
        let incoming = Incoming::new("", "application/json;charset=utf-7", &Held::default());
        assert_eq!(incoming.bad().map(BadBody::reason), Some("unreadable"));
        let Arrived::Bad { size, as_sent, .. } = incoming.finish(&|_| b"+AHs-".to_vec()) else {
            panic!("bad")
        };
        assert_eq!((size, as_sent), (Some(5), b"+AHs-".to_vec()));
    }
}
