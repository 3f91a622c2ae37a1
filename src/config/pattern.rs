//! Patterns of model names, checked.

use super::error::{Path, Problems, quoted};
use crate::policy::pattern::Pattern;

/// A pattern becomes part of the names of counters, which the sidecar bounds at 512 bytes.
const LONGEST: usize = 256;

/// The pattern that names what is at `path`. Braces would tear the names of counters in Redis Cluster, where they
/// mark what is hashed; no model's name has one.
pub(super) fn of_models(text: &str, path: &Path<'_>, problems: &mut Problems) -> Pattern {
    let has_bad = text.contains(|c: char| matches!(c, '{' | '}') || c.is_control());
    if text.is_empty() || has_bad {
        problems.expected(path, "a pattern of model names such as \"gpt-4*\"", quoted(text));
    } else if text.len() > LONGEST {
        problems.expected(path, format!("a pattern of {LONGEST} bytes or less"), text.len());
    }
    Pattern::new(text)
}
