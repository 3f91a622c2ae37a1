//! Envoy's log, read once and bit by bit: that of an hour does not fit into memory comfortably.

use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// One line of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The request's number, if it has one.
    pub number: Option<usize>,
    /// When it began, in milliseconds since the epoch.
    pub start_ms: u64,
    /// When it ended, in milliseconds since the epoch.
    pub end_ms: u64,
    /// Its status; 0 if its client left before.
    pub status: u64,
    /// The filter's decision; empty if there was none.
    pub decision: String,
    /// The name of its key.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Input and output tokens that were reserved.
    pub estimate: Option<(u64, u64)>,
    /// Input and output tokens that were charged in the end.
    pub charge: Option<(u64, u64)>,
}

impl Line {
    fn of(line: &Value) -> Self {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let tokens = |name: &str| line[name].as_str().map(|tokens| tokens.parse::<u64>().unwrap());
        let start_ms = text("start").replace('.', "").parse().unwrap();
        Self {
            number: line["number"].as_str().map(|number| number.parse().unwrap()),
            start_ms,
            end_ms: start_ms + line["duration"].as_u64().unwrap_or(0),
            status: line["status"].as_u64().unwrap_or(0),
            decision: text("decision"),
            name: text("name"),
            model: text("model"),
            estimate: tokens("estimated").zip(tokens("reserved")),
            // Whoever has an outcome has a charge; of that, what nobody has measured and costs nothing is left out.
            charge: line["outcome"]
                .is_string()
                .then(|| ["input", "output"].map(|name| tokens(name).unwrap_or_default()).into()),
        }
    }
}

/// A log that grows.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    at: u64,
    /// What came after the last line's end.
    rest: String,
    /// Lines of the access log that were read.
    pub lines: u64,
    /// Other lines that must not be there.
    pub alarms: Vec<String>,
}

impl Log {
    /// The log in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path, at: 0, rest: String::new(), lines: 0, alarms: Vec::new() }
    }

    /// Reads on, and returns the lines of the access log.
    pub fn read(&mut self) -> Vec<Line> {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.at)).unwrap();
        let mut bytes = Vec::new();
        self.at += file.read_to_end(&mut bytes).unwrap() as u64;
        let text = std::mem::take(&mut self.rest) + &String::from_utf8_lossy(&bytes);
        let (whole, rest) = text.rsplit_once('\n').unwrap_or(("", &text));
        self.rest = rest.to_owned();
        let mut lines = Vec::new();
        for line in whole.lines() {
            if line.starts_with('{') {
                lines.push(Line::of(&serde_json::from_str(line).unwrap()));
            } else if is_alarming(line) {
                self.alarms.push(line.to_owned());
            }
        }
        self.lines += lines.len() as u64;
        lines
    }
}

/// Whether a line tells of a crash, or of an error that no fault excuses.
fn is_alarming(line: &str) -> bool {
    ["[critical]", "[error]", "panicked", "assert failure", "Caught "].iter().any(|sign| line.contains(sign))
}
