//! Base64 in a JSON string, the form in which clients send images, audio and files. It is decoded in place, never
//! copied, and only as far as a caller reads.
//!
//! The decoder reads the string with its JSON escapes, because unescaping would copy it: some clients write `\/` for
//! every `/` and `\u002B` for every `+`. Nothing checks that all of it is base64.

/// The longest prefix of a data URL, in bytes: `data:`, a media type with parameters, `;base64,`.
const MAX_PREFIX_BYTES: usize = 256;

/// A payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'b> {
    /// Base64, which may contain JSON's escapes.
    base64: &'b str,
}

impl<'b> Payload<'b> {
    /// The payload of a JSON string of base64 or of a data URL, with or without its quotes. Also the media type, if it
    /// is a data URL.
    pub(super) fn read(raw: &'b str) -> (Option<String>, Self) {
        Self::in_url(raw).map_or_else(
            || (None, Self { base64: raw.trim_matches('"') }),
            |(media_type, payload)| (Some(media_type), payload),
        )
    }

    /// The payload of a data URL of base64, a JSON string, and its media type in lower case. None for other addresses.
    pub(super) fn in_url(raw: &'b str) -> Option<(String, Self)> {
        let url = raw.trim_matches('"');
        let prefix = url.as_bytes().get(..url.len().min(MAX_PREFIX_BYTES))?;
        let (prefix, base64) = url.split_at_checked(memchr::memchr(b',', prefix)? + 1)?;
        let prefix: Vec<u8> = Unescaped(prefix).collect();
        let prefix = String::from_utf8(prefix).ok()?.to_ascii_lowercase();
        let media_type = prefix.strip_prefix("data:")?.strip_suffix(";base64,")?;
        let media_type = media_type.split(';').next().unwrap_or_default().to_owned();
        Some((media_type, Self { base64 }))
    }

    /// Its length when decoded, in bytes; a little too long if it has escapes.
    pub(super) const fn bytes_len(self) -> u64 {
        (self.base64.len() as u64 * 3).div_ceil(4)
    }

    /// Its decoded bytes, up to the first character that is not base64. Decodes no more than the caller takes.
    pub(super) const fn bytes(self) -> Bytes<'b> {
        Bytes { base64: Unescaped(self.base64), bits: 0, unread: 0 }
    }
}

/// Decoded bytes.
#[derive(Clone, Debug)]
pub(super) struct Bytes<'b> {
    base64: Unescaped<'b>,
    /// The bits read so far. The lowest `unread` of them have not been returned.
    bits: u32,
    unread: u32,
}

impl Iterator for Bytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        while self.unread < 8 {
            let digit = match self.base64.next()? {
                digit @ b'A'..=b'Z' => digit.wrapping_sub(b'A'),
                digit @ b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(26),
                digit @ b'0'..=b'9' => digit.wrapping_sub(b'0').wrapping_add(52),
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                _ => return None,
            };
            self.bits = self.bits << 6 | u32::from(digit);
            self.unread += 6;
        }
        self.unread -= 8;
        Some((self.bits >> self.unread) as u8)
    }
}

/// The bytes of a JSON string, unescaped. Ends at an escape outside ASCII.
#[derive(Clone, Debug)]
struct Unescaped<'b>(&'b str);

impl Unescaped<'_> {
    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let byte = *self.0.as_bytes().first()?;
        if byte != b'\\' {
            self.skip(1)?;
            return Some(byte);
        }
        let escaped = *self.0.as_bytes().get(1)?;
        if escaped == b'u' {
            let unit = u32::from_str_radix(self.0.get(2..6)?, 16).ok()?;
            self.skip(6)?;
            return u8::try_from(unit).ok().filter(u8::is_ascii);
        }
        self.skip(2)?;
        Some(match escaped {
            b'n' | b'r' | b't' => b'\n',
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &str) -> Vec<u8> {
        Payload::read(raw).1.bytes().collect()
    }

    #[test]
    fn base64_is_decoded_as_clients_write_it() {
        for (raw, bytes) in [
            ("aGVsbG8=", &b"hello"[..]),
            ("\"aGVsbG8\"", b"hello"),
            (r"\/+8=", b"\xFF\xEF"),
            (r"\u002f\u002B8=", b"\xFF\xEF"),
            ("_-8", b"\xFF\xEF"),
            (r"aGVs\nbG8=", b"hello"),
            ("aGV!bG8=", b"he"),
            (r"aGV\u00e9", b"he"),
            (r"aGV\", b"he"),
            (r"aGV\u00", b"he"),
            ("é", b""),
            ("", b""),
        ] {
            assert_eq!(decoded(raw), bytes, "{raw}");
        }
        assert_eq!(Payload::read("aGVsbG8=").1.bytes_len(), 6);
    }

    #[test]
    fn data_urls_have_a_media_type() {
        for (raw, media_type) in [
            ("data:image/png;base64,aGk=", Some("image/png")),
            (r#""data:image\/png;base64,aGk=""#, Some("image/png")),
            ("DATA:Image/JPEG;charset=x;BASE64,aGk=", Some("image/jpeg")),
            ("data:;base64,aGk=", Some("")),
            ("data:image/svg+xml,%3Csvg", None),
            ("https://example.com/data:image/png;base64,aGk=", None),
            ("data:image/png;base64", None),
            ("", None),
        ] {
            let found = Payload::in_url(raw);
            assert_eq!(found.as_ref().map(|(media_type, _)| media_type.as_str()), media_type, "{raw}");
            if let Some((_, payload)) = found {
                assert_eq!(payload.bytes().collect::<Vec<_>>(), b"hi");
            }
        }
        let (unknown, _) = Payload::read(&"é".repeat(1000));
        assert_eq!(unknown, None);
    }
}
