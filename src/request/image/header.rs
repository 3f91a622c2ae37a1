//! Width and height from the header of a PNG, JPEG, GIF or WebP image.
//!
//! Sources: PNG (RFC 2083, section 4.1.1), JPEG (ITU-T T.81, annex B), GIF89a (section 18), WebP (RFC 9649, sections
//! 2.5 to 2.7 and 3.4). An orientation in the metadata is ignored: an image that is turned costs the same.

use super::Size;

/// The most bytes of a JPEG to search for its frame: thumbnails and colour profiles may come before it.
const MAX_SEARCHED_BYTES: usize = 256 * 1024;

/// The longest header of fixed layout, in bytes: WebP's.
const FIXED_BYTES: usize = 30;

/// The size of the image that begins with `bytes`.
pub(super) fn size(mut bytes: impl Iterator<Item = u8>) -> Option<Size> {
    let head = Head(bytes.by_ref().take(FIXED_BYTES).collect());
    let (width, height) = match head.0.as_slice() {
        [0xFF, 0xD8, ..] => jpeg(head.0.into_iter().chain(bytes).take(MAX_SEARCHED_BYTES).skip(2))?,
        [0x89, b'P', b'N', b'G', ..] => (head.big_endian(16, 4)?, head.big_endian(20, 4)?),
        [b'G', b'I', b'F', b'8', ..] => (head.little_endian(6, 2)?, head.little_endian(8, 2)?),
        [b'R', b'I', b'F', b'F', ..] if head.is(8, b"WEBP") => webp(&head)?,
        _ => return None,
    };
    (width > 0 && height > 0).then_some(Size { width, height })
}

/// Reads the segments of a JPEG up to its frame, which has a marker from FFC0 to FFCF.
fn jpeg(mut bytes: impl Iterator<Item = u8>) -> Option<(u32, u32)> {
    loop {
        if bytes.next()? != 0xFF {
            return None;
        }
        // Any number of fill bytes may come before a marker.
        let marker = bytes.find(|byte| *byte != 0xFF)?;
        match marker {
            // Markers without a segment.
            0x01 | 0xD0..=0xD7 => continue,
            // The image's data, or its end.
            0xD9 | 0xDA => return None,
            _ => {}
        }
        let mut number = || Some(u32::from(bytes.next()?) << 8 | u32::from(bytes.next()?));
        let length = number()?;
        // Three markers in the range define tables, not frames.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            bytes.next()?;
            let mut number = || Some(u32::from(bytes.next()?) << 8 | u32::from(bytes.next()?));
            let height = number()?;
            return Some((number()?, height));
        }
        // The length includes its own two bytes.
        let rest = usize::try_from(length.checked_sub(2)?).ok()?;
        if let Some(last) = rest.checked_sub(1) {
            bytes.nth(last)?;
        }
    }
}

fn webp(head: &Head) -> Option<(u32, u32)> {
    if head.is(12, b"VP8X") {
        let less_one = |at| head.little_endian(at, 3).map(|number| number + 1);
        return Some((less_one(24)?, less_one(27)?));
    }
    if head.is(12, b"VP8L") {
        let bits = head.little_endian(21, 4)?;
        return Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1));
    }
    // The two highest bits are a hint for displaying the image.
    head.is(12, b"VP8 ").then_some(())?;
    Some((head.little_endian(26, 2)? & 0x3FFF, head.little_endian(28, 2)? & 0x3FFF))
}

/// The first bytes of an image.
struct Head(Vec<u8>);

impl Head {
    fn is(&self, at: usize, name: &[u8; 4]) -> bool {
        self.0.get(at..at + 4) == Some(name)
    }

    fn big_endian(&self, at: usize, bytes: usize) -> Option<u32> {
        let bytes = self.0.get(at..at + bytes)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn little_endian(&self, at: usize, bytes: usize) -> Option<u32> {
        let bytes = self.0.get(at..at + bytes)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR\0\0\x07\x80\0\0\x04\x38\x08\x06\0\0\0";
    const GIF: &[u8] = b"GIF89a\x2C\x01\xC8\0\xF7\0\0";
    const LOSSY: &[u8] = b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0\x30\x01\0\x9D\x01\x2A\x2C\x41\xC8\0";
    const LOSSLESS: &[u8] = b"RIFF\x24\0\0\0WEBPVP8L\x18\0\0\0\x2F\x2B\xC1\x31\0";
    const EXTENDED: &[u8] = b"RIFF\x24\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x2B\x01\0\xC7\0\0";
    /// An EXIF segment, a fill byte, a table, and a progressive frame.
    const JPEG: &[u8] =
        b"\xFF\xD8\xFF\xE1\0\x06Exif\xFF\xFF\xC4\0\x03\0\xFF\xC2\0\x11\x08\x01\x2C\x02\x58\x03";

    fn read(bytes: &[u8]) -> Option<(u32, u32)> {
        size(bytes.iter().copied()).map(|size| (size.width, size.height))
    }

    #[test]
    fn headers_of_each_format_are_read() {
        for (image, expected) in [
            (PNG, (1920, 1080)),
            (GIF, (300, 200)),
            (LOSSY, (300, 200)),
            (LOSSLESS, (300, 200)),
            (EXTENDED, (300, 200)),
            (JPEG, (600, 300)),
        ] {
            assert_eq!(read(image), Some(expected));
        }
    }

    #[test]
    fn other_bytes_and_images_that_are_cut_off_have_no_size() {
        for other in
            [&b""[..], b"%PDF-1.7", b"RIFF\x24\0\0\0WAVEfmt ", b"\xFF\xD8\xFF\xD9", b"\xFF\xD8\xFF\xE1\0\0"]
        {
            assert_eq!(read(other), None);
        }
        for (image, needed) in [(PNG, 24), (GIF, 10), (LOSSY, 30), (LOSSLESS, 25), (EXTENDED, 30)] {
            assert_eq!(read(&image[..needed - 1]), None);
            assert!(read(&image[..needed]).is_some());
        }
        let nothing = [&PNG[..16], &[0; 8]].concat();
        assert_eq!(read(&nothing), None, "no image is empty");
    }

    #[test]
    fn a_frame_is_found_after_metadata_unless_there_is_too_much_of_it() {
        let segment = [&[0xFF, 0xE2, 0xFF, 0xFF], &[0; 0xFFFD][..]].concat();
        let with = |segments| [&JPEG[..2], &segment.repeat(segments), &JPEG[2..]].concat();
        assert_eq!(read(&with(3)), Some((600, 300)));
        assert_eq!(read(&with(5)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            image in prop::sample::select(vec![PNG, GIF, LOSSY, LOSSLESS, EXTENDED, JPEG]),
            kept in any::<prop::sample::Index>(),
            rest in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            read(&[&image[..=kept.index(image.len())], &rest].concat());
        }
    }
}
