//! A reservation on its way through its scopes: the group to ask next, and what the answers so far make of it.
//!
//! It sends nothing; [`super::Store`] does.

use super::Answer;
use super::call::{self, Group};
use llm_rate_limit::store::wire::{Reserve, Reserved, ScopeCharges};
use llm_rate_limit::window::WindowState;

/// A reservation on its way through its scopes.
pub(super) struct Pending<'a> {
    pub(super) id: &'a str,
    groups: Vec<Group<'a>>,
    /// The number of groups that are charged, counted from the first.
    charged: usize,
    stage: Stage,
    /// The states of its windows, in the order of the request's charges.
    windows: Vec<Option<WindowState>>,
}

enum Stage {
    /// No group has refused so far.
    Reserving,
    /// The group after the charged ones refused.
    Refused,
    /// The request cannot be turned into calls.
    Invalid(String),
    /// The group after the charged ones failed, or the windows could not be read.
    Failed(String),
}

impl<'a> Pending<'a> {
    pub(super) fn new(request: &'a Reserve) -> Self {
        let (groups, stage) = match call::groups(&request.namespace, &request.id, &request.charges) {
            Ok(groups) => (groups, Stage::Reserving),
            Err(why) => (Vec::new(), Stage::Invalid(why.to_string())),
        };
        Self {
            id: &request.id,
            groups,
            charged: 0,
            stage,
            windows: vec![None; ScopeCharges::flat(&request.charges).count()],
        }
    }

    /// Whether every group so far has admitted the request.
    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.stage, Stage::Reserving)
    }

    /// Whether a group has refused the request.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    /// Ends the reservation with an error.
    pub(super) fn fail(&mut self, error: String) {
        self.stage = Stage::Failed(error);
    }

    /// The group to reserve next.
    pub(super) fn next_group(&self) -> Option<&Group<'a>> {
        match self.stage {
            Stage::Reserving => self.groups.get(self.charged),
            _ => None,
        }
    }

    /// The groups that are charged.
    pub(super) fn charged(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups.iter().take(self.charged)
    }

    /// All groups but the one that refused.
    pub(super) fn others(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups.iter().enumerate().filter(|(at, _)| *at != self.charged).map(|(_, group)| group)
    }

    /// Takes the reply of [`Pending::next_group`].
    pub(super) fn accept_reply(&mut self, answer: Answer) {
        let answer = answer.and_then(|reply| match reply.as_slice() {
            [admitted, windows @ ..] => Ok((*admitted == 1, states(windows)?)),
            [] => Err(invalid_reply()),
        });
        match answer {
            Ok((admitted, states)) => {
                self.record(self.charged, states);
                if admitted {
                    self.charged += 1;
                } else {
                    self.stage = Stage::Refused;
                }
            }
            Err(why) => self.stage = Stage::Failed(why),
        }
    }

    /// Takes the states of the [`Pending::others`] after a refusal.
    pub(super) fn accept_peeks(&mut self, answers: impl Iterator<Item = Answer>) {
        let refused = self.charged;
        let others = (0..self.groups.len()).filter(|at| *at != refused);
        for (at, answer) in others.zip(answers) {
            match answer.and_then(|reply| states(&reply)) {
                Ok(states) => self.record(at, states),
                Err(why) => self.stage = Stage::Failed(why),
            }
        }
    }

    fn record(&mut self, group: usize, states: Vec<WindowState>) {
        let Some(group) = self.groups.get(group) else { return };
        for (place, state) in group.places().zip(states) {
            if let Some(window) = self.windows.get_mut(place) {
                *window = Some(state);
            }
        }
    }

    /// The answer to the request.
    pub(super) fn finish(self) -> Reserved {
        let admitted = match self.stage {
            Stage::Invalid(error) => return Reserved::Failed { error, unavailable: false },
            Stage::Failed(error) => return Reserved::Failed { error, unavailable: true },
            Stage::Refused => false,
            Stage::Reserving => true,
        };
        match self.windows.into_iter().collect() {
            Some(windows) => Reserved::Decided { admitted, windows },
            None => Reserved::Failed { error: invalid_reply(), unavailable: true },
        }
    }
}

fn states(windows: &[i64]) -> Result<Vec<WindowState>, String> {
    call::window_states(windows).ok_or_else(invalid_reply)
}

fn invalid_reply() -> String {
    "Redis: the script's reply is invalid".to_owned()
}
