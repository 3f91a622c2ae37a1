//! Warnings to a webhook: a limit whose `warn_at` is reached is reported once in its window's duration, by one sidecar
//! of the fleet.
//!
//! [`Webhook`] reads the answers to reservations and settlements, and remembers what it has passed on. A task in the
//! background asks Redis whether another sidecar has reported the same, with `SET NX`, and delivers: [`warning`]
//! decides what is worth a warning and is what it says, [`target`] signs and sends it. What cannot be delivered, and
//! what is found while too much waits, is reported with the next request that finds the limit nearly used.

pub mod target;
pub mod warning;

use crate::metrics::{Delivery, Metrics};
use crate::store::{Ended, Store};
use llm_rate_limit::store::wire::{Reserve, Reserved, Settle};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use target::Target;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use warning::Warning;

/// The most warnings that wait for their delivery.
const MAX_WAITING: usize = 1024;

/// The most deliveries at the same time.
const MAX_DELIVERIES: usize = 4;

/// The most warnings to remember, about 200 bytes each.
const MAX_REMEMBERED: usize = 16_384;

/// Finds limits that are nearly used.
#[derive(Debug)]
pub struct Webhook {
    queue: mpsc::Sender<Warning>,
    reported: Arc<Reported>,
    metrics: Arc<Metrics>,
}

impl Webhook {
    /// A webhook that reports to `target` what the answers of `store` show. The task ends when the webhook has been
    /// dropped and what waited is delivered.
    pub fn start(target: Target, store: Arc<Store>, metrics: Arc<Metrics>) -> (Self, JoinHandle<()>) {
        let (queue, incoming) = mpsc::channel(MAX_WAITING);
        let reported = Arc::new(Reported::default());
        let deliveries =
            Deliveries { target, store, reported: Arc::clone(&reported), metrics: Arc::clone(&metrics) };
        let task = tokio::spawn(Arc::new(deliveries).run(incoming));
        (Self { queue, reported, metrics }, task)
    }

    /// Passes on the warnings in the answers to a batch of reservations. Waits for nothing.
    pub fn reserved(&self, batch: &[Reserve], answers: &[Reserved]) {
        warning::reserved(batch, answers).for_each(|warning| self.pass_on(warning));
    }

    /// Passes on the warnings after a batch of settlements. Waits for nothing.
    pub fn settled(&self, batch: &[Settle], ended: &[Ended]) {
        warning::settled(batch, ended).for_each(|warning| self.pass_on(warning));
    }

    fn pass_on(&self, warning: Warning) {
        let (key, needless) = (warning.key(), warning.needless_key());
        if !self.reported.add(&key, needless.as_deref(), warning.lasts(), Instant::now()) {
            return;
        }
        if self.queue.try_send(warning).is_err() {
            self.reported.remove(&key);
            self.metrics.webhook(Delivery::Dropped);
        }
    }
}

/// What this sidecar has reported, by key, with the time until which that holds.
#[derive(Debug, Default)]
struct Reported(Mutex<HashMap<String, Instant>>);

impl Reported {
    /// Adds `key` for as long as it `lasts`, and that of a `needless` warning. Returns whether `key` is new; where too
    /// many are known, all are.
    fn add(&self, key: &str, needless: Option<&str>, lasts: Duration, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(key).is_some_and(|until| *until > now) {
            return false;
        }
        for key in [key].into_iter().chain(needless) {
            if known.len() >= MAX_REMEMBERED {
                known.retain(|_, until| *until > now);
            }
            if known.len() < MAX_REMEMBERED {
                known.insert(key.to_owned(), now + lasts);
            }
        }
        true
    }

    fn remove(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// What delivers warnings.
struct Deliveries {
    target: Target,
    store: Arc<Store>,
    reported: Arc<Reported>,
    metrics: Arc<Metrics>,
}

impl Deliveries {
    async fn run(self: Arc<Self>, mut incoming: mpsc::Receiver<Warning>) {
        let places = Arc::new(Semaphore::new(MAX_DELIVERIES));
        let mut running = JoinSet::new();
        while let Some(warning) = incoming.recv().await {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let deliveries = Arc::clone(&self);
            running.spawn(async move {
                deliveries.deliver(&warning).await;
                drop(place);
            });
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
    }

    async fn deliver(&self, warning: &Warning) {
        let key = warning.key();
        let outcome = match self.store.claim(&key, warning.needless_key().as_deref(), warning.lasts()).await {
            Ok(false) => Delivery::ReportedByAnother,
            Ok(true) => match self.target.send(warning, SystemTime::now()).await {
                Ok(()) => Delivery::Delivered,
                Err(why) => {
                    tracing::error!(%why, "cannot deliver a warning to the webhook");
                    // The needless one stays: it may be of a warning that was delivered.
                    self.reported.remove(&key);
                    self.store.unclaim(&key).await;
                    Delivery::Failed
                }
            },
            Err(why) => {
                tracing::warn!(%why, "a warning waits for Redis");
                self.reported.remove(&key);
                Delivery::Failed
            }
        };
        self.metrics.webhook(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_news_after_what_is_reserved_and_not_the_other_way_round() {
        let (minute, now) = (Duration::from_secs(60), Instant::now());
        let reported = Reported::default();
        assert!(reported.add("reserved", None, minute, now) && !reported.add("reserved", None, minute, now));
        assert!(
            reported.add("used", Some("reserved"), minute, now)
                && !reported.add("used", Some("reserved"), minute, now)
        );
        reported.remove("used");
        assert!(
            reported.add("used", Some("reserved"), minute, now)
                && !reported.add("reserved", None, minute, now)
        );
    }

    #[test]
    fn a_warning_is_new_once_in_its_time() {
        let reported = Reported::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let minute = Duration::from_secs(60);
        assert!(reported.add("a", None, minute, start));
        assert!(!reported.add("a", None, minute, after(59)));
        assert!(reported.add("b", None, minute, after(59)));
        assert!(reported.add("a", None, minute, after(60)));
        reported.remove("a");
        assert!(reported.add("a", None, minute, after(61)));
    }

    #[test]
    fn the_memory_of_warnings_is_bounded_and_loses_none() {
        let reported = Reported::default();
        let start = Instant::now();
        for n in 0..MAX_REMEMBERED {
            assert!(reported.add(&n.to_string(), None, Duration::from_secs(60), start));
        }
        assert!(reported.add("one more", None, Duration::from_secs(60), start));
        assert!(reported.add("one more", None, Duration::from_secs(60), start), "it is not remembered");
        assert_eq!(reported.0.lock().unwrap().len(), MAX_REMEMBERED);
        assert!(reported.add("one more", None, Duration::from_secs(60), start + Duration::from_secs(60)));
        assert_eq!(reported.0.lock().unwrap().len(), 1);
    }
}
