//! Text that must not appear in logs or errors.

use serde::{Deserialize, Deserializer};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// An API key, a token or a URL with a password. Its `Debug` shows only that there is one, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself: for hashing and for the one header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What surrounds a name that something else was to replace.
const AROUND: [(&str, &str); 7] =
    [("<", ">"), ("{", "}"), ("[", "]"), ("%", "%"), ("@", "@"), ("__", "__"), ("$", "$")];

/// What begins such a name, wherever it stands.
const BEGINS: [&str; 8] = ["${", "$(", "{{", "<%", "%(", "%{", "#{", "$ENV{"];

impl Secret {
    /// Whether it is a placeholder that nothing has filled in: a reference to a variable, or to a value elsewhere.
    pub(super) fn is_placeholder(&self) -> bool {
        let text = self.expose();
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b))
        };
        let inside = |(begin, end): &(&str, &str)| text.strip_prefix(begin)?.strip_suffix(end);
        let is_variable = |name: &str| {
            is_name(name) && !name.contains(|c: char| c.is_ascii_lowercase() || matches!(c, '-' | '.' | ' '))
        };
        BEGINS.iter().any(|begin| text.contains(begin))
            || AROUND.iter().filter_map(inside).any(is_name)
            || text.strip_prefix('$').is_some_and(is_variable)
            || (text.len() > 1 && text.starts_with('`') && text.ends_with('`'))
            || ["os.environ", "env://", "vault://", "secret://"].iter().any(|begin| text.starts_with(begin))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_something_was_to_replace_is_no_secret() {
        let is_placeholder = |text: &str| Secret(text.to_owned()).is_placeholder();
        for text in [
            "${KEY}",
            "sk-${KEY}",
            "$(cat key)",
            "$KEY",
            "$KEY_2",
            "$KEY$",
            "$ENV{KEY}",
            "{{ .Values.key }}",
            "<%= key %>",
            "%KEY%",
            "%{KEY}",
            "#{KEY}",
            "@KEY@",
            "<key>",
            "<your api key>",
            "{key}",
            "[KEY]",
            "__KEY__",
            "`cat x`",
            "os.environ/KEY",
            "env://KEY",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in
            ["", "$", "sk-a$b", "$2b$12$abcDEF", "a{b", "<", "__", "sk__a__", "100%", "a@b", "_KEY_", "$key1"]
        {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Some(Secret("sk-secret".to_owned()))), "Some([hidden])");
    }
}
