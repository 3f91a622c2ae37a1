//! What is learned about the counts of prompts: lessons to Redis, and factors back to the filters.
//!
//! It has commands of its own, on a key of its own, in no pipeline with those of reservations, so that whatever becomes
//! of them, on whichever server of a cluster, delays no reservation and fails none. Lessons that are lost are no harm:
//! others come. A run of the script takes all lessons that wait and returns all factors; there is one at a time, and
//! few a second, for each namespace.

use super::call::{Invalid, keyspace};
use super::invocation::Invocation;
use super::is_no_script;
use super::link::Link;
use crate::metrics::{ErrorKind, Metrics};
use crate::script;
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::store::corrections::Told;
use llm_rate_limit::store::wire::Settle;
use llm_rate_limit::usage::learned_prompt::{Factor, Factors, Lesson, Lessons, MAX_SHARE, Pace};
use redis::{FromRedisValue, RedisResult, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How long Redis keeps what nothing is added to.
const KEEP: Millis = Millis::new(7 * Millis::DAY.get());

/// How old factors may be that a filter is told.
const FRESH: Millis = Millis::SECOND;

/// The most namespaces whose filters learn here. Those beyond it do not.
const MAX_NAMESPACES: usize = 64;

/// What is known of each namespace.
#[derive(Debug)]
pub struct Learning {
    began: Instant,
    spaces: Mutex<HashMap<String, Space>>,
}

#[derive(Debug, Default)]
struct Space {
    lessons: Lessons,
    /// The factors that Redis has last returned, and when.
    factors: Option<(Arc<Factors>, Millis)>,
    pace: Pace,
    is_running: bool,
}

impl Learning {
    /// Nothing is known yet, at `began`.
    pub fn new(began: Instant) -> Self {
        Self { began, spaces: Mutex::default() }
    }

    /// Takes the lessons of a batch.
    pub fn take_lessons(&self, batch: &[Settle]) {
        if batch.iter().all(|one| one.lesson.is_none()) {
            return;
        }
        let mut spaces = self.spaces();
        for (one, lesson) in batch.iter().filter_map(|one| Some((one, one.lesson?))) {
            if (1..=MAX_SHARE).contains(&lesson.permille)
                && let Some(space) = space(&mut spaces, &one.namespace)
            {
                space.lessons.push(lesson);
            }
        }
    }

    /// What to tell a filter of `namespace` that names the version `asked`.
    pub fn told(&self, namespace: &str, asked: &str) -> Told {
        let factors = self.spaces().get(namespace).and_then(|space| space.factors.clone());
        match factors {
            Some((factors, _)) => Told::to(asked, &factors),
            // It keeps what it has.
            None => Told { version: u64::from_str_radix(asked, 16).unwrap_or_default(), factors: None },
        }
    }

    /// Whether Redis is to be asked: lessons wait, or what is known is old.
    pub fn is_due(&self, namespace: &str) -> bool {
        let now = self.now();
        self.spaces().get(namespace).is_none_or(|space| space.is_due(now))
    }

    /// Brings the lessons that wait, and fetches the factors, if that is due and its pace allows it.
    pub async fn run(&self, namespace: &str, link: &Link, metrics: &Metrics) {
        let Some(lessons) = self.begin(namespace) else { return };
        let factors = match invocation(namespace, &lessons) {
            Ok(invocation) => send(&invocation, link, metrics).await,
            Err(why) => Err(why.to_string()),
        };
        if let Err(why) = &factors {
            tracing::debug!(%why, "cannot learn about the counts of prompts");
            metrics.error(ErrorKind::Learning);
        }
        self.end(namespace, factors.ok());
    }

    fn begin(&self, namespace: &str) -> Option<Vec<Lesson>> {
        let now = self.now();
        let mut spaces = self.spaces();
        let space = space(&mut spaces, namespace)?;
        if space.is_running || !space.is_due(now) || !space.pace.may(now) {
            return None;
        }
        space.is_running = true;
        Some(space.lessons.take())
    }

    fn end(&self, namespace: &str, factors: Option<Factors>) {
        let now = self.now();
        let mut spaces = self.spaces();
        let Some(space) = spaces.get_mut(namespace) else { return };
        space.is_running = false;
        match factors {
            Some(factors) => space.factors = Some((Arc::new(factors), now)),
            None => space.pace.rest(now),
        }
    }

    fn now(&self) -> Millis {
        Millis::new(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<String, Space>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    fn is_due(&self, now: Millis) -> bool {
        !self.lessons.is_empty() || self.factors.as_ref().is_none_or(|(_, since)| now >= *since + FRESH)
    }
}

fn space<'s>(spaces: &'s mut HashMap<String, Space>, namespace: &str) -> Option<&'s mut Space> {
    if !spaces.contains_key(namespace) {
        if spaces.len() >= MAX_NAMESPACES {
            return None;
        }
        spaces.insert(namespace.to_owned(), Space::default());
    }
    spaces.get_mut(namespace)
}

/// The script's invocation for `lessons`, which may be none.
///
/// # Errors
/// [`Invalid::Namespace`].
pub fn invocation(namespace: &str, lessons: &[Lesson]) -> Result<Invocation, Invalid> {
    let keys = keyspace(namespace)?.prompts();
    let mut args = vec![KEEP.to_string()];
    for Lesson { cell, voter, permille } in lessons {
        args.extend([cell.to_string(), voter.to_string(), permille.to_string()]);
    }
    Ok(Invocation::of_keys(&script::LEARN, &keys, &args))
}

/// The factors in the script's reply.
///
/// # Errors
/// An error of Redis, or another reply.
pub fn factors(reply: RedisResult<Value>) -> RedisResult<Factors> {
    let texts = Vec::<String>::from_redis_value(reply?)?;
    let entries = texts.as_chunks::<2>().0.iter().filter_map(|[cell, permille]| {
        Some((cell.parse().ok()?, Factor::from_permille(permille.parse().ok()?)))
    });
    Ok(entries.collect())
}

async fn send(invocation: &Invocation, link: &Link, metrics: &Metrics) -> Result<Factors, String> {
    let mut reply = link.send_aside(invocation.by_hash()).await?;
    if reply.as_ref().is_err_and(is_no_script) {
        metrics.sources_sent(1);
        reply = link.send_aside(&invocation.by_source()).await?;
    }
    factors(reply).map_err(|why| format!("Redis: {why}"))
}
