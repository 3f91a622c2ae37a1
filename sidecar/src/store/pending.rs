//! A reservation on its way through its scopes: the group to ask next, and what the answers so far make of it.
//!
//! It sends nothing; [`super::Store`] does.

use super::call::{self, Call, Group, IfNew};
use super::newcomers::{Newcomers, Standing};
use super::{Answer, REDIS_CLOCK};
use llm_rate_limit::store::wire::{Reserve, Reserved, ScopeCharges};
use llm_rate_limit::window::WindowState;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// A reservation on its way through its scopes.
pub(super) struct Pending<'a> {
    pub(super) id: &'a str,
    groups: Vec<Group<'a>>,
    /// The number of groups that are charged, counted from the first.
    charged: usize,
    stage: Stage,
    /// The states of its windows, in the order of the request's charges.
    windows: Vec<Option<WindowState>>,
    /// How many new identities may get counters of their own in a second, if that is bounded.
    max_new: Option<NonZeroU32>,
    /// Whether no settlement follows.
    is_final: bool,
    /// How its identity's own charges were sent, and when.
    sent: Option<(Standing, Instant)>,
    /// Charges to the counters that new identities share, of an identity that is not new.
    needless: Option<Group<'a>>,
}

/// What became of an identity for which there was no place, or that took one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomer {
    /// It has counters of its own from now on.
    Own,
    /// It shares.
    Shares,
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
            windows: vec![None; ScopeCharges::count(&request.charges)],
            max_new: request.max_new_identities_per_second,
            is_final: request.is_final,
            sent: None,
            needless: None,
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

    /// The calls that reserve the next group: none if there is no more to do, and two for an identity that may have to
    /// share.
    pub(super) fn next_calls(&mut self, newcomers: &Newcomers, now: Instant) -> Vec<Call<'a>> {
        self.sent = None;
        let group = match self.stage {
            Stage::Reserving => self.groups.get(self.charged),
            _ => None,
        };
        let Some(group) = group else { return Vec::new() };
        let reserve_with =
            |group: &Group<'a>, if_new| group.reserve_if(self.id, if_new, self.is_final, REDIS_CLOCK);
        let reserve = |if_new| reserve_with(group, if_new);
        let Some(max) = self.max_new.filter(|_| group.is_own()) else {
            return vec![reserve(IfNew::Reserve)];
        };
        let standing = newcomers.admit(group.owner(), max, lasts(group), now);
        self.sent = Some((standing, now));
        match standing {
            Standing::Known => vec![reserve(IfNew::Reserve)],
            Standing::Placed => vec![reserve(IfNew::Tell)],
            Standing::Without => {
                vec![reserve(IfNew::Leave), reserve_with(&group.shared(), IfNew::Reserve)]
            }
        }
    }

    /// The groups whose charges are to be given back.
    pub(super) fn releases(&self) -> impl Iterator<Item = &Group<'a>> {
        let charged = if self.is_admitted() { 0 } else { self.charged };
        self.groups.iter().take(charged).chain(&self.needless)
    }

    /// All groups but the one that refused.
    pub(super) fn others(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups.iter().enumerate().filter(|(at, _)| *at != self.charged).map(|(_, group)| group)
    }

    /// Takes the replies to [`Pending::next_calls`], in order. Returns what became of a newcomer.
    pub(super) fn accept_replies(
        &mut self,
        mut answers: impl Iterator<Item = Answer>,
        newcomers: &Newcomers,
        now: Instant,
    ) -> Option<Newcomer> {
        let answer = answers.next().unwrap_or_else(|| Err(invalid_reply()));
        let (standing, sent) = self.sent.unwrap_or((Standing::Known, now));
        let is_new = answer.as_ref().ok().and_then(|reply| reply.first()).is_some_and(|code| code & 2 != 0);
        let group = self.groups.get_mut(self.charged);
        match (standing, group) {
            (Standing::Known, _) | (_, None) => {
                self.accept_reply(answer);
                None
            }
            (Standing::Placed, Some(group)) => {
                if !is_new && answer.is_ok() {
                    newcomers.met(group.owner(), Some(sent), lasts(group), now);
                }
                self.accept_reply(answer);
                is_new.then_some(Newcomer::Own)
            }
            (Standing::Without, Some(group)) => {
                let shared = group.shared();
                let of_shared = answers.next().unwrap_or_else(|| Err(invalid_reply()));
                if is_new {
                    *group = shared;
                    self.accept_reply(of_shared);
                    return Some(Newcomer::Shares);
                }
                if answer.is_ok() {
                    newcomers.met(group.owner(), None, lasts(group), now);
                }
                // Without a reply, it may have been charged.
                let is_uncharged = of_shared.is_ok_and(|reply| reply.first() == Some(&0));
                self.needless = (!is_uncharged).then_some(shared);
                self.accept_reply(answer);
                None
            }
        }
    }

    /// Takes the reply of the next group.
    fn accept_reply(&mut self, answer: Answer) {
        let answer = answer.and_then(|reply| match reply.as_slice() {
            [code, windows @ ..] => Ok((code & 1 == 1, states(windows)?)),
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

/// How long Redis keeps the counters of `group`, at least.
fn lasts(group: &Group<'_>) -> Duration {
    Duration::from_millis(group.longest().get())
}

fn states(windows: &[i64]) -> Result<Vec<WindowState>, String> {
    call::window_states(windows).ok_or_else(invalid_reply)
}

fn invalid_reply() -> String {
    "Redis: the script's reply is invalid".to_owned()
}
