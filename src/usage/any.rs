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
    let reports = vec![(None, event.usage.bill())];
    event.usage.has_any().then(|| StreamUpdate { reports, ..StreamUpdate::default() })
}

struct Event {
    usage: Report,
    is_top: bool,
}

impl<'b> Accept<'b> for Event {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "usage" => self.usage.take(object),
            _ if self.is_top => {
                let mut inner = Self { usage: Report::default(), is_top: false };
                lenient::offer(object, &mut inner)?;
                if !self.usage.has_any() {
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
    use crate::usage::reported::Reported;

    #[test]
    fn usage_is_found_at_the_top_of_an_event_and_in_its_objects() {
        let used = |data| {
            let mut reported = Reported::default();
            for (choice, bill) in read(data)?.reports {
                reported.update(choice, bill);
            }
            let usage = reported.usage();
            Some((usage.input_tokens.unwrap_or(0), usage.output_tokens))
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
