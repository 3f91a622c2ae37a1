//! `check`: reads configurations with the filter's own parser, so that a file that passes here passes in Envoy, and
//! checks what stands around them.
//!
//! A file has the filter's configuration, or something that has it: Envoy's own, a resource of Istio or Envoy Gateway,
//! a `ConfigMap`. All files of a call are one deployment: a cluster may be in another than the filter. `check` needs no
//! Envoy, no sidecar and no Redis.

use super::Failure;
use super::deployment::advice::advise;
use super::deployment::documents::{self, Document};
use super::deployment::find::{Form, Found, Given, find};
use super::deployment::world::World;
use super::deployment::{Notes, around};
use super::input::contents;
use llm_rate_limit::config::{Config, ConfigError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file, as it is and as documents.
struct File<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    /// The message if it is neither JSON nor YAML.
    documents: Result<Vec<Document>, String>,
}

/// Checks `files` and prints a line for each problem and each hint, and `ok` for each file without problems. Returns
/// whether none has a problem, and any has the filter.
pub(super) fn check(files: &[PathBuf], out: &mut impl Write) -> Result<bool, Failure> {
    let files = files.iter().map(|path| File::read(path)).collect::<Result<Vec<_>, _>>()?;
    let world = World::of(files.iter().flat_map(|file| file.documents.iter().flatten()));
    let (mut all_ok, mut any_found) = (true, false);
    for file in &files {
        let name = file.path.display();
        let (notes, has_filter) = file.check(&world);
        any_found |= has_filter;
        all_ok &= notes.problems.is_empty();
        match (notes.problems.is_empty(), has_filter) {
            (false, _) => {}
            (true, true) => writeln!(out, "{name}: ok")?,
            (true, false) => writeln!(out, "{name}: nothing of the filter is in it")?,
        }
        for problem in &notes.problems {
            writeln!(out, "{name}: {problem}")?;
        }
        for hint in &notes.hints {
            writeln!(out, "{name}: hint: {hint}")?;
        }
    }
    Ok(all_ok && any_found)
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Self, Failure> {
        let bytes = contents(path)?;
        let documents = documents::read(&bytes);
        Ok(Self { path, bytes, documents })
    }

    /// The notes on it, and whether it has the filter.
    fn check(&self, world: &World<'_>) -> (Notes, bool) {
        let mut notes = Notes::default();
        let mut has_filter = false;
        let documents = self.documents.as_deref().map_or(&[][..], |documents| documents);
        for document in documents {
            for found in find(document) {
                has_filter = true;
                let is_file = documents.len() == 1 && document.place.is_empty();
                self.check_found(document, &found, is_file, world, &mut notes);
            }
        }
        match &self.documents {
            // The filter's own parser, which knows one document only, would stop at the second.
            Err(why) if self.has_several() => notes.problems.push(format!("expected JSON or YAML: {why}")),
            Ok(documents) if !documents.is_empty() => {}
            // Nobody knows what it was to be; the filter's own message says what is wrong with it.
            _ => match Config::from_bytes(&self.bytes) {
                Ok(config) => {
                    has_filter = true;
                    advise(&config, "", &mut notes);
                }
                Err(error) => notes.problems.extend(lines("", &error)),
            },
        }
        (notes, has_filter)
    }

    /// Whether there seems to be more than one document of YAML in it.
    fn has_several(&self) -> bool {
        let mut lines = self.bytes.split(|byte| *byte == b'\n').skip_while(|line| line.is_empty()).skip(1);
        lines.any(|line| line.starts_with(b"---"))
    }

    /// Adds to `notes` what is to say about one filter. `is_file`: its document is the whole file.
    fn check_found(
        &self,
        document: &Document,
        found: &Found<'_>,
        is_file: bool,
        world: &World<'_>,
        notes: &mut Notes,
    ) {
        let place = &found.configuration_place;
        let config = match found.configuration {
            // The text of the file says more than its tree.
            Given::Whole(_) if is_file => Config::from_bytes(&self.bytes),
            given => Config::from_bytes(given.text().as_bytes()),
        };
        match config {
            Ok(config) => {
                around::check(document, found, &config, world, notes);
                let is_alone = matches!(found.form, Form::Alone);
                advise(&config, if is_alone { &found.place } else { place }, notes);
            }
            Err(error) => notes.problems.extend(lines(place, &error)),
        }
    }
}

/// The problems of `error`, in a configuration at `place`.
fn lines(place: &str, error: &ConfigError) -> Vec<String> {
    let begin = if place.is_empty() { String::new() } else { format!("{place}: ") };
    error.problems().iter().map(|problem| format!("{begin}{problem}")).collect()
}
