//! Places in a text, for people who look for a fault there.

use std::fmt;

/// Why and where no reader reads a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    what: String,
    place: Option<Place>,
}

impl Fault {
    /// A fault of the whole text.
    pub fn whole(what: impl Into<String>) -> Self {
        Self { what: what.into(), place: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.place {
            Some(Place { line, column }) => write!(f, " at line {line}, column {column}"),
            None => Ok(()),
        }
    }
}

/// A line and a column, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    line: u64,
    column: u64,
}

impl Default for Place {
    fn default() -> Self {
        Self { line: 1, column: 1 }
    }
}

impl Place {
    /// The text up to here was read.
    pub(super) fn pass(&mut self, text: &str) {
        let feeds = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let last = text.rsplit('\n').next().unwrap_or_default();
        let length = last.chars().count() as u64;
        self.column = if feeds > 0 { length.saturating_add(1) } else { self.column.saturating_add(length) };
        self.line = self.line.saturating_add(feeds as u64);
    }

    pub(super) fn fault(self, what: String) -> Fault {
        Fault { what, place: Some(self) }
    }
}
