//! Every coding, in any chunks; damage; bombs. The files in `tests/data/codings` come from zlib, brotli and libzstd.

use super::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// A meta-block of bytes as they are, and an empty last one (RFC 7932, section 9.2).
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut coded = vec![0x0C];
    for chunk in bytes.chunks(1 << 16) {
        // Not the last, four nibbles, the length less one, uncompressed: 20 bits after those of the window's size.
        let header = (chunk.len() as u32 - 1) << 3 | 1 << 19;
        coded.extend_from_slice(&header.to_le_bytes()[..3]);
        coded.extend_from_slice(chunk);
    }
    coded.push(3);
    coded
}

fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => gzip(bytes),
        "deflate" => zlib(bytes),
        "bare" => bare(bytes),
        "zstd" => zstd(bytes),
        _ => bytes.to_vec(),
    }
}

fn decoder(coding: &str, bounds: Bounds) -> Decoder {
    let name = if coding == "bare" { "deflate" } else { coding };
    Decoder::new(&Codings::parse(name).unwrap(), bounds)
}

/// The decoded bytes, and why there are no more.
fn decoded<'c>(coding: &str, chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<u8>, Option<Fault>) {
    let (mut decoder, mut read) = (decoder(coding, Bounds::REQUEST), Vec::new());
    for chunk in chunks {
        decoder.push(chunk, |bytes| {
            read.extend_from_slice(bytes);
            false
        });
    }
    decoder.finish(|bytes| {
        read.extend_from_slice(bytes);
        false
    });
    (read, decoder.fault())
}

fn whole(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let (read, fault) = decoded(coding, [bytes]);
    assert_eq!(fault, None, "{coding}");
    read
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/codings").join(name)).unwrap()
}

#[test]
fn what_other_encoders_wrote_is_read() {
    let chat = whole("gzip", &file("chat.json.gz"));
    assert!(chat.len() > 100_000 && chat.starts_with(b"{\"model\""));
    for (name, coding) in [("chat.json.br", "br"), ("chat.json.zst", "zstd"), ("frames.json.zst", "zstd")] {
        let bytes = file(name);
        for size in [1, 7, 1_000, bytes.len()] {
            assert_eq!(
                decoded(coding, bytes.chunks(size)),
                (chat.clone(), None),
                "{name} in chunks of {size}"
            );
        }
        let cut = decoded(coding, [&bytes[..bytes.len() / 2]]).0;
        assert!(chat.starts_with(&cut) && cut.len() > 30_000, "{name}: {}", cut.len());
    }
}

#[test]
fn codings_over_codings_are_read() {
    let text = b"{\"model\":\"gpt-4o\"}".repeat(50);
    let coded = zstd(&gzip(&gzip(&bare(&text))));
    assert_eq!(whole("deflate, gzip, x-gzip, zstd", &coded), text);
    assert_eq!(decoded("deflate,gzip,x-gzip,zstd", coded.chunks(1)), (text, None));
    assert_eq!(whole("identity", b"{}"), b"{}");
}

#[test]
fn an_unknown_coding_has_no_decoder() {
    assert!(Decoder::of_response(Some("compress")).is_none());
    assert!(Decoder::of_response(Some("gzip, compress")).is_none());
    assert!(Decoder::of_response(None).is_some() && Decoder::of_response(Some(" GZIP ")).is_some());
}

#[test]
fn a_chunk_is_decoded_to_its_end() {
    let event = b"data: {\"choices\":[]}\n\n";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(event).unwrap();
    encoder.flush().unwrap();
    let mut read = Vec::new();
    decoder("gzip", Bounds::RESPONSE).push(encoder.get_ref(), |bytes| {
        read.extend_from_slice(bytes);
        false
    });
    assert_eq!(read, event, "an event does not wait for the next");
}

#[test]
fn every_part_of_a_gzip_header_is_skipped() {
    let body = gzip(b"hello");
    let header =
        |flags: u8, parts: &[u8]| [&[0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 3], parts, &body[10..]].concat();
    for (flags, parts) in [
        (0, &b""[..]),
        (1, b""),
        (2, b"\x01\x02"),
        (4, b"\0\0"),
        (4, b"\x03\0abc"),
        (8, b"name\0"),
        (16, b"comment\0"),
        (31, b"\x01\0anamed\0commented\0\x01\x02"),
    ] {
        assert_eq!(whole("gzip", &header(flags, parts)), b"hello", "{flags}");
    }
}

/// Readers differ on what follows a whole body, and none reads it as a part of the body.
#[test]
fn members_and_frames_follow_each_other_and_nothing_else_is_read() {
    for coding in ["gzip", "zstd"] {
        let twice = [encoded(coding, b"hello "), encoded(coding, b"world")].concat();
        assert_eq!(whole(coding, &twice), b"hello world");
    }
    for coding in ["gzip", "deflate", "bare", "zstd"] {
        let followed = [encoded(coding, b"hello"), b"and more".to_vec()].concat();
        assert_eq!(whole(coding, &followed), b"hello", "{coding}");
        assert_eq!(decoded(coding, followed.chunks(1)), (b"hello".to_vec(), None), "{coding}");
    }
    assert_eq!(whole("br", &[brotli(b"hello"), b"and more".to_vec()].concat()), b"hello");
}

#[test]
fn damage_ends_the_reading() {
    for (coding, damaged) in
        [("gzip", Coding::Gzip), ("bare", Coding::Deflate), ("zstd", Coding::Zstd), ("br", Coding::Brotli)]
    {
        let (read, fault) = decoded(coding, [&b"\xFF not coded at all"[..]]);
        assert_eq!((read.as_slice(), fault), (&b""[..], Some(Fault::Damaged(damaged))), "{coding}");
    }
    let mut bytes = gzip(&[b'x'; 5_000]);
    bytes[12] ^= 0xFF;
    assert!(decoded("gzip", bytes.chunks(7)).1.is_some());
    let (read, fault) = decoded("gzip, gzip", [&*gzip(b"not gzip")]);
    assert_eq!((read, fault), (vec![], Some(Fault::Damaged(Coding::Gzip))));
}

/// Bytes that begin a stored block as well as they begin a zlib stream, and a stream with a dictionary.
#[test]
fn what_readers_may_read_in_two_ways_is_not_read() {
    for bytes in [&[0x78, 0x9C, 0, 0x63, 0xFF, b'x'][..], &[0x78, 0xBB, 1, 2, 3, 4, 5]] {
        assert_eq!(decoded("deflate", [bytes]), (vec![], Some(Fault::Damaged(Coding::Deflate))));
    }
}

#[test]
fn a_window_that_needs_too_much_memory_is_too_large() {
    // A window of 128 MiB.
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0, 0x88, 9, 0, 0, b'x'];
    assert_eq!(decoded("zstd", [&frame[..]]), (vec![], Some(Fault::TooLarge(8 << 20))));
}

#[test]
fn a_bomb_is_decoded_in_steps_up_to_its_bounds() {
    let megabytes = |bytes: &[u8], megabytes: usize| bytes.repeat(megabytes << 20);
    let zeros = megabytes(b"\0", 40);
    let run = zstd(&zeros);
    for (coding, bomb) in [
        ("gzip", gzip(&zeros)),
        ("deflate", zlib(&zeros)),
        ("gzip, gzip", gzip(&gzip(&zeros))),
        ("gzip, zstd", zstd(&gzip(&zeros))),
        ("zstd", run),
    ] {
        let (mut decoder, mut total) = (decoder(coding, Bounds::REQUEST), 0);
        for chunk in bomb.chunks(1_000) {
            decoder.push(chunk, |bytes| {
                total += bytes.len();
                false
            });
        }
        assert_eq!(decoder.fault(), Some(Fault::TooCompressed(100)), "{coding}");
        assert!(total <= 9 << 20, "{coding}: {total}");
    }
    // Bytes that cannot be compressed much.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3] & 0x3F
    });
    let large: Vec<u8> = noise.take(1 << 20).collect::<Vec<_>>().repeat(33);
    for (coding, bytes) in [("gzip", gzip(&large)), ("br", brotli(&large))] {
        let (read, fault) = decoded(coding, [&*bytes]);
        assert_eq!(fault, Some(Fault::TooLarge(32 << 20)), "{coding}");
        assert!(read.len() <= 32 << 20);
    }
    // What is no larger than text can be is no bomb.
    let text = megabytes(b"a", 6);
    assert_eq!(whole("gzip", &gzip(&text)), text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_decodes_to_the_whole(
        coding in prop::sample::select(vec!["identity", "gzip", "deflate", "bare", "zstd"]),
        text in "[a-e {}\":\n]{0,4000}",
        size in 1_usize..300,
    ) {
        let bytes = encoded(coding, text.as_bytes());
        prop_assert_eq!(decoded(coding, bytes.chunks(size)), (text.into_bytes(), None));
    }

    #[test]
    fn no_damage_panics(
        name in prop::sample::select(vec!["chat.json.gz", "chat.json.br", "chat.json.zst", "frames.json.zst"]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in 100_usize..20_000,
    ) {
        let coding = match name.rsplit('.').next() {
            Some("gz") => "gzip",
            Some("br") => "br",
            _ => "zstd",
        };
        let mut bytes = file(name);
        bytes.truncate(kept);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let (read, _) = decoded(coding, bytes.chunks(512));
        prop_assert!(read.len() <= 33 << 20);
    }

    #[test]
    fn no_bytes_panic(
        coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        magic in any::<bool>(),
    ) {
        let begin: &[u8] = match coding {
            "gzip" => &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3],
            "deflate" => &[0x78, 0x9C],
            "zstd" => &[0x28, 0xB5, 0x2F, 0xFD],
            _ => &[],
        };
        let bytes = if magic { [begin, &bytes].concat() } else { bytes };
        decoded(coding, [&*bytes]);
    }
}
