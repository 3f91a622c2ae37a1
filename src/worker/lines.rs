//! Lines of the access log that are being written: the fields of a request gather here, and leave in one pass when
//! nothing more comes.

use super::by_stream::ByStream;
use crate::telemetry::access_log::LogFields;

/// The fields so far, by stream.
#[derive(Debug, Default)]
pub(super) struct Lines(ByStream<LogFields>);

impl Lines {
    /// Takes more fields of the request of `stream`. Returns its line, unless `more` may come.
    pub(super) fn add(&mut self, stream: u32, fields: LogFields, more: bool) -> LogFields {
        if more {
            if !fields.is_empty() {
                self.0.entry(stream).or_default().extend(fields);
            }
            return LogFields::default();
        }
        let line = match self.0.remove(&stream) {
            Some(mut line) => {
                line.extend(fields);
                line
            }
            None => fields,
        };
        line.into_line()
    }

    /// The fields so far of the request of `stream`.
    #[cfg(test)]
    pub(super) fn take(&mut self, stream: u32) -> LogFields {
        self.0.remove(&stream).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access_log::Field;

    #[test]
    fn a_line_leaves_when_it_is_whole() {
        let fields = |field, value: &str| {
            let mut fields = LogFields::default();
            fields.add(field, value);
            fields
        };
        let mut lines = Lines::default();
        assert!(lines.add(1, fields(Field::Id, "a"), true).is_empty());
        assert!(lines.add(2, fields(Field::Id, "b"), true).is_empty());
        let line: Vec<_> = lines.add(1, fields(Field::Decision, "admitted"), false).into_iter().collect();
        assert_eq!(line, [(Field::Id, "a".to_owned()), (Field::Decision, "admitted".to_owned())]);
        assert!(lines.add(1, LogFields::default(), false).is_empty(), "it has left");
        assert!(!lines.take(2).is_empty() && lines.0.is_empty());
    }
}
