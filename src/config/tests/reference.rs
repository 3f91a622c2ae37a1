//! `docs/reference.md`: the schema as a page, for readers without an editor that shows it.

use super::schema::schema;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const INTRODUCTION: &str = "# Fields of the configuration

Every object of the filter's configuration, with its fields and their meaning, made of
[config.schema.json](config.schema.json); [configuration](configuration.md) explains them and has examples. A field
that is not marked as required may be left out.

<!-- UPDATE_DOCS=1 cargo test -p llm-rate-limit reference_page writes this page -->
";

/// The most columns of a line.
const WIDTH: usize = 120;

/// Objects in the order in which a reader meets them.
struct Page<'a> {
    definitions: &'a Map<String, Value>,
    met: Vec<&'a str>,
}

impl<'a> Page<'a> {
    /// What a value is, in words, with links to the objects in it.
    fn kind(&mut self, schema: &'a Value) -> String {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/")) {
            if !self.met.contains(&name) {
                self.met.push(name);
            }
            return format!("[{name}](#{})", name.to_lowercase());
        }
        for (word, joint) in [("allOf", " and "), ("oneOf", " or "), ("anyOf", " or ")] {
            if let Some(parts) = schema[word].as_array() {
                return parts.iter().map(|part| self.kind(part)).collect::<Vec<_>>().join(joint);
            }
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().map(|word| self.literal(word)).collect::<Vec<_>>().join(" or ");
        }
        match schema["type"].as_str() {
            _ if !schema["const"].is_null() => self.literal(&schema["const"]),
            Some("array") => format!("array of {}", self.kind(&schema["items"])),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("object of {} by name", self.kind(&schema["additionalProperties"]))
            }
            Some(name) => name.to_owned(),
            None => "anything".to_owned(),
        }
    }

    fn literal(&self, value: &Value) -> String {
        value.as_str().map_or_else(|| value.to_string(), |text| format!("`{text}`"))
    }

    /// The description of an object or an enum, and a table of its fields or values.
    fn section(&mut self, schema: &'a Value) -> String {
        let mut text = schema["description"].as_str().map_or_else(String::new, wrapped);
        if let Some(fields) = schema["properties"].as_object() {
            text += "\n| field | type | meaning |\n|---|---|---|\n";
            for (name, field) in fields {
                let is_required =
                    schema["required"].as_array().is_some_and(|all| all.contains(&name.as_str().into()));
                let required = if is_required { "; required" } else { "" };
                let meaning = self.meaning(field);
                writeln!(text, "| `{name}` | {}{required} | {} |", self.kind(field), in_cell(meaning))
                    .unwrap();
            }
        } else if let Some(values) = schema["oneOf"].as_array() {
            text += "\n| value | meaning |\n|---|---|\n";
            for value in values {
                let meaning = self.meaning(value);
                writeln!(text, "| {} | {} |", self.kind(value), in_cell(meaning)).unwrap();
            }
            for fields in values.iter().filter(|value| value["properties"].is_object()) {
                text += &self.section(fields);
            }
        }
        text
    }

    /// A value's own description, or else that of what it refers to.
    fn meaning(&self, schema: &'a Value) -> &'a str {
        let own = schema["description"].as_str();
        let referred = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/definitions/"));
        own.or_else(|| self.definitions.get(referred?)?["description"].as_str()).unwrap_or_default()
    }
}

/// A paragraph in lines as wide as all pages are.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().unwrap();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(word.to_owned());
        } else {
            *line = format!("{line} {word}").trim_start().to_owned();
        }
    }
    lines.join("\n") + "\n"
}

fn in_cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn page(schema: &Value) -> String {
    let definitions = schema["definitions"].as_object().unwrap();
    let mut page = Page { definitions, met: Vec::new() };
    let mut text = format!("{INTRODUCTION}\n## The whole\n\n{}", page.section(schema));
    let mut written = 0;
    while let Some(&name) = page.met.get(written) {
        let section = page.section(&definitions[name]);
        write!(text, "\n## {name}\n\n{section}").unwrap();
        written += 1;
    }
    assert_eq!(written, definitions.len(), "the page has every definition");
    text
}

#[test]
fn the_reference_page_is_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let expected = page(&schema());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let is_new = fs::read_to_string(&path).is_ok_and(|page| page == expected);
    assert!(is_new, "UPDATE_DOCS=1 cargo test -p llm-rate-limit reference_page writes docs/reference.md");
}
