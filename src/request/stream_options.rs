//! The option that asks for a stream's usage, in texts that may name it: errors of upstreams, and bodies of clients.

use memchr::memmem;

/// The option's name.
const NAME: &[u8] = b"stream_options";

/// The largest body that is searched, in bytes: 1 MiB.
const MAX_SEARCHED: usize = 1 << 20;

/// Whether an upstream's error names the option.
pub fn names_stream_options(error: &[u8]) -> bool {
    memmem::find(error, NAME).is_some()
}

/// Whether an error that repeats a part of `body` may name the option: because the body does, or hides its characters
/// behind escapes, or is too large to search.
pub fn mentions_stream_options(body: &[u8]) -> bool {
    body.len() > MAX_SEARCHED || names_stream_options(body) || has_escaped_letters(body)
}

/// Whether JSON has an escape for a character that needs none: `\u0020` to `\u007f`, the control characters aside.
fn has_escaped_letters(json: &[u8]) -> bool {
    memmem::find_iter(json, b"\\u00").any(|at| {
        let digit = json.get(at.saturating_add(4));
        digit.is_some_and(|digit| (b'2'..=b'7').contains(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_could_be_the_reason_is_known() {
        for (body, expected) in [
            (r#"{"messages":[{"role":"user","content":"hi"}]}"#, false),
            (r#"{"messages":[{"content":"caf\u00e9 \u4f60\n\u001f"}]}"#, false),
            (r#"{"messages":[{"role":"stream_options"}]}"#, true),
            (r#"{"stream_options":{"include_usage":false}}"#, true),
            (r#"{"messages":[{"role":"stream\u005foptions"}]}"#, true),
        ] {
            assert_eq!(mentions_stream_options(body.as_bytes()), expected, "{body}");
        }
        assert!(mentions_stream_options(&vec![b' '; MAX_SEARCHED + 1]));
    }
}
