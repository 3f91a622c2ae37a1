//! Errors behind a status of 200: an event or a body says that the upstream has failed.

use crate::codec::lenient::{self, Accept, Text};
use serde::de::{MapAccess, SeqAccess};

/// The `event` field of an error, and the end of its `type`.
const ERROR: &str = "error";

/// Whether an event of no known format says that the upstream has failed. Its data need not be JSON.
pub(super) fn is_in_event(kind: &[u8], data: &str) -> bool {
    let mut signs = Signs::default();
    // An event that breaks off has failed if it says so before the fault.
    let _ = lenient::read(data, &mut signs);
    kind == ERROR.as_bytes() || signs.show()
}

/// Whether an event of no known format is JSON with a fault, so that its format is not seen.
pub(super) fn has_fault(data: &str) -> bool {
    let is_object = data.trim_start().starts_with('{');
    is_object && lenient::read(data, &mut Text::default()).is_err_and(|fault| !fault.is_eof())
}

/// Whether an event of no known format keeps the stream alive and says nothing.
pub(super) fn is_keep_alive(kind: &[u8], data: &str) -> bool {
    let mut signs = Signs::default();
    let _ = lenient::read(data, &mut signs);
    let is_empty = matches!(data.trim_ascii(), "" | "{}");
    let names: [&str; 4] = ["ping", "keepalive", "keep-alive", "heartbeat"];
    let is_one = |name: &[u8]| names.iter().any(|one| name == one.as_bytes());
    is_empty || is_one(kind) || signs.kind.0.as_deref().is_some_and(|kind| is_one(kind.as_bytes()))
}

/// Sets `has_error` if the next value of `object` is an error: anything but null and what stands for it. So is a value
/// that breaks off.
pub(super) fn take_error<'b, A: MapAccess<'b>>(has_error: &mut bool, object: &mut A) -> Result<(), A::Error> {
    let value = lenient::raw(object);
    *has_error |= !matches!(value, Ok("null" | "false" | "\"\"" | "0" | "[]"));
    value.map(drop)
}

/// The signs of a failure at the top of an event or a body.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs<'b> {
    has_error: bool,
    kind: Text<'b>,
    status: Text<'b>,
}

impl<'b> Signs<'b> {
    /// Whether they show a failure.
    pub(super) fn show(&self) -> bool {
        let is_error = |kind: &str| kind.ends_with(ERROR);
        self.has_error
            || self.kind.0.as_deref().is_some_and(is_error)
            || self.status.0.as_deref() == Some("failed")
    }

    /// Takes a member, if it is a sign; returns whether it took it.
    pub(super) fn take<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<bool, A::Error> {
        match name {
            "error" | "errors" => take_error(&mut self.has_error, object)?,
            "success" => self.has_error |= lenient::raw(object)? == "false",
            // MiniMax's.
            "base_resp" => lenient::offer(object, &mut BaseResponse(self))?,
            "type" => lenient::offer(object, &mut self.kind)?,
            "object" => {
                let mut kind = Text::default();
                lenient::offer(object, &mut kind)?;
                self.has_error |= kind.0.as_deref() == Some(ERROR);
            }
            "status" => lenient::offer(object, &mut self.status)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'b> Accept<'b> for Signs<'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if self.take(name, object)? { Ok(()) } else { lenient::skip(object) }
    }
}

struct BaseResponse<'s, 'b>(&'s mut Signs<'b>);

impl<'b> Accept<'b> for BaseResponse<'_, 'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name != "status_code" {
            return lenient::skip(object);
        }
        take_error(&mut self.0.has_error, object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_may_say_nothing() {
        for (kind, data, expected) in [
            ("", "", true),
            ("", " {} ", true),
            ("ping", "{\"now\":1}", true),
            ("", r#"{"type":"ping","cost":0}"#, true),
            ("", r#"{"type":"keepalive"}"#, true),
            ("heartbeat", "x", true),
            ("", r#"{"text":"Hello"}"#, false),
            ("", "Hello", false),
            ("message", r#"{"type":"content-delta"}"#, false),
        ] {
            assert_eq!(is_keep_alive(kind.as_bytes(), data), expected, "{kind} {data}");
        }
    }

    #[test]
    fn an_event_of_no_format_may_say_that_the_upstream_failed() {
        for (kind, data, expected) in [
            ("", r#"{"error":{"message":"overloaded"}}"#, true),
            ("", r#"{"error":"overloaded"}"#, true),
            ("", r#"{"error":{}}"#, true),
            ("", r#"{"error":{"message":"brea"#, true),
            ("", r#"{"errors":[{"code":7}],"success":false}"#, true),
            ("", r#"{"success":false}"#, true),
            ("", r#"{"type":"error"}"#, true),
            ("", r#"{"type":"invalid_request_error"}"#, true),
            ("", r#"{"object":"error","message":"no"}"#, true),
            ("", r#"{"status":"failed"}"#, true),
            ("", r#"{"base_resp":{"status_code":1004}}"#, true),
            ("error", "out of memory", true),
            ("error", "", true),
            ("", r#"{"error":null,"errors":[],"success":true}"#, false),
            ("", r#"{"error":"","base_resp":{"status_code":0}}"#, false),
            ("", r#"{"error":false,"status":"completed","type":"ping"}"#, false),
            ("message", "error", false),
            ("", "", false),
        ] {
            assert_eq!(is_in_event(kind.as_bytes(), data), expected, "{kind} {data}");
        }
    }
}
