//! The tokens of tool definitions, by the cookbook's `num_tokens_for_tools`.
//!
//! A function costs a constant and its line `name:description`; a list of properties costs a constant; a property a
//! constant and its line `name:type:description`; a value of an enumeration a constant and its text, while the
//! enumeration saves a constant; and all tools together cost a constant. [`ToolTokens`] has the constants. A full stop
//! at the end of a description is not counted. The cookbook does not mention arrays and objects in properties: here
//! they count by the same rule, as an estimate, down to [`MAX_DEPTH`] levels. A custom tool counts as a function, with
//! its grammar as text. Tools that the provider runs count nothing: what they add to the prompt is not published.
//!
//! The Responses API writes a function without the object around it, as chats did in `functions`.

use super::content::{Texts, count_each};
use crate::codec::lenient::{self, Accept, Joined};
use crate::models::ToolTokens;
use crate::quantity::Units;
use crate::tokens::Meter;
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// The depth to which properties in properties are counted.
const MAX_DEPTH: u8 = 16;

/// The tools of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tools<'b> {
    functions: u64,
    property_lists: u64,
    properties: u64,
    enumerations: u64,
    values: u64,
    /// Lines and values, each counted by itself.
    lines: Texts<'b>,
}

impl<'b> Tools<'b> {
    /// The same without their texts, which `take` gets.
    pub(super) fn without_texts(self, take: &mut impl FnMut(Texts<'b>)) -> Tools<'static> {
        let Self { functions, property_lists, properties, enumerations, values, lines } = self;
        take(lines);
        Tools { functions, property_lists, properties, enumerations, values, lines: Texts::new() }
    }
}

impl Tools<'_> {
    /// Tokens of their text.
    pub(super) fn text_tokens(&self, meter: &Meter<'_>) -> Units {
        self.counted(|| count_each(&self.lines, meter))
    }

    /// The tokens of their text if that has so many: without a function, nothing is sent to the model.
    pub(super) fn counted(&self, tokens: impl FnOnce() -> Units) -> Units {
        if self.functions == 0 { Units::ZERO } else { tokens() }
    }

    /// Their tokens beside their text if they are sent to `model`, and the tokens that they save.
    pub(super) fn beside_text(&self, model: &str) -> (Units, Units) {
        if self.functions == 0 {
            return (Units::ZERO, Units::ZERO);
        }
        let tokens = ToolTokens::of(model);
        let constants = tokens.function * self.functions
            + tokens.property_list * self.property_lists
            + tokens.property * self.properties
            + tokens.value * self.values
            + tokens.end;
        (constants, tokens.saved_by_enumeration * self.enumerations)
    }
}

/// The value of `tools` or `functions`.
impl<'b> Accept<'b> for Tools<'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, &mut Tool { function: Function::new(self) })
    }
}

/// `{"type": "function", "function": {…}}`, `{"type": "custom", "custom": {…}}`, or the function itself.
struct Tool<'t, 'b> {
    function: Function<'t, 'b>,
}

impl<'b> Accept<'b> for Tool<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "function" | "custom" => lenient::offer(object, &mut Function::new(self.function.tools)),
            _ => self.function.member(name, object),
        }
    }

    fn end(&mut self) {
        self.function.end();
    }
}

struct Function<'t, 'b> {
    tools: &'t mut Tools<'b>,
    name: Joined<'b>,
    description: Joined<'b>,
}

impl<'t, 'b> Function<'t, 'b> {
    fn new(tools: &'t mut Tools<'b>) -> Self {
        Self { tools, name: Joined::default(), description: Joined::default() }
    }
}

impl<'b> Accept<'b> for Function<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => lenient::offer(object, &mut self.name),
            "description" => lenient::offer(object, &mut self.description),
            "parameters" => lenient::offer(object, &mut Schema::new(self.tools, MAX_DEPTH)),
            "format" => lenient::offer(object, &mut Grammar(&mut self.tools.lines)),
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        // A tool that wraps its function has no name of its own.
        if let Some(name) = &self.name.0 {
            self.tools.functions += 1;
            self.tools.lines.push(line(&[name, without_full_stop(&self.description)]));
        }
    }
}

/// The grammar of a custom tool's input: `{"definition": …}`, in chats with an object `grammar` around it.
struct Grammar<'t, 'b>(&'t mut Texts<'b>);

impl<'b> Accept<'b> for Grammar<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "grammar" => lenient::offer(object, &mut Grammar(self.0)),
            "definition" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}

/// A JSON Schema: the value of `parameters`, of a property or of `items`.
struct Schema<'t, 'b> {
    tools: &'t mut Tools<'b>,
    depth: u8,
    kind: Joined<'b>,
    description: Joined<'b>,
}

impl<'t, 'b> Schema<'t, 'b> {
    fn new(tools: &'t mut Tools<'b>, depth: u8) -> Self {
        Self { tools, depth, kind: Joined::default(), description: Joined::default() }
    }
}

impl<'b> Accept<'b> for Schema<'_, 'b> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            return lenient::skip(object);
        };
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "description" => lenient::offer(object, &mut self.description),
            "properties" => lenient::offer(object, &mut Properties { tools: self.tools, depth, any: false }),
            "items" => lenient::offer(object, &mut Schema::new(self.tools, depth)),
            "enum" => lenient::offer(object, &mut Enumeration { tools: self.tools, any: false }),
            _ => lenient::skip(object),
        }
    }
}

struct Properties<'t, 'b> {
    tools: &'t mut Tools<'b>,
    depth: u8,
    any: bool,
}

impl<'b> Accept<'b> for Properties<'_, 'b> {
    /// The names are the client's own, and every reader keeps them as they are.
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let mut property = Schema::new(self.tools, self.depth);
        lenient::offer(object, &mut property)?;
        let kind = property.kind.0.unwrap_or_default();
        let line = line(&[name, &kind, without_full_stop(&property.description)]);
        self.tools.lines.push(line);
        self.tools.properties += 1;
        self.any = true;
        Ok(())
    }

    fn end(&mut self) {
        self.tools.property_lists += u64::from(self.any);
    }
}

/// The value of `enum`. Values that are not strings count their constant alone.
struct Enumeration<'t, 'b> {
    tools: &'t mut Tools<'b>,
    any: bool,
}

impl<'b> Accept<'b> for Enumeration<'_, 'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let read = lenient::offer_element(array, &mut self.tools.lines)?;
        if read.is_some() {
            let is_first = !std::mem::replace(&mut self.any, true);
            self.tools.enumerations += u64::from(is_first);
            self.tools.values += 1;
        }
        Ok(read)
    }
}

fn line<'b>(fields: &[&str]) -> Cow<'b, str> {
    Cow::Owned(fields.join(":"))
}

fn without_full_stop<'t>(text: &'t Joined<'_>) -> &'t str {
    let text = text.0.as_deref().unwrap_or_default();
    text.strip_suffix('.').unwrap_or(text)
}
