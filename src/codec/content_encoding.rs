//! Decodes compressed responses for their reader. The client still gets the bytes of the upstream.
//!
//! The codings are `gzip` and `deflate`; if tokens are limited, requests accept no others. The decoder works in small
//! steps and stops at 256 MiB, so that no response can fill the VM's memory or block its worker.

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::io::Write;

/// The bytes to decode at a time. `deflate` expands at most a thousandfold, so a step yields at most a megabyte.
const STEP: usize = 1024;

/// The number of decoded bytes after which the decoder stops.
const MAX_DECODED: u64 = 256 << 20;

/// The codings that a request may accept.
const READABLE: [&str; 4] = ["gzip", "x-gzip", "deflate", "identity"];

/// Decodes one response.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec,
    decoded: u64,
}

#[derive(Debug)]
enum Codec {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    /// `deflate` before its first byte: some servers leave out the zlib header that RFC 9110 requires.
    Deflate,
    Zlib(Box<ZlibDecoder<Vec<u8>>>),
    Bare(Box<DeflateDecoder<Vec<u8>>>),
    /// The response was damaged or too large.
    Broken,
}

impl Decoder {
    /// A decoder for a response with this `content-encoding`. None if the coding is unknown.
    pub fn new(content_encoding: Option<&str>) -> Option<Self> {
        let codec = match content_encoding.unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Codec::Identity,
            "gzip" | "x-gzip" => Codec::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            "deflate" => Codec::Deflate,
            _ => return None,
        };
        Some(Self { codec, decoded: 0 })
    }

    /// Whether the response was damaged or too large, so that the rest of it is not decoded.
    pub const fn is_broken(&self) -> bool {
        matches!(self.codec, Codec::Broken)
    }

    /// Decodes a chunk and passes the result to `read`, in pieces, until `read` returns true.
    pub fn push(&mut self, chunk: &[u8], mut read: impl FnMut(&[u8]) -> bool) {
        if let (Codec::Deflate, Some(first)) = (&self.codec, chunk.first()) {
            // The low half of a zlib header's first byte is 8. Text in bare deflate never begins like that.
            let is_zlib = first & 0x0f == 8;
            self.codec = if is_zlib {
                Codec::Zlib(Box::new(ZlibDecoder::new(Vec::new())))
            } else {
                Codec::Bare(Box::new(DeflateDecoder::new(Vec::new())))
            };
        }
        if let Codec::Identity = self.codec {
            read(chunk);
            return;
        }
        for step in chunk.chunks(STEP) {
            let decoded = match &mut self.codec {
                Codec::Gzip(gzip) => {
                    gzip.write_all(step).and_then(|()| gzip.flush()).map(|()| gzip.get_mut())
                }
                Codec::Zlib(zlib) => {
                    zlib.write_all(step).and_then(|()| zlib.flush()).map(|()| zlib.get_mut())
                }
                Codec::Bare(bare) => {
                    bare.write_all(step).and_then(|()| bare.flush()).map(|()| bare.get_mut())
                }
                Codec::Identity | Codec::Deflate | Codec::Broken => return,
            };
            let Ok(decoded) = decoded else {
                self.codec = Codec::Broken;
                return;
            };
            let decoded = std::mem::take(decoded);
            self.decoded = self.decoded.saturating_add(decoded.len() as u64);
            if read(&decoded) {
                return;
            }
            if self.decoded > MAX_DECODED {
                self.codec = Codec::Broken;
                return;
            }
        }
    }
}

/// The value to send to the upstream in place of the client's `accept-encoding`, with only those codings that the
/// filter can decode. None if the value need not change.
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
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    fn encode(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        let level = Compression::default();
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            "bare" => {
                let mut encoder = DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => bytes.to_vec(),
        }
    }

    fn decode<'c>(encoding: &str, chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<u8> {
        let mut decoder = Decoder::new(Some(if encoding == "bare" { "deflate" } else { encoding })).unwrap();
        let mut read = Vec::new();
        for chunk in chunks {
            decoder.push(chunk, |bytes| {
                read.extend_from_slice(bytes);
                false
            });
        }
        read
    }

    #[test]
    fn an_unknown_coding_has_no_decoder() {
        assert!(Decoder::new(Some("br")).is_none());
        assert!(Decoder::new(Some("gzip, br")).is_none());
        assert!(Decoder::new(None).is_some() && Decoder::new(Some(" GZIP ")).is_some());
    }

    #[test]
    fn a_chunk_is_decoded_to_its_end() {
        let event = b"data: {\"choices\":[]}\n\n";
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(event).unwrap();
        encoder.flush().unwrap();
        assert_eq!(
            decode("gzip", [encoder.get_ref().as_slice()]),
            event,
            "the decoder returns an event without waiting for the next"
        );
    }

    #[test]
    fn a_damaged_response_ends_the_decoding() {
        let mut bytes = encode("gzip", &[b'x'; 5_000]);
        bytes[12] ^= 0xff;
        decode("gzip", bytes.chunks(7));
        assert_eq!(decode("gzip", [&b"not gzip at all"[..]]), b"");
    }

    #[test]
    fn a_bomb_is_decoded_in_steps_up_to_the_maximum() {
        let bomb = encode("gzip", &vec![0; (MAX_DECODED + MAX_DECODED / 4) as usize]);
        let mut decoder = Decoder::new(Some("gzip")).unwrap();
        let (mut largest, mut total) = (0, 0u64);
        for chunk in bomb.chunks(16 << 10) {
            decoder.push(chunk, |bytes| {
                (largest, total) = (largest.max(bytes.len()), total + bytes.len() as u64);
                false
            });
        }
        assert!(largest <= 2 << 20, "{largest}");
        assert!(total < MAX_DECODED + (2 << 20), "{total}");
    }

    #[test]
    fn only_known_codings_are_accepted() {
        assert_eq!(narrowed("gzip, deflate, br, zstd").as_deref(), Some("gzip, deflate"));
        assert_eq!(narrowed("br;q=1.0, gzip;q=0.8, *;q=0.1").as_deref(), Some("gzip;q=0.8"));
        assert_eq!(narrowed("br").as_deref(), Some("identity"));
        assert_eq!(narrowed("").as_deref(), Some("identity"));
        assert_eq!(narrowed("gzip, deflate"), None);
        assert_eq!(narrowed("identity"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_decodes_to_the_whole(
            encoding in prop::sample::select(vec!["identity", "gzip", "deflate", "bare"]),
            text in "[a-e {}\":\n]{0,4000}",
            size in 1usize..300,
        ) {
            let bytes = encode(encoding, text.as_bytes());
            prop_assert_eq!(decode(encoding, bytes.chunks(size)), text.as_bytes());
        }
    }
}
