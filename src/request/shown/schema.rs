//! JSON Schema, as far as models are shown it. If a schema has a member twice, it has both values: some reader may find
//! either.

use crate::codec::lenient::{self, Accept, Joined};
use serde::de::{MapAccess, SeqAccess};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The levels that are read. What is deeper counts as its text.
const MAX_DEPTH: u8 = 32;

/// The types of one schema that are shown each on a line of its own, with the description: as many as JSON Schema has.
/// Others count once, as their names.
const MAX_KINDS: usize = 7;

/// Whether a member, by its name in lower case, bounds a value or shows what one may be. A comparison with one name
/// after the other, written out, because a search in a list of them took a tenth of all instructions for a tool.
fn is_bound(name: &str) -> bool {
    matches!(
        name,
        "minimum"
            | "maximum"
            | "exclusiveminimum"
            | "exclusivemaximum"
            | "multipleof"
            | "minlength"
            | "maxlength"
            | "pattern"
            | "minitems"
            | "maxitems"
            | "minproperties"
            | "maxproperties"
            | "examples"
            | "example"
    )
}

/// Whether a member, by its name in lower case, has schemas for others, if it is an object or an array.
fn is_for_others(name: &str) -> bool {
    matches!(
        name,
        "additionalproperties"
            | "additionalitems"
            | "unevaluatedproperties"
            | "unevaluateditems"
            | "patternproperties"
            | "propertynames"
            | "dependentschemas"
            | "dependencies"
            | "prefixitems"
            | "contains"
            | "contentschema"
            | "not"
            | "if"
            | "then"
            | "else"
            | "extends"
    )
}

/// A schema.
#[derive(Debug, Default)]
pub(super) struct Schema<'t> {
    /// Its types, each once.
    pub(super) kinds: Vec<Cow<'t, str>>,
    /// The names of further types.
    pub(super) other_kinds: Vec<Cow<'t, str>>,
    pub(super) title: Joined<'t>,
    pub(super) description: Joined<'t>,
    /// As it is written; a string without its quotes.
    pub(super) default: Vec<Cow<'t, str>>,
    /// The values of what else a value must be, such as `minimum` and `pattern`, and examples.
    pub(super) bounds: Vec<Cow<'t, str>>,
    /// The schemas that others must fit, as they are written: of further properties, of what it must not be.
    pub(super) others: Vec<Cow<'t, str>>,
    /// The values of `format`.
    pub(super) formats: Vec<Cow<'t, str>>,
    /// The values of `enum` and `const`, as they are written.
    pub(super) values: Vec<Cow<'t, str>>,
    pub(super) properties: Vec<(Cow<'t, str>, Self)>,
    pub(super) items: Vec<Self>,
    /// What it is one of.
    pub(super) options: Vec<Self>,
    /// The names of the definitions that it refers to.
    pub(super) references: Vec<Cow<'t, str>>,
    pub(super) definitions: Vec<(Cow<'t, str>, Self)>,
    /// What is too deep to be read, as it is written.
    pub(super) unread: Vec<&'t str>,
    /// The levels that may follow.
    depth: u8,
}

impl<'t> Schema<'t> {
    /// An outermost schema.
    pub(super) fn root() -> Self {
        Self { depth: MAX_DEPTH, ..Self::default() }
    }

    /// Reads the value of the next member of `object` as a schema; none if it is too deep.
    fn inner<A: MapAccess<'t>>(&mut self, object: &mut A) -> Result<Option<Self>, A::Error> {
        let Some(depth) = self.depth.checked_sub(1) else {
            self.unread.push(lenient::raw(object)?);
            return Ok(None);
        };
        let mut inner = Self { depth, ..Self::default() };
        lenient::offer(object, &mut inner)?;
        Ok(Some(inner))
    }
}

impl<'t> Accept<'t> for Schema<'t> {
    /// The schemas of an array's first, second and later items.
    fn element<A: SeqAccess<'t>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        Options(self).element(array)
    }

    fn member<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut Kinds(self)),
            "title" => lenient::offer(object, &mut self.title),
            "description" => lenient::offer(object, &mut self.description),
            "default" => {
                self.default.push(bare(lenient::raw(object)?));
                Ok(())
            }
            "format" => {
                self.formats.push(bare(lenient::raw(object)?));
                Ok(())
            }
            _ if is_for_others(name) => {
                let value = lenient::raw(object)?;
                self.others.extend(value.starts_with(['{', '[']).then(|| lenient::compact(value)));
                Ok(())
            }
            _ if is_bound(name) => {
                self.bounds.push(bare(lenient::raw(object)?));
                Ok(())
            }
            "enum" => lenient::offer(object, &mut Values(&mut self.values)),
            "const" => {
                self.values.push(lenient::compact(lenient::raw(object)?));
                Ok(())
            }
            "properties" => lenient::offer(object, &mut Members { schema: self, are_definitions: false }),
            "$defs" | "definitions" => {
                lenient::offer(object, &mut Members { schema: self, are_definitions: true })
            }
            "items" => {
                let items = self.inner(object)?;
                self.items.extend(items);
                Ok(())
            }
            "anyof" | "oneof" | "allof" => lenient::offer(object, &mut Options(self)),
            "$ref" => {
                let mut reference = lenient::Text::default();
                lenient::offer(object, &mut reference)?;
                self.references.extend(reference.0);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }
}

/// JSON as it is written; a string without its quotes.
fn bare(value: &str) -> Cow<'_, str> {
    let mut text = lenient::Text::default();
    // Most bounds are numbers, and an error costs more than all else that is done with them.
    if value.starts_with('"') && lenient::read(value, &mut text).is_ok() {
        return text.0.unwrap_or_default();
    }
    lenient::compact(value)
}

/// The value of `type`: a name, or several.
struct Kinds<'k, 't>(&'k mut Schema<'t>);

impl<'t> Accept<'t> for Kinds<'_, 't> {
    fn string(&mut self, text: Cow<'t, str>) {
        let Schema { kinds, other_kinds, .. } = &mut *self.0;
        if kinds.len() >= MAX_KINDS {
            other_kinds.push(text);
        } else if !kinds.contains(&text) {
            kinds.push(text);
        }
    }

    fn element<A: SeqAccess<'t>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let mut name = lenient::Text::default();
        let read = lenient::offer_element(array, &mut name)?;
        name.0.into_iter().for_each(|name| self.string(name));
        Ok(read)
    }
}

/// The value of `enum`.
struct Values<'v, 't>(&'v mut Vec<Cow<'t, str>>);

impl<'t> Accept<'t> for Values<'_, 't> {
    fn element<A: SeqAccess<'t>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let value = array.next_element::<&'t RawValue>()?;
        self.0.extend(value.map(|value| lenient::compact(value.get())));
        Ok(value.map(drop))
    }
}

/// The value of `properties` or `$defs`.
struct Members<'m, 't> {
    schema: &'m mut Schema<'t>,
    are_definitions: bool,
}

impl<'t> Accept<'t> for Members<'_, 't> {
    /// The names are the client's own, and every reader keeps them as they are.
    fn member_as_written<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let inner = self.schema.inner(object)?.unwrap_or_default();
        let name = Cow::Owned(name.to_owned());
        match self.are_definitions {
            true => self.schema.definitions.push((name, inner)),
            false => self.schema.properties.push((name, inner)),
        }
        Ok(())
    }
}

/// The value of `anyOf` or `oneOf`: schemas.
struct Options<'o, 't>(&'o mut Schema<'t>);

impl<'t> Accept<'t> for Options<'_, 't> {
    fn element<A: SeqAccess<'t>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        let Some(depth) = self.0.depth.checked_sub(1) else {
            let value = array.next_element::<&'t RawValue>()?;
            self.0.unread.extend(value.map(RawValue::get));
            return Ok(value.map(drop));
        };
        let mut inner = Schema { depth, ..Schema::default() };
        let read = lenient::offer_element(array, &mut inner)?;
        if read.is_some() {
            self.0.options.push(inner);
        }
        Ok(read)
    }
}
