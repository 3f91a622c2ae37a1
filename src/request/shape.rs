//! What a prompt has beside its text, in any format, and what that costs: messages, roles, calls, tools, a schema.

use super::content::Kinds;
use super::effort::Efforts;
use super::prompt::Counted;
use crate::codec::lenient::{self, Accept};
use crate::models::Structure;
use crate::quantity::Units;
use crate::tokens::{Effort, WantedCall};
use serde::de::MapAccess;
use std::borrow::Cow;

/// The parts of a prompt that cost something beside their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Messages and items.
    pub(super) messages: u64,
    /// Roles that every API knows. Other roles count as text.
    pub(super) roles: u64,
    /// Names of messages' authors.
    pub(super) names: u64,
    /// Answers of the model with text.
    pub(super) answers: u64,
    /// Messages that are a system prompt for every reader.
    pub(super) systems: u64,
    /// Calls of functions that are alone in their messages, or in a format that has no messages with several.
    pub(super) calls: u64,
    /// Messages with calls that have text, too.
    pub(super) spoken_calls: u64,
    /// Messages with several calls, and the calls in them.
    pub(super) parallel: (u64, u64),
    /// Whether the answer has a schema.
    pub(super) has_schema: bool,
    /// Whether the provider may add to the prompt, or take from it, what the request does not show.
    pub(super) hides: bool,
    /// How much the model is to reason.
    pub(super) efforts: Efforts,
    pub(super) choice: Choice,
}

impl Shape {
    /// Whether it has calls of functions.
    pub(super) const fn has_calls(&self) -> bool {
        self.calls > 0 || self.parallel.1 > 0
    }

    /// Its tokens where `functions` are sent to a model with this `structure`.
    pub(super) fn tokens(&self, structure: &Structure, functions: u64) -> Units {
        let Structure { start, message, role, name, saved_by_name, answer, .. } = *structure;
        let roles = role * self.roles - saved_by_name * self.names.min(self.roles);
        let messages = message * self.messages + roles + name * self.names + answer * self.answers;
        let messages = messages - structure.saved_by_system * self.systems.min(self.messages);
        let (together, calls) = self.parallel;
        let parallel = structure
            .parallel
            .map_or(structure.call * calls, |[message, call]| message * together + call * calls);
        let calls = structure.call * self.calls + parallel + structure.spoken_call * self.spoken_calls;
        let [schema_alone, schema_beside_tools] = structure.schema;
        let tools = if functions > 0 {
            self.choice.tokens(structure) + structure.tools.each * functions
        } else {
            Units::ZERO
        };
        let schema = match (self.has_schema, functions > 0) {
            (false, _) => Units::ZERO,
            (true, false) => schema_alone,
            (true, true) => schema_beside_tools,
        };
        let is_system_added = self.systems == 0 && (functions > 0 || self.has_schema);
        let system = if is_system_added { structure.system } else { Units::ZERO };
        let thinking = if self.efforts.effort() == Effort::Asked { structure.thinking } else { Units::ZERO };
        start + messages + calls + tools + schema + system + thinking
    }
}

/// Which tools a model may or must call. Of several values, the dearest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    may: bool,
    must: bool,
    must_this: bool,
    must_not: bool,
}

impl Choice {
    fn tokens(self, structure: &Structure) -> Units {
        let tools = &structure.tools;
        let is_none = self.must_not && !self.may && !self.must && !self.must_this;
        let is_auto = self.may || !(self.must || self.must_this || self.must_not);
        [
            (is_auto, tools.auto),
            (self.must, tools.required),
            (self.must_this, tools.forced),
            (is_none, tools.none),
        ]
        .into_iter()
        .filter_map(|(is_so, tokens)| is_so.then_some(tokens))
        .max()
        .unwrap_or_default()
    }

    /// The call that every reader finds that the model must make, of a function whose name has so many tokens if it
    /// is named.
    pub(super) const fn wanted(self, name: u64) -> WantedCall {
        match (self.may, self.must_not, self.must, self.must_this) {
            (false, false, true, false) => WantedCall::Required,
            (false, false, false, true) => WantedCall::Named(name),
            _ => WantedCall::Any,
        }
    }

    /// Takes the word for it.
    pub(super) fn take(&mut self, word: &str) {
        match word {
            "none" => self.must_not = true,
            "required" | "any" => self.must = true,
            _ => self.may = true,
        }
    }
}

/// The value of `tool_choice` or `function_call`: a word, or an object with a `type` and perhaps a function's name.
pub(super) struct Chosen<'c, 'b> {
    pub(super) choice: &'c mut Choice,
    pub(super) kinds: &'c mut Kinds<'b>,
    /// The `type` of an object, and whether it has a name.
    of: (lenient::Text<'b>, bool),
}

impl<'c, 'b> Chosen<'c, 'b> {
    pub(super) fn new(choice: &'c mut Choice, kinds: &'c mut Kinds<'b>) -> Self {
        Self { choice, kinds, of: (lenient::Text::default(), false) }
    }
}

impl<'b> Accept<'b> for Chosen<'_, 'b> {
    fn string(&mut self, text: Cow<'b, str>) {
        self.choice.take(&text);
    }

    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.of.0),
            "name" => {
                let mut name = lenient::Text::default();
                lenient::offer(object, &mut name)?;
                self.of.1 |= name.0.is_some();
                self.kinds.extend(name.0.map(|name| (Counted::ForcedName, name)));
                Ok(())
            }
            "function" | "custom" => {
                let mut inner = Chosen::new(self.choice, self.kinds);
                lenient::offer(object, &mut Named(&mut inner))?;
                self.of.1 |= inner.of.1;
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        match (&self.of.0.0, self.of.1) {
            (_, true) => self.choice.must_this = true,
            (Some(word), false) => self.choice.take(word),
            (None, false) => self.choice.may = true,
        }
    }
}

/// The object with the name of the function.
struct Named<'n, 'c, 'b>(&'n mut Chosen<'c, 'b>);

impl<'b> Accept<'b> for Named<'_, '_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.0.member(name, object),
            _ => lenient::skip(object),
        }
    }
}

/// The roles in one message. Those that every API knows cost the same everywhere, and others count as text.
#[derive(Debug, Default)]
pub(super) struct Roles {
    known: u64,
    systems: u64,
    assistants: u64,
    tools: u64,
    others: u64,
}

impl Roles {
    /// Takes a role; returns it if it is not known.
    pub(super) fn take<'b>(&mut self, role: Cow<'b, str>) -> Option<Cow<'b, str>> {
        let of = match &*role {
            "system" | "developer" => &mut self.systems,
            "assistant" => &mut self.assistants,
            "tool" | "function" => &mut self.tools,
            "user" => &mut self.known,
            _ => {
                self.others += 1;
                return Some(role);
            }
        };
        *of += 1;
        None
    }

    /// How many are known.
    pub(super) const fn known(&self) -> u64 {
        self.known + self.systems + self.assistants + self.tools
    }

    /// Whether every reader finds a system message.
    pub(super) const fn is_system(&self) -> bool {
        self.systems > 0 && self.systems == self.known() + self.others
    }

    /// Whether some reader finds an answer of the model.
    pub(super) const fn is_assistant(&self) -> bool {
        self.assistants > 0
    }

    /// Whether every reader finds the result of a tool.
    pub(super) const fn is_result(&self) -> bool {
        self.tools > 0 && self.tools == self.known() + self.others
    }
}
