//! Compressed answers.

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write;

/// The compression of an answer.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    /// The one that the request's `accept-encoding` allows, gzip before deflate.
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

    /// The one of an answer that is compressed whatever the request allows.
    pub(crate) fn of_everything(request: &HeaderMap) -> Self {
        Self::accepted(request).unwrap_or(Self::Gzip)
    }

    /// Its name in `content-encoding`.
    pub(crate) const fn name(self) -> HeaderValue {
        match self {
            Self::Gzip => HeaderValue::from_static("gzip"),
            Self::Deflate => HeaderValue::from_static("deflate"),
        }
    }

    /// Compresses all pieces into one. Writing to memory does not fail.
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
