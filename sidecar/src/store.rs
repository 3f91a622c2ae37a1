//! Batches of reservations and settlements on Redis: one pipelined round trip for each scope step of a batch.
//!
//! A request whose charges have several scopes is reserved scope by scope, because Redis Cluster runs a script on keys
//! of one scope only. If a later scope refuses, what the earlier ones charged is given back, and all of the request's
//! windows are looked at again, so that the answer is true for each. A crash between leaves too much charged, never
//! too little, and only until it leaves its window.

use crate::call::{self, Call, Group};
use crate::error::Unavailable;
use crate::link::Link;
use crate::metrics::Metrics;
use llm_rate_limit::store::wire::{Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::WindowState;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::Arc;

/// Redis's clock, as the scripts' argument `now_ms`.
const REDIS_CLOCK: u64 = 0;

/// The answer of one script call: its integers, or why there are none.
pub type Answer = Result<Vec<i64>, String>;

/// Reservations and settlements on Redis.
#[derive(Debug)]
pub struct Store {
    link: Link,
    metrics: Arc<Metrics>,
}

impl Store {
    /// A store behind `link`.
    pub fn new(link: Link, metrics: Arc<Metrics>) -> Self {
        Self { link, metrics }
    }

    /// The way to Redis.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Decides a batch; one answer for each element, in order.
    ///
    /// # Errors
    /// Redis is away. Elements may have been charged: settling with `if_absent` is right for either case.
    pub async fn reserve(&self, batch: &[Reserve]) -> Result<Vec<Reserved>, Unavailable> {
        let mut pending: Vec<Pending<'_>> = batch.iter().map(Pending::begin).collect();
        loop {
            let (mut asking, calls): (Vec<_>, Vec<_>) = pending
                .iter_mut()
                .filter_map(|one| {
                    one.next_group().map(|group| group.reserve(one.id, REDIS_CLOCK)).map(|call| (one, call))
                })
                .unzip();
            if calls.is_empty() {
                break;
            }
            for (one, answer) in asking.iter_mut().zip(self.run(&calls).await?) {
                one.hear(answer);
            }
        }
        self.undo(&mut pending).await;
        let answers: Vec<Reserved> = pending.into_iter().map(Pending::finish).collect();
        self.metrics.reserved(&answers);
        Ok(answers)
    }

    /// Settles a batch, or extends what still runs; one answer for each element, in order.
    ///
    /// # Errors
    /// Redis is away. The batch may be sent again.
    pub async fn settle(&self, batch: &[Settle]) -> Result<Vec<Settled>, Unavailable> {
        let elements: Vec<_> = batch.iter().map(|one| call::groups(&one.id, &one.charges)).collect();
        let calls: Vec<Call> = batch
            .iter()
            .zip(&elements)
            .flat_map(|(one, groups)| {
                let groups = groups.as_deref().unwrap_or_default();
                groups.iter().map(|group| group.settle(one, REDIS_CLOCK))
            })
            .collect();
        let mut answers = self.run(&calls).await?.into_iter();
        let answers: Vec<Settled> = elements
            .into_iter()
            .map(|groups| match groups {
                Ok(groups) => settled(answers.by_ref().take(groups.len())),
                Err(why) => Settled::Failed { error: why.to_string() },
            })
            .collect();
        self.metrics.settled(batch, &answers);
        Ok(answers)
    }

    /// Runs script calls in one round trip, and those again with their source whose script Redis does not know.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn run(&self, calls: &[Call]) -> Result<Vec<Answer>, Unavailable> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let commands: Vec<Cmd> = calls.iter().map(Call::by_hash).collect();
        let mut replies = self.link.send(&commands).await?;
        let (unknown, commands): (Vec<_>, Vec<_>) = calls
            .iter()
            .zip(&mut replies)
            .filter(|(_, reply)| reply.as_ref().is_err_and(is_no_script))
            .map(|(call, reply)| (reply, call.by_source()))
            .unzip();
        if !commands.is_empty() {
            self.metrics.sources_sent(commands.len());
            for (reply, again) in unknown.into_iter().zip(self.link.send(&commands).await?) {
                *reply = again;
            }
        }
        Ok(replies.into_iter().map(|reply| answer(reply).map_err(|why| format!("Redis: {why}"))).collect())
    }

    /// Gives back what requests have charged that a later scope refused or failed, and looks at the windows of the
    /// refused again.
    async fn undo(&self, pending: &mut [Pending<'_>]) {
        let releases: Vec<Call> = pending
            .iter()
            .filter(|one| !matches!(one.stage, Stage::Asking))
            .flat_map(|one| one.charged().map(|group| group.release(one.id, REDIS_CLOCK)))
            .collect();
        // What cannot be given back stays charged until it leaves its window, which is on the safe side.
        let lost = match self.run(&releases).await {
            Ok(answers) => answers.into_iter().filter_map(Result::err).next(),
            Err(away) => Some(away.to_string()),
        };
        if let Some(why) = lost {
            tracing::warn!(%why, "a refused reservation stays charged in part");
            self.metrics.error("rollback");
        }
        let (mut looking, calls): (Vec<_>, Vec<_>) = pending
            .iter_mut()
            .filter(|one| matches!(one.stage, Stage::Refused))
            .map(|one| {
                let calls: Vec<Call> = one.others().map(|group| group.peek(REDIS_CLOCK)).collect();
                (one, calls)
            })
            .filter(|(_, calls)| !calls.is_empty())
            .unzip();
        let answers = self.run(&calls.concat()).await;
        let mut answers = answers.map(Vec::into_iter);
        for (one, calls) in looking.iter_mut().zip(calls) {
            match &mut answers {
                Ok(answers) => one.look(answers.by_ref().take(calls.len())),
                Err(away) => one.stage = Stage::Failed(away.to_string()),
            }
        }
    }
}

/// A reservation on its way through its scopes.
struct Pending<'a> {
    id: &'a str,
    groups: Vec<Group<'a>>,
    /// How many groups, from the first, have been charged.
    charged: usize,
    stage: Stage,
    /// In the order of the request's charges.
    windows: Vec<Option<WindowState>>,
}

enum Stage {
    /// No group has refused so far.
    Asking,
    /// The group after the charged ones has refused.
    Refused,
    /// The group after the charged ones could not be decided, or what the answer needs could not be had.
    Failed(String),
}

impl<'a> Pending<'a> {
    fn begin(request: &'a Reserve) -> Self {
        let (groups, stage) = match call::groups(&request.id, &request.charges) {
            Ok(groups) => (groups, Stage::Asking),
            Err(why) => (Vec::new(), Stage::Failed(why.to_string())),
        };
        let windows = vec![None; ScopeCharges::flat(&request.charges).count()];
        Self { id: &request.id, groups, charged: 0, stage, windows }
    }

    /// The group to ask next.
    fn next_group(&self) -> Option<&Group<'a>> {
        match self.stage {
            Stage::Asking => self.groups.get(self.charged),
            _ => None,
        }
    }

    /// The groups that have been charged.
    fn charged(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups.iter().take(self.charged)
    }

    /// All groups but the one that refused.
    fn others(&self) -> impl Iterator<Item = &Group<'a>> {
        self.groups.iter().enumerate().filter(|(at, _)| *at != self.charged).map(|(_, group)| group)
    }

    /// Takes the answer of the group that was asked.
    fn hear(&mut self, answer: Answer) {
        let answer = answer.and_then(|reply| match reply.as_slice() {
            [admitted, windows @ ..] => Ok((*admitted == 1, states(windows)?)),
            [] => Err(no_answer()),
        });
        match answer {
            Ok((admitted, states)) => {
                self.place(self.charged, states);
                if admitted {
                    self.charged += 1;
                } else {
                    self.stage = Stage::Refused;
                }
            }
            Err(why) => self.stage = Stage::Failed(why),
        }
    }

    /// Takes how the windows of the other groups stand after a refusal.
    fn look(&mut self, answers: impl Iterator<Item = Answer>) {
        let refused = self.charged;
        let others = (0..self.groups.len()).filter(|at| *at != refused);
        for (at, answer) in others.zip(answers) {
            match answer.and_then(|reply| states(&reply)) {
                Ok(states) => self.place(at, states),
                Err(why) => self.stage = Stage::Failed(why),
            }
        }
    }

    fn place(&mut self, group: usize, states: Vec<WindowState>) {
        let Some(group) = self.groups.get(group) else { return };
        for (place, state) in group.places().zip(states) {
            if let Some(window) = self.windows.get_mut(place) {
                *window = Some(state);
            }
        }
    }

    fn finish(self) -> Reserved {
        let admitted = match self.stage {
            Stage::Failed(error) => return Reserved::Failed { error },
            Stage::Refused => false,
            Stage::Asking => true,
        };
        match self.windows.into_iter().collect() {
            Some(windows) => Reserved::Decided { admitted, windows },
            None => Reserved::Failed { error: no_answer() },
        }
    }
}

/// What settling each group of a request says of the whole.
fn settled(answers: impl Iterator<Item = Answer>) -> Settled {
    let (mut settled, mut over) = (false, false);
    let mut error = None;
    for answer in answers {
        match answer {
            Ok(reply) => {
                settled |= reply == [1] || reply == [2];
                over |= reply == [2];
            }
            Err(why) => error = Some(why),
        }
    }
    error.map_or(Settled::Done { settled, over }, |error| Settled::Failed { error })
}

fn states(windows: &[i64]) -> Result<Vec<WindowState>, String> {
    call::window_states(windows).ok_or_else(no_answer)
}

fn no_answer() -> String {
    "Redis: the script's answer makes no sense".to_owned()
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// A script's answer as a list of integers, of which `settle` gives just one.
fn answer(reply: RedisResult<Value>) -> RedisResult<Vec<i64>> {
    Ok(match reply? {
        Value::Int(one) => vec![one],
        many => Vec::from_redis_value(many)?,
    })
}
