//! The kind of content that a `content-type` names.

/// Whether one of `types` is JSON. There is more than one only if a message has the header several times.
pub fn is_json(types: &str) -> bool {
    any(types, |kind| kind.ends_with("/json") || kind.ends_with("+json"))
}

/// Whether one of `types` is a stream of events.
pub fn is_event_stream(types: &str) -> bool {
    any(types, |kind| kind == "text/event-stream")
}

/// Whether one of `types` is of bodies that are no text: parts of a form, files, other protocols. A lax server may take
/// any other for JSON.
pub fn is_no_text(types: &str) -> bool {
    const BEGINNINGS: [&str; 6] =
        ["multipart/", "audio/", "video/", "image/", "application/octet-stream", "application/grpc"];
    any(types, |kind| BEGINNINGS.iter().any(|beginning| kind.starts_with(beginning)))
}

fn any(types: &str, is_it: impl Fn(&str) -> bool) -> bool {
    types
        .split(',')
        .any(|kind| is_it(&kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_from_what_may_be_json() {
        for types in ["multipart/form-data; boundary=x", "Application/Octet-Stream", "application/grpc+proto"]
        {
            assert!(is_no_text(types), "{types}");
        }
        for types in ["", "text/plain", "application/x-www-form-urlencoded", "application/json"] {
            assert!(!is_no_text(types), "{types}");
        }
    }

    #[test]
    fn kinds_are_found_in_any_case_and_with_any_parameters() {
        for (types, json, events) in [
            ("application/json", true, false),
            ("Application/JSON; charset=utf-16", true, false),
            ("application/problem+json", true, false),
            ("text/plain, application/json", true, false),
            ("multipart/form-data; boundary=application/json", false, false),
            ("application/jsonl", false, false),
            ("application/grpc+proto", false, false),
            ("text/event-stream;charset=utf-8", false, true),
            ("", false, false),
        ] {
            assert_eq!((is_json(types), is_event_stream(types)), (json, events), "{types}");
        }
    }
}
