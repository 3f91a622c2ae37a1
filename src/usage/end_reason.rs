//! Whether a cap has cut an answer short, as far as the answer says so.
//!
//! Every format says why an answer has ended: chat completions and completions in `finish_reason`, messages in
//! `stop_reason`, Gemini in `finishReason`, responses in `status` and in the `reason` of `incomplete_details`. In a
//! body these stand beside text of any length, so they are looked for in the bytes as they pass, apart from usage. A
//! quotation mark within a text is escaped, so that no text looks like one of them.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// Bytes of a chunk that are looked at once more with the next one: more than a name and its value take.
const CARRY: usize = 96;

/// Find the ends of the members' names. Making a finder takes as long as a search of a kilobyte, so they are made once.
static NAMES: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| ["reason\"", "Reason\"", "status\""].map(Finder::new));

/// The values that say that a cap has cut the answer short.
const CUT: [&[u8]; 6] = [
    b"length",
    b"max_tokens",
    b"max_output_tokens",
    b"incomplete",
    b"model_length",
    b"model_context_window_exceeded",
];

/// The values that say nothing: the answer has not ended, or was not good.
const SILENT: [&[u8]; 6] = [b"", b"in_progress", b"queued", b"failed", b"cancelled", b"error"];

/// The reasons for which an answer has ended, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndReasons {
    carry: Vec<u8>,
    has_ended: bool,
    is_cut: bool,
}

impl EndReasons {
    /// Takes a chunk of the answer, which may end anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        let mut edge = std::mem::take(&mut self.carry);
        let is_short = chunk.len() <= CARRY;
        edge.extend_from_slice(chunk.get(..CARRY).unwrap_or(chunk));
        self.search(&edge);
        if !is_short {
            self.search(chunk);
        }
        let last = if is_short { &edge } else { chunk };
        self.carry = last.get(last.len().saturating_sub(CARRY)..).unwrap_or(last).to_vec();
    }

    /// Whether a cap has cut the answer short; none if it has not said why it ended.
    pub const fn is_cut_short(&self) -> Option<bool> {
        if self.has_ended { Some(self.is_cut) } else { None }
    }

    fn search(&mut self, bytes: &[u8]) {
        for name in NAMES.iter() {
            for at in name.find_iter(bytes) {
                let rest = bytes.get(at.saturating_add(name.needle().len())..).unwrap_or_default();
                if let Some(value) = string_value(rest) {
                    self.take(value);
                }
            }
        }
    }

    fn take(&mut self, value: &[u8]) {
        if !SILENT.contains(&value) {
            self.has_ended = true;
            self.is_cut |= CUT.iter().any(|cut| cut.eq_ignore_ascii_case(value));
        }
    }
}

/// The string after a member's name, as it is written; none if another value follows, or not all of it is there.
fn string_value(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = value.iter().take(CARRY).position(|byte| *byte == b'"')?;
    value.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cut(answer: &str, size: usize) -> Option<bool> {
        let mut reasons = EndReasons::default();
        for chunk in answer.as_bytes().chunks(size) {
            reasons.push(chunk);
        }
        reasons.is_cut_short()
    }

    #[test]
    fn every_format_says_why_it_has_ended() {
        let long = "x".repeat(1_000);
        for (answer, expected) in [
            (r#"{"choices":[{"message":{"content":"LONG"},"finish_reason":"stop"}]}"#, Some(false)),
            (r#"{"choices":[{"finish_reason" : "length","text":"LONG"}]}"#, Some(true)),
            (r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"}]}"#, Some(true)),
            (r#"{"choices":[{"finish_reason":"MAX_TOKENS"}]}"#, Some(true)),
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":null}]}\n\n", None),
            ("data: {\"finish_reason\":null}\n\ndata: {\"finish_reason\":\"tool_calls\"}\n\n", Some(false)),
            (r#"{"type":"message","stop_reason":"end_turn","usage":{}}"#, Some(false)),
            ("data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n", Some(true)),
            (r#"{"status":"completed","output":[{"status":"completed"}]}"#, Some(false)),
            (r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#, Some(true)),
            ("data: {\"response\":{\"status\":\"in_progress\"}}\n\n", None),
            (r#"{"choices":[{"text":"\"finish_reason\":\"length\"","finish_reason":""}]}"#, None),
            (r#"{"candidates":[{"content":{},"finishReason":"STOP","index":0}]}"#, Some(false)),
            (r#"{"candidates":[{"content":{},"finishReason": "MAX_TOKENS"}]}"#, Some(true)),
            (r#"{"usage":{}}"#, None),
        ] {
            let answer = answer.replace("LONG", &long);
            for size in [1, 7, 96, 97, 10_000] {
                assert_eq!(is_cut(&answer, size), expected, "{answer} in parts of {size}");
            }
        }
    }
}
