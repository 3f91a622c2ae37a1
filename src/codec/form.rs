//! Fields of a form, `application/x-www-form-urlencoded`, as the WHATWG's URL standard parses it (section 5.1).

use percent_encoding::percent_decode;
use std::borrow::Cow;

/// Whether a form has a field with a name for which `is_known` is true. Names are decoded; white space around them is
/// not a part of them.
pub fn has_field(form: &[u8], is_known: impl Fn(&str) -> bool) -> bool {
    form.split(|byte| *byte == b'&').any(|field| {
        let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
        // A longer name is none that anybody knows.
        let name: Vec<u8> =
            name.iter().take(256).map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        let name: Cow<'_, str> = percent_decode(&name).decode_utf8_lossy();
        is_known(name.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded() {
        for (form, expected) in [
            ("model=gpt-4o&x=y", true),
            ("x=y&model=gpt-4o", true),
            ("x&mod%65l", true),
            ("x=&+%20model+=", true),
            ("x=model&models=y", false),
            ("{\"model\":\"gpt-4o\"}", false),
            ("{\"x\":\"a&model=gpt-4o\"}", true),
            ("", false),
        ] {
            assert_eq!(has_field(form.as_bytes(), |name| name == "model"), expected, "{form}");
        }
    }
}
