//! The definition of one tool.

use super::schema::Schema;
use super::{ToolKind, types};
use crate::codec::lenient::{self, Accept, Joined};
use crate::request::content::Texts;
use serde::de::{Error as _, MapAccess};

/// A function: `{"type": "function", "function": {…}}`, the function itself, a custom tool, or Anthropic's tool. If it
/// has a member twice, it has both values.
#[derive(Debug, Default)]
pub(super) struct Function<'t> {
    /// Its type.
    types: Texts<'t>,
    name: Joined<'t>,
    description: Joined<'t>,
    /// The schemas of its parameters.
    parameters: Vec<Schema<'t>>,
    /// The same as they are written, if a model is shown them so: what is not asked for is read only once.
    written: Option<Vec<&'t str>>,
    /// The grammar of a custom tool's input.
    grammar: Texts<'t>,
    /// The length of the definition, in bytes.
    size: usize,
}

impl<'t> Function<'t> {
    /// Reads a definition, for a model that is shown it `as_json` or for one that is not.
    ///
    /// # Errors
    /// It is not JSON.
    pub(super) fn read(json: &'t str, as_json: bool) -> Result<Self, serde_json::Error> {
        let written = as_json.then(Vec::new);
        let mut function = Self { written, size: json.len(), ..Self::default() };
        lenient::read(json, &mut function)?;
        Ok(function)
    }

    /// Whether it is something that models are shown.
    pub(super) const fn has_name(&self) -> bool {
        self.name.0.is_some()
    }

    /// Who describes it.
    pub(super) fn kind(&self) -> ToolKind {
        match self.has_name() {
            false => ToolKind::Provided,
            true if self.types.iter().all(|of| matches!(&**of, "function" | "custom")) => ToolKind::Function,
            true => ToolKind::Named,
        }
    }

    fn name(&self) -> &str {
        self.name.0.as_deref().unwrap_or_default()
    }

    fn description(&self) -> &str {
        self.description.0.as_deref().unwrap_or_default()
    }

    /// The function as OpenAI's models are shown it: a type of TypeScript. It begins with the end of what comes before
    /// it, with which it forms tokens.
    pub(super) fn as_types(&self) -> String {
        let mut out = String::with_capacity(self.size);
        out.push_str(";\n\n");
        types::comment(&mut out, 0, self.description());
        out.push_str("type ");
        out.push_str(self.name());
        out.push_str(" = (");
        // All share what references may add: a client may write a member as often as it likes.
        let each = self.size.checked_div(self.parameters.len()).unwrap_or_default();
        for schema in &self.parameters {
            types::parameters(&mut out, schema, each);
        }
        for grammar in &self.grammar {
            out.push_str(grammar);
        }
        out.push_str(") => any");
        out
    }

    /// The texts that are counted for models that are shown JSON; the definition was read for one.
    pub(super) fn as_json(&self) -> Vec<String> {
        let mut texts = vec![self.name().to_owned(), self.description().to_owned()];
        texts.extend(self.written.iter().flatten().map(|json| lenient::compact(json).into_owned()));
        texts.extend(self.grammar.iter().map(|grammar| grammar.clone().into_owned()));
        texts
    }
}

impl<'t> Accept<'t> for Function<'t> {
    fn member<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "function" | "custom" => lenient::offer(object, self),
            "type" => lenient::offer(object, &mut self.types),
            "name" => lenient::offer(object, &mut self.name),
            "description" => lenient::offer(object, &mut self.description),
            "parameters" | "input_schema" | "parametersjsonschema" | "parameters_json_schema" => {
                let mut parameters = Parameters { schema: Schema::root(), is_object: false };
                if let Some(written) = &mut self.written {
                    let json = lenient::raw(object)?;
                    written.extend(json.starts_with('{').then_some(json));
                    lenient::read(json, &mut parameters).map_err(A::Error::custom)?;
                } else {
                    lenient::offer(object, &mut parameters)?;
                }
                self.parameters.extend(parameters.is_object.then_some(parameters.schema));
                Ok(())
            }
            "format" => lenient::offer(object, &mut Grammar(&mut self.grammar)),
            _ => lenient::skip(object),
        }
    }
}

/// The value of `parameters`, which is a schema if it is an object.
struct Parameters<'t> {
    schema: Schema<'t>,
    is_object: bool,
}

impl<'t> Accept<'t> for Parameters<'t> {
    fn member<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        self.schema.member(name, object)
    }

    fn end(&mut self) {
        self.is_object = true;
    }
}

/// The grammar of a custom tool's input: `{"definition": …}`, in chats with an object `grammar` around it.
struct Grammar<'g, 't>(&'g mut Texts<'t>);

impl<'t> Accept<'t> for Grammar<'_, 't> {
    fn member<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "grammar" => lenient::offer(object, &mut Grammar(self.0)),
            "definition" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}
