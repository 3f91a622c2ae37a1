//! What reservations would find: the state of their windows, and whether they would fit. Changes nothing.

use super::call::{self, Group, Invalid};
use super::error::Unavailable;
use super::slices::slices;
use super::{Answer, REDIS_CLOCK, Store};
use llm_rate_limit::store::wire::{Reserve, Reserved, ScopeCharges};
use llm_rate_limit::window::{Fit, WindowState};

impl Store {
    /// What each reservation of a batch would be answered if it came now, in order. A new identity has windows of its
    /// own here, whoever else is new.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn peek(&self, batch: &[Reserve]) -> Result<Vec<Reserved>, Unavailable> {
        let mut answers = Vec::with_capacity(batch.len());
        for slice in slices(batch, |one| &one.charges) {
            answers.append(&mut self.peek_slice(slice).await?);
        }
        Ok(answers)
    }

    async fn peek_slice(&self, batch: &[Reserve]) -> Result<Vec<Reserved>, Unavailable> {
        let elements: Vec<_> =
            batch.iter().map(|one| call::groups(&one.namespace, &one.id, &one.charges)).collect();
        let groups = elements.iter().flatten().flatten();
        let calls: Vec<_> = groups.map(|group| group.peek(REDIS_CLOCK)).collect();
        let mut replies = self.run(&calls).await?.into_iter();
        let answer = |(one, groups): (&Reserve, &Result<Vec<Group<'_>>, Invalid>)| match groups {
            Ok(groups) => peeked(one, groups, replies.by_ref().take(groups.len())),
            Err(why) => Reserved::Failed { error: why.to_string(), unavailable: false },
        };
        Ok(batch.iter().zip(&elements).map(answer).collect())
    }
}

/// The answer to `one`, whose `groups` got these `replies`.
fn peeked(one: &Reserve, groups: &[Group<'_>], replies: impl Iterator<Item = Answer>) -> Reserved {
    let failed = |error: String| Reserved::Failed { error, unavailable: true };
    let mut windows: Vec<Option<WindowState>> = vec![None; ScopeCharges::count(&one.charges)];
    for (group, reply) in groups.iter().zip(replies) {
        let states = match reply {
            Ok(reply) => call::window_states(&reply).unwrap_or_default(),
            Err(why) => return failed(why),
        };
        for (place, state) in group.places().zip(states) {
            if let Some(window) = windows.get_mut(place) {
                *window = Some(state);
            }
        }
    }
    let Some(windows) = windows.into_iter().collect::<Option<Vec<_>>>() else {
        return failed("Redis: the script's reply is invalid".to_owned());
    };
    let admitted = ScopeCharges::flat(&one.charges)
        .zip(&windows)
        .all(|(charge, state)| !charge.enforced || state.fit == Fit::Now);
    Reserved::Decided { admitted, windows }
}
