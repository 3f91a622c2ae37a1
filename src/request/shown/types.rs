//! JSON Schema as types of TypeScript: the form in which OpenAI's models are shown the parameters of functions.
//!
//! Nobody publishes the form. It was found by comparing the tokens of recorded requests with the usage that OpenAI
//! reported for them, which it matches to a token or two:
//!
//! ```text
//! // Books a trip.
//! type book = (_:{
//! // Where to
//! city: string,
//! class: "first" | "second", // default: second
//! traveller:{
//!  name: string,
//!  ages: number[],
//! },
//! }) => any;
//! ```
//!
//! Titles come before descriptions, with an empty comment between them. A schema of several types has a line for each,
//! which repeats the description. References are resolved, as often as they occur: a client can make a small schema
//! that grows without end in this way, so what they add is bounded, and a reference to what it is in is `any`.

use super::schema::Schema;
use crate::codec::lenient::{self, Joined};
use crate::sort;
use std::collections::BTreeMap;

/// What resolved references may add: so many bytes for each of the schema's, and these beyond.
const GROWTH: usize = 4;
const GROWTH_BEYOND: usize = 1024;

/// The references that are resolved within each other, at most.
const MAX_REFERENCES: usize = 16;

/// Writes `text` as comments, one for each line that is not blank.
pub(super) fn comment(out: &mut String, depth: usize, text: &str) {
    for line in text.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        indent(out, depth);
        out.push_str("// ");
        out.push_str(line);
        out.push('\n');
    }
}

/// Writes the parameters of a function. `size` is the size of the `schema`, in bytes.
pub(super) fn parameters(out: &mut String, schema: &Schema<'_>, size: usize) {
    let mut root = schema;
    let definitions = sort::collected(schema.definitions.iter().map(|(name, schema)| (&**name, schema)));
    let left = size.saturating_mul(GROWTH).saturating_add(GROWTH_BEYOND);
    let mut types = Types { out, definitions, within: Vec::new(), left };
    if root.properties.is_empty()
        && let Some(resolved) = root.references.first().and_then(|reference| types.definition(reference))
    {
        root = resolved;
    }
    types.unread(root);
    if !root.options.is_empty() {
        // What is one of several has no names of its own.
        types.out.push_str("_: ");
        types.type_of(root, 0);
        return;
    }
    types.others(root);
    if root.properties.is_empty() {
        return;
    }
    types.out.push_str("_:");
    let (title, description) = (text(&root.title), text(&root.description));
    if !title.is_empty() || !description.is_empty() {
        types.out.push('\n');
        types.comments(title, description, 0);
    }
    types.out.push_str("{\n");
    types.properties(root, 0);
    types.out.push('}');
}

fn text<'s>(text: &'s Joined<'_>) -> &'s str {
    text.0.as_deref().unwrap_or_default()
}

fn indent(out: &mut String, depth: usize) {
    (0..depth).for_each(|_| out.push(' '));
}

/// Writes one function's types.
struct Types<'o, 's, 't> {
    out: &'o mut String,
    definitions: BTreeMap<&'s str, &'s Schema<'t>>,
    /// The references that are being resolved.
    within: Vec<&'s str>,
    /// What resolved references may still add, in bytes.
    left: usize,
}

impl<'s, 't> Types<'_, 's, 't> {
    /// The definition that `reference` names.
    fn definition(&self, reference: &str) -> Option<&'s Schema<'t>> {
        self.definitions.get(reference.rsplit('/').next()?).copied()
    }

    /// The schema that `schema` refers to, and where it is defined, unless it refers to none that may be resolved.
    fn resolved(&self, schema: &'s Schema<'t>) -> Option<(&'s str, &'s Schema<'t>)> {
        let reference = schema.references.first()?;
        let name = reference.rsplit('/').next()?;
        let (name, resolved) = self.definitions.get_key_value(name)?;
        let may = self.left > 0 && self.within.len() < MAX_REFERENCES && !self.within.contains(name);
        may.then_some((*name, *resolved))
    }

    fn comments(&mut self, title: &str, description: &str, depth: usize) {
        comment(self.out, depth, title);
        if !title.is_empty() && !description.is_empty() {
            indent(self.out, depth);
            self.out.push_str("//\n");
        }
        comment(self.out, depth, description);
    }

    fn unread(&mut self, schema: &Schema<'_>) {
        for json in &schema.unread {
            self.out.push_str(&lenient::compact(json));
        }
        for kind in &schema.other_kinds {
            self.out.push_str(kind);
            self.out.push(' ');
        }
    }

    fn properties(&mut self, schema: &'s Schema<'t>, depth: usize) {
        for (name, property) in &schema.properties {
            // What a property does not say itself, its definition says.
            let resolved = self.resolved(property).map(|(_, resolved)| resolved);
            let definition = resolved.unwrap_or(property);
            let own =
                |own: &'s Joined<'t>, other: &'s Joined<'t>| text(if own.0.is_some() { own } else { other });
            let title = own(&property.title, &definition.title);
            let description = own(&property.description, &definition.description);
            let before = self.out.len();
            self.comments(title, description, depth);
            if resolved.is_some() {
                self.left = self.left.saturating_sub(self.out.len().saturating_sub(before));
            }
            indent(self.out, depth);
            self.out.push_str(name);
            self.out.push(':');
            if property.kinds.len() > 1 && property.values.is_empty() && property.options.is_empty() {
                self.unread(property);
                self.several_kinds(property, depth);
                self.others(property);
            } else {
                let begin = self.out.len();
                self.type_of(property, depth);
                if !self.out.get(begin..).is_some_and(|text| text.starts_with('{')) {
                    self.out.insert(begin.min(self.out.len()), ' ');
                }
            }
            self.out.push(',');
            for default in &property.default {
                self.out.push_str(" // default: ");
                self.out.push_str(default);
            }
            self.bounds(property);
            self.out.push('\n');
        }
    }

    /// Writes what bounds a value, as a comment: of a number, no format.
    fn bounds(&mut self, schema: &Schema<'_>) {
        let is_number = schema.kinds.iter().any(|kind| matches!(&**kind, "number" | "integer"));
        let formats = schema.formats.iter().filter(|_| !is_number);
        for (at, bound) in schema.bounds.iter().chain(formats).enumerate() {
            self.out.push_str(if at == 0 { " // " } else { ", " });
            self.out.push_str(bound);
        }
    }

    /// Writes a line for each kind.
    fn several_kinds(&mut self, schema: &'s Schema<'t>, depth: usize) {
        self.out.push('\n');
        for kind in &schema.kinds {
            indent(self.out, depth);
            self.out.push_str(" | ");
            self.kind(kind, schema, depth);
            let description = text(&schema.description);
            if !description.is_empty() {
                self.out.push_str(" // ");
                self.out.push_str(description);
            }
            self.out.push('\n');
        }
    }

    fn type_of(&mut self, schema: &'s Schema<'t>, depth: usize) {
        if let Some((name, resolved)) = self.resolved(schema) {
            let before = self.out.len();
            self.within.push(name);
            self.type_of(resolved, depth);
            self.within.pop();
            self.left = self.left.saturating_sub(self.out.len().saturating_sub(before));
            self.beside(schema, depth);
            self.others(schema);
            return;
        }
        self.unread(schema);
        self.others(schema);
        if !schema.options.is_empty() {
            self.separated(&schema.options, |types, option| types.type_of(option, depth));
            self.beside(schema, depth);
        } else if !schema.values.is_empty() {
            self.separated(&schema.values, |types, value| types.out.push_str(value));
            self.beside(schema, depth);
        } else if schema.kinds.is_empty() && schema.properties.is_empty() && schema.items.is_empty() {
            self.out.push_str("any");
        } else if schema.kinds.is_empty() {
            let kind = if schema.properties.is_empty() { "array" } else { "object" };
            self.kind(kind, schema, depth);
        } else {
            self.separated(&schema.kinds, |types, kind| types.kind(kind, schema, depth));
            let is_shown = |kind: &str| schema.kinds.iter().any(|known| known == kind);
            if !is_shown("object") && !is_shown("array") {
                self.beside(schema, depth);
            }
        }
    }

    /// Writes the schemas that others must fit.
    fn others(&mut self, schema: &Schema<'_>) {
        for json in schema.others.iter().filter(|json| json.len() > 2) {
            self.out.push_str(json);
            self.out.push_str(" & ");
        }
    }

    /// Writes the properties and items of a schema that are not a part of its type as it is written: other readers may
    /// find them there.
    fn beside(&mut self, schema: &'s Schema<'t>, depth: usize) {
        let is_there = [("object", !schema.properties.is_empty()), ("array", !schema.items.is_empty())];
        for (kind, _) in is_there.into_iter().filter(|(_, is_there)| *is_there) {
            self.out.push_str(" & ");
            self.kind(kind, schema, depth);
        }
    }

    fn separated<T>(&mut self, of: &'s [T], mut write: impl FnMut(&mut Self, &'s T)) {
        for (at, one) in of.iter().enumerate() {
            if at > 0 {
                self.out.push_str(" | ");
            }
            write(self, one);
        }
    }

    fn kind(&mut self, kind: &str, schema: &'s Schema<'t>, depth: usize) {
        match kind {
            "integer" | "number" => self.out.push_str("number"),
            "array" => {
                if schema.items.is_empty() {
                    self.out.push_str("any");
                }
                schema.items.iter().for_each(|items| self.type_of(items, depth));
                self.out.push_str("[]");
            }
            "object" if schema.properties.is_empty() => self.out.push_str("object"),
            "object" => {
                self.out.push_str("{\n");
                self.properties(schema, depth.saturating_add(1));
                indent(self.out, depth);
                self.out.push('}');
            }
            other => self.out.push_str(other),
        }
    }
}
