//! UTF-8 that may be malformed.
//!
//! Each malformed sequence is U+FFFD, with one exception: some readers do not check that a character is written in as
//! few bytes as possible (Jackson's), and read `C1 AD` as `m`. So letters and digits that are written too long are read
//! as what they are.

/// Calls `each` with the text in `carry` and `chunk` together, in pieces. Returns the bytes of a character that the
/// chunk's end cuts off.
pub(super) fn read(carry: &[u8], chunk: &[u8], each: &mut impl FnMut(&str)) -> Vec<u8> {
    if carry.is_empty() {
        return read_joined(chunk, each);
    }
    // Four bytes are enough to end any character.
    let (begin, rest) = chunk.split_at_checked(4).unwrap_or((chunk, &[]));
    let mut joined = carry.to_vec();
    joined.extend_from_slice(begin);
    let left = read_joined(&joined, each);
    if rest.is_empty() {
        return left;
    }
    let kept = left.len().min(begin.len());
    let again = chunk.get(begin.len().saturating_sub(kept)..).unwrap_or_default();
    read_joined(again, each)
}

fn read_joined(bytes: &[u8], each: &mut impl FnMut(&str)) -> Vec<u8> {
    let mut rest = bytes;
    loop {
        let fault = match std::str::from_utf8(rest) {
            Ok(text) => {
                each(text);
                return Vec::new();
            }
            Err(fault) => fault,
        };
        let (valid, after) = rest.split_at_checked(fault.valid_up_to()).unwrap_or((rest, &[]));
        each(std::str::from_utf8(valid).unwrap_or_default());
        let length = match (overlong(after), fault.error_len()) {
            (Overlong::Letter(letter, length), _) => {
                each(letter.encode_utf8(&mut [0; 4]));
                length
            }
            (Overlong::CutOff, _) | (Overlong::No, None) => return after.to_vec(),
            (Overlong::No, Some(length)) => {
                each("\u{FFFD}");
                length
            }
        };
        rest = after.get(length..).unwrap_or_default();
    }
}

/// A character of ASCII in more than one byte.
enum Overlong {
    No,
    /// It may become one: more bytes must come.
    CutOff,
    /// A letter, a digit or a low line, and the number of its bytes.
    Letter(char, usize),
}

fn overlong(bytes: &[u8]) -> Overlong {
    let in_two = |high: u8, low: u8| -> Option<char> {
        let is_tail = low & 0xC0 == 0x80;
        let letter = char::from((high & 1) << 6 | low & 0x3F);
        (is_tail && (letter.is_ascii_alphanumeric() || letter == '_')).then_some(letter)
    };
    match bytes {
        [0xC0 | 0xC1] | [0xE0] | [0xE0, 0x80 | 0x81] => Overlong::CutOff,
        [high @ (0xC0 | 0xC1), low, ..] => {
            in_two(*high, *low).map_or(Overlong::No, |letter| Overlong::Letter(letter, 2))
        }
        [0xE0, high @ (0x80 | 0x81), low, ..] => {
            in_two(*high, *low).map_or(Overlong::No, |letter| Overlong::Letter(letter, 3))
        }
        _ => Overlong::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> (String, Vec<u8>) {
        let mut text = String::new();
        let left = read(&[], bytes, &mut |piece| text.push_str(piece));
        (text, left)
    }

    #[test]
    fn letters_in_too_many_bytes_are_letters() {
        assert_eq!(text(b"\xC1\xADodel"), ("model".to_owned(), vec![]));
        assert_eq!(text(b"\xE0\x81\xADax\xC1\x9Ftokens"), ("max_tokens".to_owned(), vec![]));
        assert_eq!(text(b"a\xC0\xA2b"), ("a\u{FFFD}\u{FFFD}b".to_owned(), vec![]), "no quote");
        assert_eq!(text(b"a\xC1"), ("a".to_owned(), vec![0xC1]));
        assert_eq!(text(b"a\xC1b"), ("a\u{FFFD}b".to_owned(), vec![]));
    }
}
