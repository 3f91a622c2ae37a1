//! Streams of no known format: whatever usage their events report.
//!
//! A later report replaces an earlier one, as in the known formats. The text of such a stream may be anything, so it
//! does not count.

use super::report::Report;
use super::stream_update::StreamUpdate;
use crate::codec::lenient::{self, Accept};
use serde::de::MapAccess;

/// The usage in an event's data, at its top or in an object there; none if it has none.
pub(super) fn read(data: &str) -> Option<StreamUpdate> {
    let mut event = Event { usage: Report::default(), is_top: true };
    // An event that breaks off has everything before the fault.
    let _ = lenient::read(data, &mut event);
    event.usage.usage()?;
    Some(StreamUpdate { usage: event.usage, ..StreamUpdate::default() })
}

struct Event {
    usage: Report,
    is_top: bool,
}

impl<'b> Accept<'b> for Event {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => lenient::offer(object, &mut self.usage),
            _ if self.is_top => {
                let mut inner = Self { usage: Report::default(), is_top: false };
                lenient::offer(object, &mut inner)?;
                if self.usage.usage().is_none() {
                    self.usage = inner.usage;
                }
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_at_the_top_of_an_event_and_in_its_objects() {
        let used = |data| {
            read(data).and_then(|update| update.usage.usage()).map(|u| (u.input_tokens, u.output_tokens))
        };
        for (data, expected) in [
            (
                r#"{"type":"image_generation.completed","usage":{"input_tokens":9,"output_tokens":8}}"#,
                Some((9, 8)),
            ),
            (r#"{"run":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}"#, Some((3, 4))),
            (r#"{"usage":{"prompt_tokens":3},"x":{"usage":{"prompt_tokens":5}}}"#, Some((3, 0))),
            (r#"{"a":{"b":{"usage":{"prompt_tokens":3}}}}"#, None),
            (r#"{"usage":null,"text":"hello"}"#, None),
            (r#"{"usage":{"prompt_tokens":3},"cut"#, Some((3, 0))),
            ("[1]", None),
        ] {
            assert_eq!(used(data), expected, "{data}");
        }
    }
}
