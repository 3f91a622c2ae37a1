//! Problems of a configuration, and their places.
//!
//! A problem is one line, `plans.pro.rpm: expected …, found …`. It never shows the value of a key or a token. If the
//! name of a field may be a key by mistake, [`Path`] hides the name.

use std::fmt;

/// The reasons why a configuration was refused: every problem that was found, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The problems, at least one, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    path: String,
    message: String,
}

impl Problem {
    /// `message` about the value at `path`.
    pub(super) fn new(path: &Path<'_>, message: impl Into<String>) -> Self {
        Self { path: path.to_string(), message: message.into() }
    }

    /// The place: a JSON path such as `keys[2].plan`, or `configuration` for the whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether its place is that of `other`, or contains it.
    pub(super) fn encloses(&self, other: &Self) -> bool {
        self.path == Path::Root.to_string()
            || other
                .path
                .strip_prefix(&self.path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    /// The mistake at that place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects problems, so that the log shows all of them at once.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem at `path`.
    pub(super) fn add(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    /// Adds a problem at `path`, with the expected value and the one found.
    pub(super) fn expected(
        &mut self,
        path: &Path<'_>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.add(path, format!("expected {expected}, found {found}"));
    }

    /// Adds a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Returns `value` if there are no problems.
    pub(super) fn none_or<T>(self, value: T) -> Result<T, ConfigError> {
        if self.0.is_empty() { Ok(value) } else { Err(self.into()) }
    }
}

impl From<Problems> for ConfigError {
    fn from(problems: Problems) -> Self {
        Self { problems: problems.0 }
    }
}

/// A place in the configuration: a chain of borrowed steps, which costs nothing until it is written.
#[derive(Clone, Copy)]
pub(super) enum Path<'a> {
    /// The whole configuration.
    Root,
    /// A member of an object.
    Member(&'a Path<'a>, &'a str),
    /// An element of an array.
    Element(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// The member `name` of the value here.
    pub(super) fn member(&'a self, name: &'a str) -> Self {
        Self::Member(self, name)
    }

    /// The element at `index` of the value here.
    pub(super) fn element(&'a self, index: usize) -> Self {
        Self::Element(self, index)
    }

    /// Whether the name of a member here may be an API key by mistake: directly in `keys`, or in an element of it.
    fn may_name_keys(&self) -> bool {
        match self {
            Self::Member(Self::Root, name) => *name == "keys",
            Self::Element(parent, _) => matches!(parent, Self::Member(Self::Root, "keys")),
            _ => false,
        }
    }
}

/// A step of a path, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To a member of an object.
    Member(String),
    /// To an element of an array.
    Element(usize),
}

impl Path<'_> {
    /// The steps that lead here from the root.
    pub(super) fn steps(&self) -> Vec<Step> {
        let (mut steps, step) = match self {
            Self::Root => return Vec::new(),
            Self::Member(parent, name) => (parent.steps(), Step::Member((*name).to_owned())),
            Self::Element(parent, index) => (parent.steps(), Step::Element(*index)),
        };
        steps.push(step);
        steps
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("configuration"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Member(parent, name) if parent.may_name_keys() && !looks_like_a_field(name) => {
                write!(f, "{parent}[hidden]")
            }
            Self::Member(Self::Root, name) if is_plain(name) => f.write_str(name),
            Self::Member(parent, name) if is_plain(name) => write!(f, "{parent}.{name}"),
            Self::Member(parent, name) => write!(f, "{parent}[{name:?}]"),
        }
    }
}

/// Whether a path shows `name` without quotes.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether `name` has the form of the configuration's own fields.
fn looks_like_a_field(name: &str) -> bool {
    name == "key_sha256" || (name.len() <= 24 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

/// `text` as a message shows it: quoted, escaped, and cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS).and_then(|(at, _)| text.get(..at)) {
        Some(start) => format!("{start:?}…"),
        None => format!("{text:?}"),
    }
}

/// A list as a message shows it: `"a", "b" or "c"`.
pub(super) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_json_paths() {
        let keys = Path::Root.member("keys");
        let third = keys.element(2);
        let models = third.member("models");
        assert_eq!(models.member("gpt-4*").to_string(), "keys[2].models[\"gpt-4*\"]");
        assert_eq!(models.member("gpt-4").member("rpm").to_string(), "keys[2].models.gpt-4.rpm");
        assert_eq!(Path::Root.to_string(), "configuration");
    }

    #[test]
    fn a_key_as_the_name_of_a_member_is_hidden() {
        let keys = Path::Root.member("keys");
        assert_eq!(keys.member("sk-secret-1").to_string(), "keys[hidden]");
        assert_eq!(keys.element(0).member("sk-secret-1").to_string(), "keys[0][hidden]");
        assert_eq!(keys.element(0).member("group").to_string(), "keys[0].group");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(quoted("a\n"), r#""a\n""#);
        assert_eq!(quoted(&"é".repeat(61)), format!("\"{}\"…", "é".repeat(60)));
    }

    #[test]
    fn lists_end_with_or() {
        assert_eq!(one_of(&["a"]), r#""a""#);
        assert_eq!(one_of(&["a", "b", "c"]), r#""a", "b" or "c""#);
    }
}
