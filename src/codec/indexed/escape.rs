//! Escapes in the strings of a JSON text that is known to be well-formed.

/// Adds to `into` what `raw` stands for: a part of a string, without its quotes, that ends in no escape and between no
/// two halves of a surrogate pair.
pub(super) fn unescape(raw: &str, into: &mut String) {
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        into.push_str(plain);
        let mut after = escape.chars();
        match after.next() {
            Some('u') => {
                let (first, left) = unit(after.as_str());
                let second = left.strip_prefix("\\u").map(unit);
                match (char::from_u32(first), second) {
                    (Some(c), _) => {
                        into.push(c);
                        rest = left;
                    }
                    (None, Some((low, left))) => {
                        let pair = char::decode_utf16([first as u16, low as u16]);
                        into.extend(pair.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
                        rest = left;
                    }
                    (None, None) => {
                        into.push(char::REPLACEMENT_CHARACTER);
                        rest = left;
                    }
                }
                continue;
            }
            Some(c) => into.push(match c {
                'b' => '\u{8}',
                'f' => '\u{C}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            None => {}
        }
        rest = after.as_str();
    }
    into.push_str(rest);
}

/// The number of four digits, and what comes after them.
fn unit(digits: &str) -> (u32, &str) {
    let (digits, rest) = digits.split_at_checked(4).unwrap_or((digits, ""));
    (u32::from_str_radix(digits, 16).unwrap_or(0), rest)
}
