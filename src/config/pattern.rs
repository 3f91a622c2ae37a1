//! Patterns of model names, checked.

use super::error::{Path, Problems, quoted};
use crate::policy::pattern::Pattern;

/// The longest pattern, in bytes. A pattern becomes part of the names of counters, which the sidecar bounds at 512
/// bytes.
const MAX_BYTES: usize = 256;

/// Checks the pattern in `text`, which is the last name in `path`. Braces are not allowed: in Redis Cluster they mark
/// the part of a key that is hashed. No model's name has one.
pub(super) fn of_models(text: &str, path: &Path<'_>, problems: &mut Problems) -> Pattern {
    let has_bad = text.contains(|c: char| matches!(c, '{' | '}') || c.is_control());
    if text.is_empty() || has_bad {
        problems.expected(path, "a pattern of model names such as \"gpt-4*\"", quoted(text));
    } else if is_regular_expression(text) {
        let expected = "a pattern such as \"gpt-4*\", in which only \"*\" is special";
        problems.expected(path, expected, format!("a regular expression, {}", quoted(text)));
    } else if text.trim() != text || text.contains(['"', '\'', '`', ',']) {
        let expected =
            "one pattern such as \"gpt-4*\", without quotation marks, commas or white space around it";
        problems.expected(path, expected, quoted(text));
    } else if text.len() > MAX_BYTES {
        problems.expected(path, format!("a pattern of {MAX_BYTES} bytes or less"), text.len());
    }
    Pattern::new(text)
}

/// Whether `text` means a regular expression, which it would never be read as. No model's name has these characters.
fn is_regular_expression(text: &str) -> bool {
    text.starts_with('^')
        || text.ends_with('$')
        || text.contains(['|', '\\', '[', ']', '(', ')', '?'])
        || (text.len() > 1 && text.starts_with('/') && text.ends_with('/'))
        || ["re:", "regex:", "regexp:"].iter().any(|begin| text.starts_with(begin))
        || text.contains(".*")
        || text.contains(".+")
}
