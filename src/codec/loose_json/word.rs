//! Words without quotes: numbers and literals in every spelling that some reader takes, and other words, which are
//! strings.

use super::writer::Writer;

/// Whether `c` ends a word.
pub(super) fn ends_word(c: char) -> bool {
    c.is_whitespace() || c <= ' ' || matches!(c, ',' | ';' | ':' | '=' | '{' | '}' | '[' | ']' | '/' | '#')
}

/// Writes a word that is a value.
pub(super) fn write_value(word: &str, writer: &mut Writer) {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "true" | "false" | "null" => writer.word(&lower),
        // No number of JSON stands for these.
        "undefined" | "nan" | "+nan" | "-nan" => writer.word("null"),
        "inf" | "+inf" | "-inf" | "infinity" | "+infinity" | "-infinity" => writer.word("null"),
        _ => match decimal(&lower).or_else(|| hexadecimal(&lower)) {
            Some(number) => writer.word(&number),
            None => write_string(word, writer),
        },
    }
}

/// Writes a word that is a string or a name. JSON5 allows escapes in names.
pub(super) fn write_string(word: &str, writer: &mut Writer) {
    writer.quote(true);
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("\\u") {
        writer.text(before);
        let digits = after.get(..4).unwrap_or_default();
        match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
            Some(c) => writer.text(c.encode_utf8(&mut [0; 4])),
            None => writer.text("\u{FFFD}"),
        }
        rest = after.get(digits.len()..).unwrap_or_default();
    }
    writer.text(rest);
    writer.quote(false);
}

/// A decimal number as JSON writes it: without a plus, without zeros before it, with digits on both sides of its point.
fn decimal(word: &str) -> Option<String> {
    let (sign, digits) = signed(word);
    let (mantissa, exponent) = digits.split_once('e').map_or((digits, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let mut number = format!("{sign}{}", if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        number.push('.');
        number.push_str(fraction);
    }
    if let Some(exponent) = exponent {
        let (sign, digits) = signed(exponent);
        if digits.is_empty() || !are_digits(digits) {
            return None;
        }
        number.push('e');
        number.push_str(sign);
        number.push_str(digits);
    }
    // serde_json refuses what no double holds.
    let is_too_large = number.parse().is_ok_and(f64::is_infinite);
    Some(if is_too_large { format!("{sign}1e308") } else { number })
}

fn hexadecimal(word: &str) -> Option<String> {
    let (sign, digits) = signed(word);
    let digits = digits.strip_prefix("0x")?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(format!("{sign}{}", u64::from_str_radix(digits, 16).unwrap_or(u64::MAX)))
}

/// The sign to write, and the rest.
fn signed(number: &str) -> (&str, &str) {
    match number.split_at_checked(1) {
        Some(("-", rest)) => ("-", rest),
        Some(("+", rest)) => ("", rest),
        _ => ("", number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_json_writes_them() {
        for (word, expected) in [
            ("7", Some("7")),
            ("-0", Some("-0")),
            ("+7", Some("7")),
            ("007", Some("7")),
            (".5", Some("0.5")),
            ("5.", Some("5")),
            ("1.50e+03", Some("1.50e03")),
            ("1e-3", Some("1e-3")),
            ("-1e999", Some("-1e308")),
            ("0x1f", Some("31")),
            ("-0xffffffffffffffffff", Some("-18446744073709551615")),
            ("", None),
            (".", None),
            ("-", None),
            ("1e", None),
            ("1e+", None),
            ("0x", None),
            ("1_000", None),
            ("nan", None),
            ("infinity", None),
        ] {
            assert_eq!(decimal(word).or_else(|| hexadecimal(word)).as_deref(), expected, "{word}");
        }
    }
}
