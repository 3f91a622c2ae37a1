//! Background responses: their reservations stay open until their usage comes, through whatever Envoy.

use super::call::{self, Call, Group, Invalid};
use super::error::{Unavailable, is_permanent};
use super::invocation::Invocation;
use super::slices::slices;
use super::{REDIS_CLOCK, Store};
use llm_rate_limit::store::wire::{Background, Met, ScopeCharges};
use redis::{FromRedisValue, RedisError, RedisResult, Value};
use std::time::Instant;

impl Store {
    /// Keeps reservations open or takes usage, and returns one answer for each element, in order. The leases of a
    /// reservation end before it is kept open.
    ///
    /// # Errors
    /// Redis is unavailable. The batch may be sent again.
    pub async fn background(&self, batch: &[Background]) -> Result<Vec<Met>, Unavailable> {
        let began = Instant::now();
        let mut answers = Vec::with_capacity(batch.len());
        for slice in slices(batch, charges) {
            answers.append(&mut self.background_slice(slice).await?);
        }
        self.metrics.met(&answers, began.elapsed());
        Ok(answers)
    }

    async fn background_slice(&self, batch: &[Background]) -> Result<Vec<Met>, Unavailable> {
        let elements: Vec<Result<(Vec<Group<'_>>, Invocation), Invalid>> = batch.iter().map(calls).collect();
        let detach: Vec<Call<'_>> = batch
            .iter()
            .zip(&elements)
            .filter_map(|(one, element)| match (one, element) {
                (Background::Open(open), Ok((groups, _))) => Some((open, groups)),
                _ => None,
            })
            .flat_map(|(open, groups)| groups.iter().map(|group| group.detach(open, REDIS_CLOCK)))
            .collect();
        let mut detached = self.replies(&detach).await?;
        self.detach_shared(batch, &elements, &mut detached).await?;
        let mut detached = detached.into_iter();
        let meetings: Vec<Result<Invocation, Met>> = elements
            .into_iter()
            .map(|element| {
                let (groups, call) =
                    element.map_err(|why| Met::Failed { error: why.to_string(), permanent: true })?;
                // All of them, so that those of the next element follow.
                let answers: Vec<_> = detached.by_ref().take(groups.len()).collect();
                answers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|why| failed(&why))?;
                Ok(call)
            })
            .collect();
        let sent: Vec<Invocation> = meetings.iter().filter_map(|call| call.as_ref().ok().cloned()).collect();
        let mut replies = self.invoke(&sent).await?.into_iter();
        Ok(meetings
            .into_iter()
            .map(|call| match call {
                Ok(_) => replies.next().map_or_else(missing, met),
                Err(failed) => failed,
            })
            .collect())
    }

    /// Ends the leases of reservations that are not with an identity's own counters, by the answers so far, but may be
    /// with those that new identities share.
    async fn detach_shared(
        &self,
        batch: &[Background],
        elements: &[Result<(Vec<Group<'_>>, Invocation), Invalid>],
        detached: &mut [RedisResult<Vec<i64>>],
    ) -> Result<(), Unavailable> {
        let sent = batch.iter().zip(elements).flat_map(|(one, element)| match (one, element) {
            (Background::Open(open), Ok((groups, _))) => groups.iter().map(|group| (open, group)).collect(),
            _ => Vec::new(),
        });
        let absent = sent.zip(detached).filter(|((_, group), answer)| {
            group.is_own() && answer.as_ref().is_ok_and(|reply| *reply == [0])
        });
        let (places, calls): (Vec<_>, Vec<_>) =
            absent.map(|((open, group), place)| (place, group.shared().detach(open, REDIS_CLOCK))).unzip();
        for (place, reply) in places.into_iter().zip(self.replies(&calls).await?) {
            *place = reply;
        }
        Ok(())
    }
}

fn charges(one: &Background) -> &[ScopeCharges] {
    match one {
        Background::Open(open) => &open.charges,
        Background::Usage(_) => &[],
    }
}

/// The groups whose leases end, and the call that brings the two sides together.
fn calls(one: &Background) -> Result<(Vec<Group<'_>>, Invocation), Invalid> {
    let groups = match one {
        Background::Open(open) => call::groups(&open.namespace, &open.id, &open.charges)?,
        Background::Usage(_) => Vec::new(),
    };
    Ok((groups, call::background(one)?))
}

fn missing() -> Met {
    Met::Failed { error: "Redis: a reply is missing".to_owned(), permanent: false }
}

fn met(reply: RedisResult<Value>) -> Met {
    match reply.and_then(|value| Ok(Option::<String>::from_redis_value(value)?)) {
        Ok(found) => Met::Done { found },
        Err(why) => failed(&why),
    }
}

fn failed(why: &RedisError) -> Met {
    Met::Failed { error: format!("Redis: {why}"), permanent: is_permanent(why) }
}
