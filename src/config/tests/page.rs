//! Compares `docs/configuration.md` to the configuration: the page describes every field, and its examples are tested
//! files.

use super::schema::schema;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// The names of all fields in a schema, and the values of all enums.
fn names(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("properties", Value::Object(fields)) => found.extend(fields.keys().cloned()),
                    ("const", Value::String(word)) => {
                        found.insert(word.clone());
                    }
                    ("enum", Value::Array(words)) => {
                        found.extend(words.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => {}
                }
                names(value, found);
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| names(element, found)),
        _ => {}
    }
}

#[test]
fn it_describes_every_field_and_value() {
    let mut expected = BTreeSet::new();
    names(&schema(), &mut expected);
    assert!(expected.len() > 80, "{}", expected.len());
    // All text between backticks, whole or split at dots.
    let page = page();
    let quoted: BTreeSet<_> = page.split('`').skip(1).step_by(2).flat_map(|text| text.split('.')).collect();
    let missing: Vec<_> = expected.iter().filter(|name| !quoted.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn its_examples_are_tested_files() {
    let directory = root().join("tests/data/config/good");
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    let texts: Vec<_> = files.iter().map(|file: &PathBuf| fs::read_to_string(file).unwrap()).collect();
    let page = page();
    let examples: Vec<_> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 5);
    for example in examples {
        assert!(
            texts.iter().any(|text| text == example),
            "no file in tests/data/config/good is this:\n{example}"
        );
    }
}
