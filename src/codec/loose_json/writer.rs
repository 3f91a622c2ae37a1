//! Writes JSON part by part, with the commas between them, and no deeper than [`MAX_DEPTH`].

/// How deep arrays and objects are written as such, the array of documents included. A reader with serde_json stops at
/// 128.
pub const MAX_DEPTH: usize = 100;

/// An array or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Array,
    Object,
}

/// JSON that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    json: String,
    /// The arrays and objects that are open, one bit each: set for an object.
    open: Vec<u64>,
    depth: usize,
    /// Whether a value is complete that no comma follows yet.
    needs_comma: bool,
}

impl Writer {
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// The innermost array or object that is open, but for the array of documents.
    pub(super) fn innermost(&self) -> Option<Container> {
        let at = self.depth.checked_sub(1).filter(|at| *at > 0)?;
        let is_object = self.open.get(at / 64)? >> (at % 64) & 1 == 1;
        Some(if is_object { Container::Object } else { Container::Array })
    }

    pub(super) fn open(&mut self, container: Container) {
        self.separate();
        if self.depth == MAX_DEPTH {
            // From here on, all is text.
            self.json.push('"');
        }
        let at = self.depth;
        self.depth = at.saturating_add(1);
        if self.open.len() <= at / 64 {
            self.open.push(0);
        }
        if let Some(bits) = self.open.get_mut(at / 64) {
            let bit = 1_u64 << (at % 64);
            *bits = if container == Container::Object { *bits | bit } else { *bits & !bit };
        }
        self.write(if container == Container::Object { "{" } else { "[" });
        self.needs_comma = false;
    }

    /// Closes the innermost array or object.
    pub(super) fn close(&mut self) {
        let end = if self.innermost() == Some(Container::Object) { "}" } else { "]" };
        self.write(end);
        self.depth = self.depth.saturating_sub(1);
        if self.depth == MAX_DEPTH {
            self.json.push('"');
        }
        self.needs_comma = true;
    }

    pub(super) fn colon(&mut self) {
        self.write(":");
        self.needs_comma = false;
    }

    /// A number, `true`, `false` or `null`.
    pub(super) fn word(&mut self, word: &str) {
        self.separate();
        self.write(word);
        self.needs_comma = true;
    }

    /// A string, or a name, begins or ends.
    pub(super) fn quote(&mut self, begins: bool) {
        if begins {
            self.separate();
        }
        self.write("\"");
        self.needs_comma = !begins;
    }

    /// A part of a string: what its escapes stand for.
    pub(super) fn text(&mut self, text: &str) {
        let needs_escape = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
        let mut rest = text;
        while let Some(at) = rest.bytes().position(needs_escape) {
            let (plain, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            self.write(plain);
            let (special, after) = after.split_at_checked(1).unwrap_or((after, ""));
            self.escape(special);
            rest = after;
        }
        self.write(rest);
    }

    fn escape(&mut self, special: &str) {
        match special {
            "\"" => self.write("\\\""),
            "\\" => self.write("\\\\"),
            "\n" => self.write("\\n"),
            "\r" => self.write("\\r"),
            "\t" => self.write("\\t"),
            other => other.bytes().for_each(|byte| self.write(&format!("\\u{byte:04x}"))),
        }
    }

    /// The JSON, with all that is open closed.
    pub(super) fn finish(mut self) -> String {
        self.close_some(usize::MAX);
        self.json
    }

    /// Closes what is open, `most` arrays and objects of it. Returns whether all are closed.
    pub(super) fn close_some(&mut self, most: usize) -> bool {
        for _ in 0..most.min(self.depth) {
            self.close();
        }
        self.depth == 0
    }

    /// About how many bytes of memory it takes.
    pub(super) const fn held(&self) -> u64 {
        (self.json.capacity() + self.open.capacity() * 8) as u64
    }

    /// A value or a name begins.
    fn separate(&mut self) {
        if std::mem::take(&mut self.needs_comma) {
            self.write(",");
        }
    }

    fn write(&mut self, part: &str) {
        if self.depth <= MAX_DEPTH {
            self.json.push_str(part);
            return;
        }
        for c in part.chars() {
            if matches!(c, '"' | '\\') {
                self.json.push('\\');
            }
            self.json.push(c);
        }
    }
}
