//! The Redis code: it reserves and settles batches, with one round trip for each scope step of a batch and, where
//! one server has all scopes, one invocation of a script.
//!
//! The store reserves a request with several scopes scope by scope, because Redis Cluster runs a script on keys of one
//! scope only. If a later scope refuses, the store gives back what the earlier ones charged and reads all of the
//! request's windows again, so that the answer is true for each. A crash in between leaves too much charged, never too
//! little, and only until the charge leaves its window.
//!
//! [`call`] makes script calls of charges, and [`invocation`] commands of calls; `background` keeps reservations open
//! for usage that comes later, [`grants`] makes what operators change by hand, [`learning`] shares what is learned
//! about the counts of prompts, [`link`] keeps the connection that [`topology`] opens, `peek` says what a reservation
//! would find, [`report`] what Redis says of itself, `settlement` replaces reservations by what requests cost, and
//! [`usage`] lists and resets an owner's windows. Policy is the filter's: limits travel in each call.

pub mod access;
mod background;
pub mod call;
pub mod error;
pub mod grants;
pub mod invocation;
mod keeper;
pub mod learning;
pub mod link;
mod newcomers;
mod peek;
mod pending;
pub mod report;
mod said;
mod settlement;
mod slices;
pub mod topology;
pub mod usage;

use crate::metrics::Metrics;
use crate::status::history::History;
use crate::top::Top;
use call::Call;
use error::Unavailable;
use invocation::Invocation;
use learning::Learning;
use link::Link;
use llm_rate_limit::store::wire::{Reserve, Reserved};
use newcomers::Newcomers;
use pending::Pending;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
pub use settlement::Ended;
use slices::slices;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The scripts' argument `now_ms` that stands for Redis's clock.
const REDIS_CLOCK: u64 = 0;

/// How long Redis keeps the key of a probe, in milliseconds.
const PROBE_LASTS_MS: u64 = 1000;

/// The answer of one script call: its integers, or the error in their place.
pub type Answer = Result<Vec<i64>, String>;

/// Reservations and settlements on Redis.
#[derive(Debug)]
pub struct Store {
    link: Link,
    metrics: Arc<Metrics>,
    newcomers: Newcomers,
    top: Top,
    history: History,
    learning: Learning,
    /// Whether scopes turned out to be on different servers, although Redis looks like one.
    is_sharded: AtomicBool,
}

impl Store {
    /// A store behind `link`.
    pub fn new(link: Link, metrics: Arc<Metrics>) -> Self {
        let now = Instant::now();
        let (newcomers, top, history) = (Newcomers::new(now), Top::new(now), History::new(now));
        let learning = Learning::new(now);
        Self { link, metrics, newcomers, top, history, learning, is_sharded: AtomicBool::new(false) }
    }

    /// The connection to Redis.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The busiest identities, and those closest to a limit.
    pub const fn top(&self) -> &Top {
        &self.top
    }

    /// What was decided in the last hour.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Decides a batch and returns one answer for each element, in order.
    ///
    /// # Errors
    /// Redis is unavailable. Elements may have been charged: settling with `if_absent` is right for either case.
    pub async fn reserve(&self, batch: &[Reserve]) -> Result<Vec<Reserved>, Unavailable> {
        if let [probe] = batch
            && probe.charges.is_empty()
        {
            return Ok(vec![self.probe(probe).await?]);
        }
        let began = Instant::now();
        let mut answers = Vec::with_capacity(batch.len());
        for slice in slices(batch, |one| &one.charges) {
            answers.append(&mut self.reserve_slice(slice).await?);
        }
        self.metrics.reserved(batch, &answers, began.elapsed());
        let now = Instant::now();
        self.top.reserved(batch, &answers, now);
        self.history.reserved(batch, &answers, now);
        said::reserved(batch, &answers);
        Ok(answers)
    }

    /// Whether every master of Redis answers, and one of them takes writes. A Redis that is full, or has become a
    /// replica, answers and takes none.
    async fn probe(&self, probe: &Reserve) -> Result<Reserved, Unavailable> {
        let key = match call::keyspace(&probe.namespace) {
            Ok(space) => space.probe(),
            Err(why) => return Ok(Reserved::Failed { error: why.to_string(), unavailable: false }),
        };
        let mut write = redis::cmd("SET");
        write.arg(key).arg("").arg("PX").arg(PROBE_LASTS_MS);
        let replies = self.link.send(&[redis::cmd("PING"), write]).await?;
        Ok(match replies.into_iter().find_map(Result::err) {
            Some(why) => Reserved::Failed { error: format!("Redis: {why}"), unavailable: true },
            None => Reserved::Decided { admitted: true, windows: Vec::new() },
        })
    }

    /// Sets `key` for as long as it `lasts`, and returns whether it was not set before. If so, it sets that of a
    /// `needless` warning as well.
    ///
    /// # Errors
    /// Redis is unavailable, or takes no writes.
    pub async fn claim(&self, key: &str, needless: Option<&str>, lasts: Duration) -> Result<bool, String> {
        let mut claim = set(key, lasts);
        claim.arg("NX");
        let replies = self.link.send(&[claim]).await.map_err(|why| why.to_string())?;
        match replies.into_iter().next() {
            Some(Ok(Value::Nil)) => return Ok(false),
            Some(Ok(_)) => {}
            Some(Err(why)) => return Err(format!("Redis: {why}")),
            None => return Err("Redis: a reply is missing".to_owned()),
        }
        if let Some(needless) = needless
            && let Err(why) = self.link.send(&[set(needless, lasts)]).await
        {
            tracing::debug!(%why, "a warning may be reported again, as one of what is reserved");
        }
        Ok(true)
    }

    /// Gives back the `key` that [`Store::claim`] has set. Where Redis is unavailable, it lasts as long as it was to.
    pub async fn unclaim(&self, key: &str) {
        let mut delete = redis::cmd("DEL");
        delete.arg(key);
        if let Err(why) = self.link.send(&[delete]).await {
            tracing::debug!(%why, "a warning that was not delivered counts as reported");
        }
    }

    async fn reserve_slice(&self, batch: &[Reserve]) -> Result<Vec<Reserved>, Unavailable> {
        let mut pending: Vec<Pending<'_>> = batch.iter().map(Pending::new).collect();
        loop {
            let now = Instant::now();
            let (mut sent, mut calls) = (Vec::new(), Vec::new());
            for one in &mut pending {
                let next = one.next_calls(&self.newcomers, now);
                if !next.is_empty() {
                    sent.push((one, next.len()));
                    calls.extend(next);
                }
            }
            if calls.is_empty() {
                break;
            }
            let mut answers = self.run(&calls).await?.into_iter();
            let now = Instant::now();
            for (one, len) in &mut sent {
                let answers = answers.by_ref().take(*len);
                if let Some(newcomer) = one.accept_replies(answers, &self.newcomers, now) {
                    self.metrics.newcomer(newcomer == pending::Newcomer::Own);
                }
            }
        }
        self.roll_back(&mut pending).await;
        Ok(pending.into_iter().map(Pending::finish).collect())
    }

    /// What is learned about the counts of prompts.
    pub fn learning(&self) -> &Learning {
        &self.learning
    }

    /// Brings the lessons that wait to Redis, and fetches what the fleet has learned, if that is due.
    pub async fn learn(&self, namespace: &str) {
        self.learning.run(namespace, &self.link, &self.metrics).await;
    }

    /// Runs script calls in one round trip.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn run(&self, calls: &[Call<'_>]) -> Result<Vec<Answer>, Unavailable> {
        let replies = self.replies(calls).await?;
        Ok(replies.into_iter().map(|reply| reply.map_err(|why| format!("Redis: {why}"))).collect())
    }

    /// The replies to script calls, as [`Store::run`] makes them.
    async fn replies(&self, calls: &[Call<'_>]) -> Result<Vec<RedisResult<Vec<i64>>>, Unavailable> {
        let is_cluster = self.link.is_cluster() || self.is_sharded.load(Ordering::Relaxed);
        let replies = self.replies_in(is_cluster, calls).await?;
        if is_cluster || !replies.iter().any(|reply| reply.as_ref().is_err_and(is_cross_slot)) {
            return Ok(replies);
        }
        if !self.is_sharded.swap(true, Ordering::Relaxed) {
            tracing::info!("Redis has its keys on several servers: scripts run for one scope at a time");
        }
        // What ran all the same may run again.
        self.replies_in(true, calls).await
    }

    async fn replies_in(
        &self,
        is_cluster: bool,
        calls: &[Call<'_>],
    ) -> Result<Vec<RedisResult<Vec<i64>>>, Unavailable> {
        let invocations = Invocation::of_calls(calls, is_cluster);
        let mut replies: Vec<_> = calls.iter().map(|_| Ok(Vec::new())).collect();
        for (invocation, reply) in invocations.iter().zip(self.invoke(&invocations).await?) {
            for (place, reply) in invocation.replies(reply) {
                if let Some(of_call) = replies.get_mut(place) {
                    *of_call = reply;
                }
            }
        }
        Ok(replies)
    }

    /// Invokes scripts in one round trip. If Redis does not know a script, the invocation goes again with its source.
    async fn invoke(&self, invocations: &[Invocation]) -> Result<Vec<RedisResult<Value>>, Unavailable> {
        if invocations.is_empty() {
            return Ok(Vec::new());
        }
        let commands: Vec<Cmd> = invocations.iter().map(|one| one.by_hash().clone()).collect();
        let mut replies = self.link.send(&commands).await?;
        let (unknown, commands): (Vec<_>, Vec<_>) = invocations
            .iter()
            .zip(&mut replies)
            .filter(|(_, reply)| reply.as_ref().is_err_and(is_no_script))
            .map(|(invocation, reply)| (reply, invocation.by_source()))
            .unzip();
        if !commands.is_empty() {
            self.metrics.sources_sent(commands.len());
            for (reply, again) in unknown.into_iter().zip(self.link.send(&commands).await?) {
                *reply = again;
            }
        }
        Ok(replies)
    }

    /// Gives back the charges of requests that a later scope refused or failed, and reads the windows of the refused
    /// requests again.
    async fn roll_back(&self, pending: &mut [Pending<'_>]) {
        let releases: Vec<Call<'_>> = pending
            .iter()
            .flat_map(|one| one.releases().map(|group| group.release(one.id, REDIS_CLOCK)))
            .collect();
        // A charge that cannot be given back stays until it leaves its window, which errs on the safe side.
        let failure = match self.run(&releases).await {
            Ok(answers) => answers.into_iter().filter_map(Result::err).next(),
            Err(why) => Some(why.to_string()),
        };
        if let Some(why) = failure {
            tracing::warn!(%why, "cannot roll back a refused reservation: part of it stays charged");
            self.metrics.error(crate::metrics::ErrorKind::Rollback);
        }
        let (mut refused, mut calls) = (Vec::new(), Vec::new());
        for one in pending.iter_mut().filter(|one| one.is_refused()) {
            let before = calls.len();
            calls.extend(one.others().map(|group| group.peek(REDIS_CLOCK)));
            if calls.len() > before {
                refused.push((one, calls.len() - before));
            }
        }
        let mut answers = self.run(&calls).await.map(Vec::into_iter);
        for (one, len) in refused {
            match &mut answers {
                Ok(answers) => one.accept_peeks(answers.by_ref().take(len)),
                Err(why) => one.fail(why.to_string()),
            }
        }
    }
}

/// The command that sets `key` for as long as it `lasts`.
fn set(key: &str, lasts: Duration) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(key).arg("").arg("PX").arg(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
    set
}

/// Whether keys of one command are on different servers, behind a proxy or in a cluster of one.
fn is_cross_slot(error: &RedisError) -> bool {
    error.code() == Some("CROSSSLOT")
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
