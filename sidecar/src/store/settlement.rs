//! Settlements: what requests have reserved is replaced by what they cost, or brought up to date while they run.

use super::call::{self, Call, Group, Invalid};
use super::error::{Unavailable, is_permanent};
use super::slices::slices;
use super::{REDIS_CLOCK, Store, said};
use llm_rate_limit::store::wire::{IfAbsent, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::WindowState;
use redis::RedisResult;
use std::time::Instant;

/// How a settlement has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The answer to the filter.
    pub answer: Settled,
    /// The windows after that, one for each charge, in order. None if nothing was settled.
    pub windows: Vec<WindowState>,
}

impl From<Settled> for Ended {
    fn from(answer: Settled) -> Self {
        Self { answer, windows: Vec::new() }
    }
}

impl Ended {
    /// Whether the settlement of `one` has ended its request: what it costs is known.
    pub fn is_final(&self, one: &Settle) -> bool {
        !one.extend && matches!(self.answer, Settled::Done { settled: true, .. })
    }
}

impl Store {
    /// Settles the elements of a batch, or extends those that still run, and returns for each, in order, how that
    /// ended.
    ///
    /// # Errors
    /// Redis is unavailable. The batch may be sent again.
    pub async fn settle(&self, batch: &[Settle]) -> Result<Vec<Ended>, Unavailable> {
        let began = Instant::now();
        let mut ended = Vec::with_capacity(batch.len());
        for slice in slices(batch, |one| &one.charges) {
            ended.append(&mut self.settle_slice(slice).await?);
        }
        self.metrics.settled(batch, &ended, began.elapsed());
        let now = Instant::now();
        self.top.settled(batch, &ended, now);
        self.history.settled(batch, &ended, now);
        said::settled(batch, &ended);
        Ok(ended)
    }

    async fn settle_slice(&self, batch: &[Settle]) -> Result<Vec<Ended>, Unavailable> {
        let elements: Vec<_> =
            batch.iter().map(|one| call::groups(&one.namespace, &one.id, &one.charges)).collect();
        let calls: Vec<Call<'_>> = batch
            .iter()
            .zip(&elements)
            .flat_map(|(one, groups)| {
                let groups = groups.as_deref().unwrap_or_default();
                groups.iter().map(|group| group.settle(one, REDIS_CLOCK))
            })
            .collect();
        let mut answers = self.replies(&calls).await?;
        self.settle_shared(batch, &elements, &mut answers).await?;
        let mut answers = answers.into_iter();
        Ok(elements
            .into_iter()
            .zip(batch)
            .map(|(groups, one)| match groups {
                Ok(groups) => {
                    let len = ScopeCharges::count(&one.charges);
                    ended(&groups, answers.by_ref().take(groups.len()), len)
                }
                Err(why) => Settled::Failed { error: why.to_string(), permanent: true }.into(),
            })
            .collect())
    }

    /// Settles what is not with an identity's own counters, by the `answers` so far to the groups of `elements`, but
    /// may be with those that new identities share. What may be with both stays with its own. All these calls are on
    /// one slot of a cluster, so those that must be futile are not made.
    async fn settle_shared(
        &self,
        batch: &[Settle],
        elements: &[Result<Vec<Group<'_>>, Invalid>],
        answers: &mut [RedisResult<Vec<i64>>],
    ) -> Result<(), Unavailable> {
        let sent = batch.iter().zip(elements).flat_map(|(one, groups)| {
            groups.as_deref().unwrap_or_default().iter().map(move |group| (one, group))
        });
        let (mut again, mut calls) = (Vec::new(), Vec::new());
        for ((one, group), answer) in sent.zip(answers) {
            if !group.is_own() {
                continue;
            }
            match (one.if_absent, answer.as_deref()) {
                (None, Ok([0])) => {
                    again.push(Some(answer));
                    calls.push(group.shared().settle(one, REDIS_CLOCK));
                }
                (Some(IfAbsent::Mark), Ok([0])) if one.may_share => {
                    again.push(Some(answer));
                    calls.push(group.shared().settle(one, REDIS_CLOCK));
                }
                // It has been charged to its own counters. What it has of the others goes back.
                (Some(IfAbsent::Charge), _) | (_, Ok(_)) if one.may_share => {
                    again.push(None);
                    calls.push(group.shared().release(&one.id, REDIS_CLOCK));
                }
                _ => {}
            }
        }
        for (place, reply) in again.into_iter().zip(self.replies(&calls).await?) {
            if let Some(place) = place {
                *place = reply;
            }
        }
        Ok(())
    }
}

/// How the settlement of a whole request with so many charges has ended, from the answers of its groups.
fn ended(
    groups: &[Group<'_>],
    answers: impl Iterator<Item = RedisResult<Vec<i64>>>,
    charges: usize,
) -> Ended {
    let (mut settled, mut over) = (false, false);
    let mut windows = vec![None; charges];
    let mut failure: Option<(String, bool)> = None;
    for (group, answer) in groups.iter().zip(answers) {
        match answer.as_deref() {
            Ok([code, states @ ..]) => {
                settled |= *code > 0;
                over |= *code == 2;
                let states = call::window_states(states).unwrap_or_default();
                for (place, state) in group.places().zip(states) {
                    if let Some(window) = windows.get_mut(place) {
                        *window = Some(state);
                    }
                }
            }
            Ok([]) => {}
            // As long as one scope may still be settled, the whole is worth another try.
            Err(why) => {
                let permanent = is_permanent(why) && failure.as_ref().is_none_or(|(_, permanent)| *permanent);
                failure = Some((format!("Redis: {why}"), permanent));
            }
        }
    }
    match failure {
        Some((error, permanent)) => Settled::Failed { error, permanent }.into(),
        None => Ended {
            answer: Settled::Done { settled, over },
            // A scope whose reservation has passed has nothing to say.
            windows: windows.into_iter().collect::<Option<_>>().unwrap_or_default(),
        },
    }
}
