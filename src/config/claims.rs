//! Claims, checked: where requests say their plan, their group, their name or the amount of a limit.

use super::document::Number;
use super::error::{Path, Problems, quoted};
use super::raw;
use super::sources;
use crate::identity::Claim;
use crate::policy::limit::Allowance;
use crate::quantity::Units;
use std::sync::Arc;

/// A word of the configuration, and where requests may say another.
pub(super) struct Chosen<'a> {
    /// What is written; for a claim, what holds if a request says nothing of use.
    pub(super) word: Option<&'a str>,
    /// The place in requests.
    pub(super) claim: Option<Arc<Claim>>,
    /// The member of the field that has the word, if it is not the field itself.
    member: Option<&'static str>,
}

impl<'a> Chosen<'a> {
    /// Nothing is given.
    const NOTHING: Self = Self { word: None, claim: None, member: None };

    /// The plan or the group at `path`.
    pub(super) fn word(
        given: Option<&'a raw::Word<raw::ClaimedWord>>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Self {
        match given {
            None => Self::NOTHING,
            Some(raw::Word::Written(word)) => Self { word: Some(word), ..Self::NOTHING },
            Some(raw::Word::Claimed(raw::ClaimedWord { header, metadata, default })) => {
                Self::claimed(header.as_ref(), metadata.as_ref(), Some(default), path, problems)
            }
        }
    }

    /// The name at `path`.
    pub(super) fn name(
        given: Option<&'a raw::Word<raw::ClaimedName>>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Self {
        let chosen = match given {
            None => Self::NOTHING,
            Some(raw::Word::Written(word)) => Self { word: Some(word), ..Self::NOTHING },
            Some(raw::Word::Claimed(raw::ClaimedName { header, metadata, default })) => {
                Self::claimed(header.as_ref(), metadata.as_ref(), default.as_ref(), path, problems)
            }
        };
        let is_bad = |name: &&str| name.trim().is_empty() || name.contains(char::is_control);
        if let Some(name) = chosen.word.filter(is_bad) {
            chosen.expected(path, "a name of one line", name, problems);
        }
        chosen
    }

    fn claimed(
        header: Option<&'a String>,
        metadata: Option<&'a Vec<String>>,
        default: Option<&'a String>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Self {
        let claim = claim(header, metadata, path, problems);
        Self { word: default.map(String::as_str), claim, member: Some("default") }
    }

    /// Reports the `word` in the field at `path`.
    pub(super) fn expected(&self, path: &Path<'_>, expected: &str, word: &str, problems: &mut Problems) {
        match self.member {
            Some(member) => problems.expected(&path.member(member), expected, quoted(word)),
            None => problems.expected(path, expected, quoted(word)),
        }
    }
}

/// The amount of the limit at `path`: the one that is written, or that holds for requests that say none; and how they
/// say one. `units` checks a number, in units of which one is `scale`.
pub(super) fn amount(
    given: &raw::Amount,
    scale: u64,
    path: &Path<'_>,
    problems: &mut Problems,
    units: impl Fn(Number, &Path<'_>, Option<u64>, &mut Problems) -> Option<u64>,
) -> Option<(Units, Option<Allowance>)> {
    match given {
        raw::Amount::Written(number) => Some((Units::new(units(*number, path, None, problems)?), None)),
        raw::Amount::Claimed(given) => {
            let raw::ClaimedAmount { header, metadata, default, max } = &**given;
            let claim = claim(header.as_ref(), metadata.as_ref(), path, problems);
            let max = units(*max, &path.member("max"), None, problems);
            let default = units(*default, &path.member("default"), max, problems);
            let allowance = Allowance { claim: claim?, max: Units::new(max?), scale, is_burst: false };
            Some((Units::new(default?), Some(allowance)))
        }
    }
}

/// The place of the claim at `path`.
fn claim(
    header: Option<&String>,
    metadata: Option<&Vec<String>>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Arc<Claim>> {
    match (header, metadata) {
        (Some(name), None) => {
            let name = sources::header(name.clone(), &path.member("header"), problems);
            Some(Arc::new(Claim::Header(name)))
        }
        (None, Some(names)) => {
            sources::metadata(names, &path.member("metadata"), problems);
            Some(Arc::new(Claim::Metadata(names.clone())))
        }
        (given, _) => {
            let found = if given.is_some() { "both" } else { "neither" };
            problems.expected(path, "either \"header\" or \"metadata\"", found);
            None
        }
    }
}
