//! The maximum of output tokens that a request sets.

use super::Endpoint;

/// A maximum of output tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// The largest that any reader finds; none if it sets none.
    pub tokens: Option<u64>,
    /// Whether some reader may find none, so that the answer may be longer.
    pub is_doubtful: bool,
}

/// The members of an endpoint that set a maximum, each read apart from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caps {
    /// The object that has the members, by its names; the request itself if there are none.
    within: &'static [&'static str],
    /// The names of the members, the most usual first.
    names: &'static [&'static str],
    /// The objects that may have them.
    objects: u64,
    largest: Option<u64>,
    /// One bit for each name that has had a maximum, and for each that has had another value.
    set: u8,
    unset: u8,
    /// Whether only readers without regard to case find one of them.
    has_variant: bool,
    /// Whether a member that every server knows is given, with whatever value.
    has_common: bool,
    /// Whether one of these sets a maximum.
    sets_common: bool,
}

/// The name of a member that only some servers know: llama.cpp's, beside OpenAI's.
const RARE: &str = "n_predict";

impl Caps {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let names: &[&str] = match endpoint {
            Endpoint::ChatCompletions => &["max_tokens", "max_completion_tokens", RARE],
            Endpoint::Completions => &["max_tokens", RARE],
            Endpoint::Messages | Endpoint::CohereChat => &["max_tokens"],
            Endpoint::Responses => &["max_output_tokens"],
            Endpoint::Gemini => &["maxOutputTokens", "max_output_tokens"],
            Endpoint::OllamaChat | Endpoint::OllamaGenerate => &["num_predict"],
            Endpoint::Embeddings
            | Endpoint::GeminiEmbeddings
            | Endpoint::CohereEmbed
            | Endpoint::Rerank
            | Endpoint::Other(_) => &[],
        };
        let within: &[&str] = match endpoint {
            Endpoint::Gemini => &["generationConfig", "generation_config"],
            Endpoint::OllamaChat | Endpoint::OllamaGenerate => &["options"],
            _ => &[],
        };
        Self { within, names, ..Self::default() }
    }

    /// Whether the member `name` of the request, in lower case, is the object that has the members.
    pub(super) fn are_in(&self, name: &str) -> bool {
        self.within.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Notes an object `name`, in lower case, that may have the members. `is_exact` as in [`Caps::take`].
    pub(super) fn enter(&mut self, name: &str, is_exact: bool) {
        // Names that are written in both cases are no variants of themselves.
        self.has_variant |= !is_exact && self.within.contains(&name);
        self.objects = self.objects.saturating_add(1);
    }

    /// The number of the request's member `name`, in lower case, if it sets a maximum.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        if self.within.is_empty() { self.position_within(name) } else { None }
    }

    /// The same in the object that has the members.
    pub(super) fn position_within(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether a member of that object has one of their names as it is written.
    pub(super) fn is_exact(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Takes the value of a member: a number of tokens, or none if it is no maximum. `is_exact` unless its name is in
    /// another case.
    pub(super) fn take(&mut self, position: usize, is_exact: bool, tokens: Option<u64>) {
        self.largest = self.largest.max(tokens);
        self.has_variant |= !is_exact;
        let is_common = is_exact && self.names.get(position).is_some_and(|name| *name != RARE);
        self.has_common |= is_common;
        self.sets_common |= is_common && tokens.is_some();
        let bit = 1_u8 << position.min(7);
        let seen = if tokens.is_some() { &mut self.set } else { &mut self.unset };
        *seen |= bit;
    }

    /// The object that has the members, by its names, and whether the request has it.
    pub(super) const fn within(&self) -> (&'static [&'static str], bool) {
        (self.within, self.objects > 0)
    }

    /// The names of the members.
    pub(super) const fn names(&self) -> &'static [&'static str] {
        self.names
    }

    /// Whether the request has any of them, with whatever value.
    pub(super) const fn are_given(&self) -> bool {
        self.set | self.unset != 0
    }

    /// Whether it has one that every server knows, with whatever value.
    pub(super) const fn has_common(&self) -> bool {
        self.has_common
    }

    pub(super) const fn cap(&self) -> Cap {
        // A member that occurs twice, once with a maximum, has either value.
        let is_ambiguous = self.has_variant || self.set & self.unset != 0 || self.objects > 1;
        Cap { tokens: self.largest, is_doubtful: is_ambiguous || !self.sets_common }
    }
}
