//! How many arguments the calls in an answer have: the members at the top of JSON that arrives in pieces.

/// Counts them.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    depth: u32,
    is_in_string: bool,
    is_escaped: bool,
    count: u64,
}

impl Arguments {
    /// The arguments in `json`, of one call or of several behind each other.
    pub(super) fn of(json: &str) -> u64 {
        let mut arguments = Self::default();
        arguments.push(json);
        arguments.count()
    }

    /// Another call begins, wherever the one before has ended.
    pub(super) fn begin_call(&mut self) {
        *self = Self { count: self.count, ..Self::default() };
    }

    /// Takes a piece of JSON, which may end anywhere.
    pub(super) fn push(&mut self, json: &str) {
        for byte in json.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = self.is_in_string,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b':' if self.depth == 1 => self.count = self.count.saturating_add(1),
                _ => {}
            }
        }
    }

    /// The arguments so far.
    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_members_at_the_top_are_arguments() {
        for (json, expected) in [
            ("{}", 0),
            (r#"{"a": 1, "b": {"c": 2, "d": [{"e": 3}]}}"#, 2),
            (r#"{"a:": "b: \" c: {", "d": ":"}"#, 2),
            (r#"{"a":1}{"a":1,"b":2}"#, 3),
            ("", 0),
            ("not JSON: at all", 0),
        ] {
            assert_eq!(Arguments::of(json), expected, "{json}");
        }
    }

    #[test]
    fn a_call_that_breaks_off_leaves_the_next_alone() {
        let mut arguments = Arguments::default();
        for call in [r#"{"a": {"b": "#, r#"{"c": "d"#, r#"{"e": 1}"#] {
            arguments.begin_call();
            arguments.push(call);
        }
        assert_eq!(arguments.count(), 3);
    }

    proptest! {
        #[test]
        fn pieces_count_as_the_whole(json in r#"[{}\[\]":,a\\é]{0,40}"#, at in 0..40_usize) {
            let (begin, end) = json.split_at(json.floor_char_boundary(at.min(json.len())));
            let mut arguments = Arguments::default();
            arguments.push(begin);
            arguments.push(end);
            prop_assert_eq!(arguments.count(), Arguments::of(&json));
        }
    }
}
