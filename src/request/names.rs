//! The models that a request names.

use crate::codec::lenient::{self, Accept};
use crate::codec::name;
use crate::policy::Candidates;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Names that are kept; a request that has more may be for any model.
const MAX_NAMES: usize = 64;

/// The models that a request names: in `model`, in `models` (OpenRouter's list of models to fall back on), in
/// `fallbacks` (LiteLLM's), and in members that only readers without regard to case take for these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names<'b> {
    names: Vec<Cow<'b, str>>,
    /// Whether there is a member for names, whatever its value.
    is_given: bool,
    /// Whether every reader finds a name in this object.
    has_certain: bool,
    /// Whether some reader may find another, or none: an object has none, a value is no name or a longer one than is
    /// kept, or they are too many.
    may_be_others: bool,
}

impl<'b> Names<'b> {
    /// The same, apart from the body.
    pub(super) fn apart(self) -> Names<'static> {
        let Self { names, is_given, has_certain, may_be_others } = self;
        let names = names.into_iter().map(|name| Cow::Owned(name.into_owned())).collect();
        Names { names, is_given, has_certain, may_be_others }
    }

    /// Takes the value of `model`, or of a member that some readers take for it.
    pub(super) const fn of_model(&mut self, is_exact: bool) -> Model<'_, 'b> {
        self.is_given = true;
        Model { names: self, is_exact, has_name: false }
    }

    /// Whether there is a member for names, whatever its value.
    pub(super) const fn is_given(&self) -> bool {
        self.is_given
    }

    /// The first name.
    pub(super) fn first(&self) -> Option<&str> {
        self.names.first().map(|name| &**name)
    }

    /// The models that the request may be for.
    pub(super) fn candidates(&self) -> Candidates {
        let names = self.names.iter().map(|name| name.clone().into_owned()).collect();
        if self.may_be_others { Candidates::Any(names) } else { Candidates::of(names) }
    }

    /// An object that may be the request has ended.
    pub(super) const fn end_object(&mut self) {
        self.may_be_others |= !self.has_certain;
        self.has_certain = false;
    }

    /// The value of `fallbacks`.
    pub(super) const fn fallbacks(&mut self) -> Fallbacks<'_, 'b> {
        Fallbacks { names: self, is_object: false }
    }

    /// Adds a name, and those in it: LiteLLM takes several with commas between them.
    fn add(&mut self, name: Cow<'b, str>) {
        if name.contains(',') {
            let mut parts = name.split(',');
            for part in parts.by_ref().take(MAX_NAMES) {
                self.add_one(Cow::Owned(part.to_owned()));
            }
            self.may_be_others |= parts.next().is_some();
        }
        self.add_one(name);
    }

    fn add_one(&mut self, name: Cow<'b, str>) {
        let (name, is_cut) = name::harmless_part(trimmed(name));
        self.may_be_others |= is_cut;
        if name.is_empty() {
            self.may_be_others = true;
        } else if !self.names.contains(&name) {
            self.may_be_others |= self.names.len() >= MAX_NAMES;
            if self.names.len() < MAX_NAMES {
                self.names.push(name);
            }
        }
    }
}

/// `name` without white space around it, which some gateways remove: that of Unicode, the control characters of ASCII
/// (Java, some of them Python), and the mark of byte order (JavaScript).
fn trimmed(name: Cow<'_, str>) -> Cow<'_, str> {
    let is_space = |c: char| c.is_whitespace() || c.is_ascii_control() || c == '\u{feff}';
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.trim_matches(is_space)),
        Cow::Owned(name) => match name.trim_matches(is_space) {
            trimmed if trimmed.len() == name.len() => Cow::Owned(name),
            trimmed => Cow::Owned(trimmed.to_owned()),
        },
    }
}

/// The value of `model`.
pub(super) struct Model<'n, 'b> {
    names: &'n mut Names<'b>,
    is_exact: bool,
    has_name: bool,
}

impl Model<'_, '_> {
    /// The value was read.
    pub(super) fn end(self) {
        self.names.has_certain |= self.is_exact && self.has_name;
        self.names.may_be_others |= self.is_exact && !self.has_name;
    }
}

impl<'b> Accept<'b> for Model<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.has_name = true;
        self.names.add(text);
    }
}

/// The value of `models`.
impl<'b> Accept<'b> for Names<'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        self.is_given = true;
        let mut name = lenient::Text::default();
        let read = lenient::offer_element(array, &mut name)?;
        if read.is_some() {
            self.has_certain |= name.0.is_some();
            self.may_be_others |= name.0.is_none();
            name.0.into_iter().for_each(|name| self.add(name));
        }
        Ok(read)
    }
}

/// The value of `fallbacks`, or a part of it: names, objects with a `model`, and objects from a name to an array of
/// names. No reader needs them, so they leave no doubt about the others.
pub(super) struct Fallbacks<'n, 'b> {
    names: &'n mut Names<'b>,
    /// Whether this is a member of an object, which may be anything.
    is_object: bool,
}

impl<'b> Accept<'b> for Fallbacks<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        if !self.is_object && !text.trim().is_empty() {
            self.names.add(text);
        }
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Fallbacks { names: self.names, is_object: false })
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "model" => lenient::offer(object, self),
            // What a fallback sends in the place of the request's own.
            "messages" | "input" | "prompt" | "stop" | "tools" => lenient::skip(object),
            _ => lenient::offer(object, &mut Fallbacks { names: self.names, is_object: true }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Api, Body, Endpoint, Request};

    fn candidates(body: &str) -> Candidates {
        let body = Body::new(body.as_bytes());
        Request::read(Endpoint::ChatCompletions, &body).models()
    }

    #[test]
    fn all_names_are_candidates_and_where_none_may_be_found_all_models_are() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let of = |names: &[&str]| Candidates::of(owned(names));
        let any = |names: &[&str]| Candidates::Any(owned(names));
        for (body, expected) in [
            (r#"{"model":"a"}"#, of(&["a"])),
            (r#"{"model":"a","model":"a"}"#, of(&["a"])),
            (r#"{"model":"a","model":"b"}"#, of(&["a", "b"])),
            (r#"{"model":"a","Model":"b","MODEL":"c"}"#, of(&["a", "b", "c"])),
            (r#"{"model":"a","models":["b","a"]}"#, of(&["a", "b"])),
            (r#"{"models":["b","c"]}"#, of(&["b", "c"])),
            (r#"{"models":["b"]}"#, of(&["b"])),
            (r#"{"model":"a"}{"model":"b"}"#, of(&["a", "b"])),
            (r#"[{"model":"a"},{"model":"b"}]"#, of(&["a", "b"])),
            (r#"{"model":" a "}"#, of(&["a"])),
            (r#"{"model":"\u0000\u001fa\u00a0\ufeff"}"#, of(&["a"])),
            (r#"{"model":"b,a\u001f"}"#, of(&["b", "a", "b,a"])),
            (r#"{"model":"a, b"}"#, of(&["a", "b", "a, b"])),
            (
                r#"{"model":"a","fallbacks":["b",{"model":"c"},{"a":["d"]},{"x":"e","y":{"z":"f"}},7]}"#,
                of(&["a", "b", "c", "d"]),
            ),
            (
                r#"{"model":"a","context_window_fallbacks":[{"a":["b"]}],"Fallbacks":"c"}"#,
                of(&["a", "b", "c"]),
            ),
            (r#"{"fallbacks":["b"]}"#, any(&["b"])),
            (r#"{"mod\u0065l":"\u0061"}"#, of(&["a"])),
            // A reader with regard to case finds none.
            (r#"{"Model":"b"}"#, any(&["b"])),
            (r#"{"model":"a","model":null}"#, any(&["a"])),
            (r#"{"model":"a"}{"messages":[]}"#, any(&["a"])),
            (r#"{"model":{"id":"a"}}"#, any(&[])),
            (r#"{"model":""}"#, any(&[])),
            (r#"{"models":["a",1]}"#, any(&["a"])),
            (r#"{"models":[]}"#, any(&[])),
            (r#"{"models":"a"}"#, any(&[])),
            ("{}", any(&[])),
            // Nobody reads it.
            (r#"{"model":"a""#, any(&[])),
        ] {
            assert_eq!(candidates(body), expected, "{body}");
        }
        let many: Vec<_> = (0..MAX_NAMES + 1).map(|at| format!("\"{at}\"")).collect();
        let many = candidates(&format!("{{\"models\":[{}]}}", many.join(",")));
        assert!(matches!(many, Candidates::Any(names) if names.len() == MAX_NAMES));
        let parts = |parts: usize| candidates(&format!(r#"{{"model":"{}b"}}"#, "a,".repeat(parts - 1)));
        assert!(matches!(parts(MAX_NAMES), Candidates::Several(names) if names[1] == "b"));
        assert!(matches!(parts(MAX_NAMES + 1), Candidates::Any(_)));
    }

    #[test]
    fn where_no_model_is_needed_a_member_for_one_may_name_any() {
        let models = |body: &str| {
            let body = Body::new(body.as_bytes());
            Request::read(Endpoint::Other(Api::OpenAi), &body).models()
        };
        for body in [r#"{"model":["o1"]}"#, r#"{"model":{"id":"o1"}}"#, r#"{"Model":7}"#, r#"{"models":[1]}"#]
        {
            assert_eq!(models(body), Candidates::Any(Vec::new()), "{body}");
        }
        for body in ["{}", r#"{"prompt":"x"}"#] {
            assert_eq!(models(body), Candidates::NONE, "{body}");
        }
    }

    #[test]
    fn long_names_are_cut_and_may_be_any() {
        let whole = "é".repeat(128);
        assert_eq!(candidates(&format!("{{\"model\":\"{whole}\"}}")).one(), Some(&*whole));
        let long = "é".repeat(500);
        let cut = Candidates::Any(vec![whole]);
        assert_eq!(candidates(&format!("{{\"model\":\"{long}\"}}")), cut);
        assert_eq!(candidates(&format!("{{\"models\":[\"{long}\"]}}")), cut);
        let escaped = "\\u00e9".repeat(500);
        assert_eq!(candidates(&format!("{{\"model\":\"{escaped}\"}}")), cut);
    }
}
