//! The outline of a JSON document that arrives in chunks: a few members by their places, and none of the rest.
//!
//! The outline is JSON itself, so that whoever reads whole documents can read the outline of one that is too large to
//! keep. Strings and brackets are all that is looked at, which costs one step a byte; only the kept values must be
//! JSON. Containers that hold nothing of interest are skipped without being entered, however deep they are.

mod places;
#[cfg(test)]
mod tests;
mod value;

pub use places::Places;

use memchr::memchr2;
use places::Want;
use std::borrow::Cow;
use value::Value;

/// The most bytes of an outline. Beyond half of it, only vital members are added.
pub const MAX_BYTES: usize = 128 * 1024;

/// The largest vital value that is kept, in bytes. A larger one becomes `true`.
const MAX_VITAL_BYTES: usize = 64 * 1024;

/// The largest value of another member that is kept, in bytes. A larger one becomes `true`.
const MAX_VALUE_BYTES: usize = 1024;

/// The longest member's name that is compared, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Writes an outline.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    places: Places,
    at: At,
    /// The containers that were entered and have not ended, the outermost first. Their number is bounded by the length
    /// of the places.
    entered: Vec<Container>,
    /// The path of the innermost of them, and of a member in it while that is read.
    path: String,
    out: Vec<u8>,
}

/// A container that was entered.
#[derive(Clone, Copy, Debug)]
struct Container {
    is_array: bool,
    /// The length of its path.
    path: usize,
    /// Where the outline ends without it, if it is an element.
    begins: usize,
}

/// Where in the document the next byte is.
#[derive(Clone, Debug, Default)]
enum At {
    /// Before the document.
    #[default]
    Start,
    /// In a container that was entered. `expects_name`: a string that begins now is a member's name.
    Between { expects_name: bool },
    /// In a member's name. `is_escaped`: after a backslash.
    Name { name: Vec<u8>, is_escaped: bool },
    /// After a member's name.
    BeforeColon,
    /// After the colon.
    BeforeValue,
    /// In a value that is kept or skipped.
    Value(Value),
    /// After the document, or where there is none.
    End,
}

impl Outline {
    /// An outline with these `places`.
    pub fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// Takes a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.push_and_watch(chunk, |_, _| false);
    }

    /// Takes a chunk and calls `each` with the path and the value of every kept member that ends in it, until `each`
    /// returns true: the rest is not read.
    pub fn push_and_watch(&mut self, chunk: &[u8], mut each: impl FnMut(&str, &[u8]) -> bool) {
        let mut rest = chunk;
        while let Some((&byte, after)) = rest.split_first() {
            match &mut self.at {
                At::End => return,
                At::Start => {
                    self.start(byte);
                    rest = after;
                }
                At::Between { expects_name } => {
                    let expects_name = *expects_name;
                    // A name that is whole need not be copied.
                    let name = if expects_name && byte == b'"' { whole_name(after) } else { None };
                    rest = match name {
                        Some((name, after)) => {
                            self.named(name);
                            after
                        }
                        None => {
                            self.between(byte, expects_name);
                            after
                        }
                    };
                }
                At::Name { name, is_escaped } => {
                    let run = if *is_escaped { 0 } else { memchr2(b'"', b'\\', rest).unwrap_or(rest.len()) };
                    let (run, after) = rest.split_at_checked(run.max(1)).unwrap_or((rest, &[]));
                    rest = after;
                    if *is_escaped || byte != b'"' {
                        *is_escaped = byte == b'\\' && !*is_escaped;
                        let room = MAX_NAME_BYTES.saturating_sub(name.len());
                        name.extend_from_slice(run.get(..room).unwrap_or(run));
                    } else {
                        let name = std::mem::take(name);
                        self.named(&name);
                    }
                }
                At::BeforeColon => {
                    if byte == b':' {
                        self.at = At::BeforeValue;
                    }
                    rest = after;
                }
                At::BeforeValue => {
                    if byte.is_ascii_whitespace() {
                        rest = after;
                    } else {
                        self.begin_value(byte);
                        // A value that is not entered reads its first byte itself.
                        rest = if matches!(self.at, At::Value(_)) { rest } else { after };
                    }
                }
                At::Value(value) => {
                    let mut value = *value;
                    let (used, ends) = self.value(&mut value, rest);
                    rest = rest.get(used..).unwrap_or_default();
                    if ends && self.end_value(value, &mut each) {
                        self.at = At::End;
                        return;
                    }
                    if !ends {
                        self.at = At::Value(value);
                    }
                }
            }
        }
    }

    /// The outline so far, with the brackets that are still open: JSON, unless a kept value was not.
    pub fn finish(mut self) -> Vec<u8> {
        if let At::Value(Value { kept: Some(_), .. }) = self.at {
            self.drop_value();
        }
        while !self.entered.is_empty() {
            self.leave();
        }
        self.out
    }

    fn start(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.enter(byte),
            // White space, or a byte of a byte order mark.
            b' ' | b'\t' | b'\r' | b'\n' | 0xEF | 0xBB | 0xBF => {}
            _ => self.at = At::End,
        }
    }

    /// Takes a byte in a container that was entered, before or after one of its values.
    fn between(&mut self, byte: u8, expects_name: bool) {
        let in_array = self.entered.last().is_some_and(|container| container.is_array);
        match byte {
            b'"' if expects_name => self.at = At::Name { name: Vec::new(), is_escaped: false },
            b'}' | b']' => {
                self.leave();
                self.at = if self.entered.is_empty() { At::End } else { At::Between { expects_name: false } };
            }
            b',' => self.at = At::Between { expects_name: !in_array },
            b'{' if in_array && self.has_room() => self.enter(byte),
            byte if byte.is_ascii_whitespace() => {}
            _ => {
                let mut value = Value::default();
                self.value(&mut value, &[byte]);
                self.at = At::Value(value);
            }
        }
    }

    /// A member's name has ended.
    fn named(&mut self, name: &[u8]) {
        let unescaped = if name.contains(&b'\\') {
            Cow::Owned(serde_json::from_slice(&[b"\"", name, b"\""].concat()).unwrap_or_default())
        } else {
            String::from_utf8_lossy(name)
        };
        if !self.path.is_empty() {
            self.path.push('.');
        }
        // A name with a dot must not look like two.
        self.path.push_str(if unescaped.contains('.') { "" } else { &unescaped });
        self.at = At::BeforeColon;
    }

    /// The first byte of the value of the member at `path` has come.
    fn begin_value(&mut self, byte: u8) {
        let is_container = matches!(byte, b'{' | b'[');
        let (want, is_vital) = self.places.want(&self.path);
        let has_room = self.has_room() || (is_vital && self.out.len() < MAX_BYTES);
        match want {
            Want::Enter if is_container && has_room => {
                self.write_name();
                self.enter(byte);
            }
            Want::Keep if has_room => {
                self.write_name();
                let most = if is_vital { MAX_VITAL_BYTES } else { MAX_VALUE_BYTES };
                self.at = At::Value(Value::kept(self.out.len(), most));
            }
            Want::Enter | Want::Keep | Want::Skip => self.at = At::Value(Value::default()),
        }
    }

    fn has_room(&self) -> bool {
        self.out.len() < MAX_BYTES / 2
    }

    /// Takes bytes of a value from the beginning of `bytes`; returns how many belong to it and whether it ends there.
    fn value(&mut self, value: &mut Value, bytes: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let (run, after) = rest.split_at_checked(value.run(rest)).unwrap_or_default();
            self.keep(value, run);
            used = used.saturating_add(run.len());
            let Some(&byte) = after.first() else { break };
            if value.ends_before(byte) {
                return (used, true);
            }
            self.keep(value, &[byte]);
            used = used.saturating_add(1);
            let ends = value.step(byte);
            if ends {
                return (used, true);
            }
        }
        (used, false)
    }

    /// Adds `bytes` of a value to the outline, if it is kept; once it is too large, it becomes `true`.
    fn keep(&mut self, value: &mut Value, bytes: &[u8]) {
        let Some((begins, most)) = value.kept else { return };
        let length = self.out.len().saturating_sub(begins).saturating_add(bytes.len());
        if length <= most {
            self.out.extend_from_slice(bytes);
        } else {
            self.out.truncate(begins);
            self.out.extend_from_slice(b"true");
            value.kept = None;
        }
    }

    /// A value has ended. Returns what `each` returns of it, if it was kept.
    fn end_value(&mut self, value: Value, each: &mut impl FnMut(&str, &[u8]) -> bool) -> bool {
        let stops = value.kept.is_some_and(|(begins, _)| {
            let kept = self.out.get(begins..).unwrap_or_default();
            each(&self.path, kept)
        });
        let path = self.entered.last().map_or(0, |container| container.path);
        self.path.truncate(path);
        self.at = At::Between { expects_name: false };
        stops
    }

    /// Removes the value that was being read, with its name: the document has ended within it.
    fn drop_value(&mut self) {
        let At::Value(Value { kept: Some((begins, _)), .. }) = self.at else { return };
        self.out.truncate(begins);
        self.out.extend_from_slice(b"null");
    }

    /// A container begins whose members or elements matter.
    fn enter(&mut self, bracket: u8) {
        let begins = self.out.len();
        if bracket == b'{' {
            self.separate();
        }
        self.out.push(bracket);
        let is_array = bracket == b'[';
        self.entered.push(Container { is_array, path: self.path.len(), begins });
        self.at = At::Between { expects_name: !is_array };
    }

    /// The innermost container that was entered ends.
    fn leave(&mut self) {
        let Some(container) = self.entered.pop() else { return };
        let is_element = self.entered.last().is_some_and(|outer| outer.is_array);
        let is_empty = self.out.last() == Some(&b'{');
        if is_element && is_empty {
            self.out.truncate(container.begins);
        } else {
            self.out.push(if container.is_array { b']' } else { b'}' });
        }
        let path = self.entered.last().map_or(0, |outer| outer.path);
        self.path.truncate(path);
    }

    /// Writes the name of the member at `path`.
    fn write_name(&mut self) {
        self.separate();
        let name = self.path.rsplit('.').next().unwrap_or_default();
        // The names of places need no escapes.
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Writes a comma, unless nothing comes before.
    fn separate(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }
}

/// The name that `bytes` begin with, and what follows its quotation mark; none if it does not end there, is too long to
/// be looked at whole, or has an escape.
fn whole_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr2(b'"', b'\\', bytes).filter(|end| *end <= MAX_NAME_BYTES)?;
    let (name, rest) = bytes.split_at_checked(end)?;
    Some((name, rest.strip_prefix(b"\"")?))
}
