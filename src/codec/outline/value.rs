//! A value that an outline keeps or skips as a whole: where it ends.

use memchr::memchr2;

/// A value that is not entered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value {
    /// Where in the outline it begins, and how large it may become; none if it is skipped.
    pub(super) kept: Option<(usize, usize)>,
    /// Brackets that are open.
    depth: u64,
    in_string: bool,
    /// After a backslash in a string.
    is_escaped: bool,
    /// It is a number or a word: it has no end of its own.
    is_bare: bool,
}

impl Value {
    /// A value that begins at byte `begins` of the outline and has at most `most` bytes.
    pub(super) fn kept(begins: usize, most: usize) -> Self {
        Self { kept: Some((begins, most)), ..Self::default() }
    }

    /// How many of `bytes`, from the first, neither end the value nor change what the next byte means.
    pub(super) fn run(&self, bytes: &[u8]) -> usize {
        let end = match (self.in_string, self.is_escaped, self.depth) {
            (true, false, _) => memchr2(b'"', b'\\', bytes),
            (false, _, 1..) => bytes.iter().position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']')),
            (true, true, _) | (false, _, 0) => Some(0),
        };
        end.unwrap_or(bytes.len())
    }

    /// Whether `byte` does not belong to the value any more.
    pub(super) const fn ends_before(&self, byte: u8) -> bool {
        self.is_bare && matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
    }

    /// Takes a byte that belongs to the value; returns whether it is the last.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            let is_end = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.in_string = !is_end;
            return is_end && self.depth == 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => self.is_bare |= self.depth == 0,
        }
        false
    }
}
