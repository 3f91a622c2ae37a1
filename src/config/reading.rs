//! From the tree to the configuration, with all mistakes reported at once.
//!
//! Decoding stops at the first value that does not fit. This file leaves that value out and decodes the rest again,
//! until everything fits. It reports problems of the rest too, unless a value that was left out may be their cause.

use super::Config;
use super::decode::{Misfit, decode};
use super::document::Node;
use super::error::{ConfigError, Problem, Problems, Step};
use super::raw;

/// The most misfits to report: each costs another decoding of the whole configuration.
const MAX_MISFITS: usize = 100;

/// The configuration in `document`.
///
/// # Errors
/// All mistakes in it.
pub(super) fn read(mut document: Node) -> Result<Config, ConfigError> {
    let mut misfits: Vec<Misfit> = Vec::new();
    let raw = loop {
        match decode::<raw::Root>(&document) {
            Ok(raw) => break raw,
            Err(misfit) => {
                let can_continue = document.leave_out(&misfit.trail);
                misfits.push(misfit);
                if !can_continue || misfits.len() >= MAX_MISFITS {
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
        let is_consequence =
            |problem: &Problem| misfits.iter().any(|misfit| problem.encloses(&misfit.problem));
        for problem in error.problems().iter().filter(|problem| !is_consequence(problem)) {
            problems.push(problem.clone());
        }
    }
    Err(problems.into())
}

/// The problems of `misfits`, without the consequences of earlier ones: an object that lost its only member does not
/// fit either.
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

/// Whether other values depend on the value at `trail`: the numbers of later elements do, and keys refer to plans and
/// groups.
fn others_depend_on(trail: &[Step]) -> bool {
    match trail {
        [.., Step::Element(_)] => true,
        [Step::Member(name)] | [Step::Member(name), _] => matches!(name.as_str(), "plans" | "groups"),
        _ => false,
    }
}
