//! Compressed answers.

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write;

/// What an answer is compressed with.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    /// The first that the request's `accept-encoding` has, gzip before deflate.
    pub(crate) fn accepted(request: &HeaderMap) -> Option<Self> {
        let accepted = request.get(header::ACCEPT_ENCODING)?.to_str().ok()?;
        if accepted.contains("gzip") {
            Some(Self::Gzip)
        } else if accepted.contains("deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }

    /// For `content-encoding`.
    pub(crate) const fn name(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Deflate => HeaderValue::from_static("deflate"),
        }
    }

    /// The pieces together, in one. Writing to memory does not fail.
    pub(crate) fn compress(self, pieces: &[Bytes]) -> Vec<Bytes> {
        let text = pieces.concat();
        let level = Compression::default();
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(&text).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&text).and_then(|()| encoder.finish())
            }
        };
        vec![compressed.unwrap_or_default().into()]
    }
}
