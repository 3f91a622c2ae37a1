//! The models that a request may be for.
//!
//! Most requests name one model. Others name several, of which the upstream chooses one, or none, and then only the
//! upstream knows. What cannot be known is charged as the most it could be: to the limits of every model that it may
//! be. The answer usually names the model, and [`Candidates::answered_by`] decides then.

use super::pattern::Pattern;

/// The models that a request may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidates {
    /// This one.
    One(String),
    /// One of these.
    Several(Vec<String>),
    /// Any that the upstream serves, these among them.
    Any(Vec<String>),
}

impl Candidates {
    /// Any, and none is named.
    pub const UNKNOWN: Self = Self::Any(Vec::new());

    /// No model: the request is to an endpoint that needs none. Only limits on all models apply.
    pub const NONE: Self = Self::One(String::new());

    /// Those that `names` leave: any, if there are none.
    pub fn of(mut names: Vec<String>) -> Self {
        match (names.pop(), names.is_empty()) {
            (None, _) => Self::UNKNOWN,
            (Some(name), true) => Self::One(name),
            (Some(name), false) => {
                names.push(name);
                Self::Several(names)
            }
        }
    }

    /// These, or `others`.
    pub(super) fn or(self, others: Self) -> Self {
        let is_any = matches!(self, Self::Any(_)) || matches!(others, Self::Any(_));
        let mut names = self.names().to_vec();
        names.extend(others.names().iter().filter(|name| !self.names().contains(name)).cloned());
        if is_any { Self::Any(names) } else { Self::of(names) }
    }

    /// The model, if there is no doubt.
    pub fn one(&self) -> Option<&str> {
        match self {
            Self::One(name) => Some(name),
            Self::Several(_) | Self::Any(_) => None,
        }
    }

    /// The names that are known.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) if name.is_empty() => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) | Self::Any(names) => names,
        }
    }

    /// Whether one of them matches `pattern`, or may.
    pub(crate) fn may_match(&self, pattern: &Pattern) -> bool {
        match self {
            Self::One(name) => pattern.matches_model(name),
            Self::Several(names) => names.iter().any(|name| pattern.matches_model(name)),
            Self::Any(_) => true,
        }
    }

    /// Those that an answer leaves which names `model`. None if that says nothing: there is no doubt, or the name is
    /// none of theirs.
    ///
    /// Upstreams answer with a version of the model (`gpt-4o-2024-08-06` for `gpt-4o`), or with the name of its
    /// provider before it (`openai/gpt-4o`) or without. Of several names, those are left which the answer's name is a
    /// version of. If it may be any, the answer's name is left, and its shorter forms, since limits may have either.
    pub fn answered_by(&self, model: &str) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Several(names) => {
                if names.iter().any(|name| name == model) {
                    return Some(Self::One(model.to_owned()));
                }
                let fits = |name: &&String| is_version_of(model, name);
                let left: Vec<_> = names.iter().filter(fits).cloned().collect();
                if left.is_empty() { None } else { Some(Self::of(left)) }
            }
            Self::Any(_) if model.is_empty() => None,
            Self::Any(_) => Some(Self::of(forms(model))),
        }
    }
}

impl From<Option<&str>> for Candidates {
    fn from(model: Option<&str>) -> Self {
        model.map_or(Self::UNKNOWN, |model| Self::One(model.to_owned()))
    }
}

/// Whether `answered` names a version of `asked`.
fn is_version_of(answered: &str, asked: &str) -> bool {
    forms(answered).iter().any(|form| forms(asked).contains(form))
}

/// The forms of a model's name, the longest first: as it is, without what stands before it, without its version.
fn forms(name: &str) -> Vec<String> {
    let mut forms = vec![name.to_owned()];
    let mut add = |form: &str| {
        if !form.is_empty() && !forms.iter().any(|known| known == form) {
            forms.push(form.to_owned());
        }
    };
    let bare = name.rsplit('/').next().unwrap_or(name);
    add(without_version(name));
    add(bare);
    add(without_version(bare));
    forms
}

/// `name` without a date or `latest` at its end, or a variant behind a colon (`:free`). In the name of a fine-tuned
/// model, colons have another meaning.
fn without_version(name: &str) -> &str {
    let name = if name.starts_with("ft:") { name } else { name.split(':').next().unwrap_or(name) };
    let is_date = |part: &str| part.len() >= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut rest = name;
    // At most a year, a month and a day.
    for _ in 0..3 {
        let Some((before, last)) = rest.rsplit_once(['-', '@']) else { break };
        let is_part = last.len() == 2 && last.bytes().all(|byte| byte.is_ascii_digit());
        if last == "latest" || is_date(last) {
            return before;
        }
        if !is_part {
            break;
        }
        rest = before;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Candidates {
        Candidates::of(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn several_names_match_as_each_does_and_none_as_any() {
        let pattern = |text: &str| Pattern::new(text);
        assert!(of(&["o3"]).may_match(&pattern("o3*")) && !of(&["o3"]).may_match(&pattern("gpt-4*")));
        let several = of(&["o3", "gpt-4o"]);
        assert!(several.may_match(&pattern("o3*")) && several.may_match(&pattern("gpt-4*")));
        assert!(!several.may_match(&pattern("claude*")));
        assert!(of(&[]).may_match(&pattern("claude*")));
        assert_eq!((several.one(), of(&["o3"]).one(), of(&[]).one()), (None, Some("o3"), None));
    }

    #[test]
    fn an_answer_leaves_the_names_that_it_is_a_version_of() {
        let several =
            of(&["openai/gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gpt-4-0613", "qwen3:8b", "qwen3:32b"]);
        for (answered, left) in [
            ("gpt-4o", Some(&["openai/gpt-4o"][..])),
            ("gpt-4o-2024-08-06", Some(&["openai/gpt-4o"])),
            ("openai/gpt-4o:free", Some(&["openai/gpt-4o"])),
            ("gpt-4o-mini-2024-07-18", Some(&["gpt-4o-mini"])),
            ("claude-sonnet-4-5-20250929", Some(&["claude-sonnet-4-5"])),
            ("claude-sonnet-4-5@20250929", Some(&["claude-sonnet-4-5"])),
            ("gpt-4", Some(&["gpt-4-0613"])),
            ("qwen3:8b", Some(&["qwen3:8b"])),
            ("qwen3", Some(&["qwen3:8b", "qwen3:32b"])),
            ("o3", None),
            ("", None),
        ] {
            assert_eq!(several.answered_by(answered), left.map(of), "{answered}");
        }
        assert_eq!(of(&["gpt-4o"]).answered_by("o3"), None, "there was no doubt");
    }

    #[test]
    fn an_answer_to_a_request_for_any_model_leaves_the_forms_of_its_name() {
        let left = of(&[]).answered_by("openai/gpt-4o-2024-08-06").unwrap();
        let expected = ["openai/gpt-4o-2024-08-06", "openai/gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"];
        assert_eq!(left, of(&expected));
        assert_eq!(of(&[]).answered_by("o3"), Some(of(&["o3"])));
        assert_eq!(of(&[]).answered_by(""), None);
    }
}
