//! From the tree to the fields, finding all that is wrong with them in one go.
//!
//! Reading stops at the first value that does not fit. So that value is left out and the rest is read again, until all
//! fits. What is then wrong with the rest may follow from what was left out; only what cannot is reported too.

use super::Config;
use super::decode::{Misfit, decode};
use super::document::Node;
use super::error::{ConfigError, Problem, Problems, Step};
use super::raw;

/// So many are enough to look at, and each is another reading of all.
const MOST_MISFITS: usize = 100;

/// The configuration in `document`.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn read(mut document: Node) -> Result<Config, ConfigError> {
    let mut misfits: Vec<Misfit> = Vec::new();
    let raw = loop {
        match decode::<raw::Root>(&document) {
            Ok(raw) => break raw,
            Err(misfit) => {
                let goes_on = document.leave_out(&misfit.trail);
                misfits.push(misfit);
                if !goes_on || misfits.len() >= MOST_MISFITS {
                    return Err(own_problems(&misfits).into());
                }
            }
        }
    };
    if misfits.is_empty() {
        return Config::new(raw);
    }
    let mut problems = own_problems(&misfits);
    if !misfits.iter().any(|misfit| others_depend_on(&misfit.trail))
        && let Err(error) = Config::new(raw)
    {
        let follows = |problem: &Problem| misfits.iter().any(|misfit| problem.encloses(&misfit.problem));
        for problem in error.problems().iter().filter(|problem| !follows(problem)) {
            problems.push(problem.clone());
        }
    }
    Err(problems.into())
}

/// The problems of `misfits` that do not follow from an earlier one: without its only member, an object does not fit
/// either.
fn own_problems(misfits: &[Misfit]) -> Problems {
    let mut problems = Problems::default();
    for (at, misfit) in misfits.iter().enumerate() {
        let mut earlier = misfits.iter().take(at);
        if !earlier.any(|earlier| misfit.problem.encloses(&earlier.problem)) {
            problems.push(misfit.problem.clone());
        }
    }
    problems
}

/// Whether the meaning of other values changes with that at `trail`: elements give the others their numbers, and keys
/// name plans and groups.
fn others_depend_on(trail: &[Step]) -> bool {
    match trail {
        [.., Step::Element(_)] => true,
        [Step::Member(name)] | [Step::Member(name), _] => matches!(name.as_str(), "plans" | "groups"),
        _ => false,
    }
}
