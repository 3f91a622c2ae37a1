//! The task that keeps the connection to Redis: it connects, pings, and connects again after a loss.
//!
//! It pauses between attempts, and logs a failure once, not at every attempt. [`super::link`] is its callers' side.

use super::error::Unavailable;
use super::link::{Line, Loss, State, Timeouts};
use super::topology::{Connection, Topology};
use crate::clock;
use crate::metrics::Metrics;
use crate::script;
use redis::{FromRedisValue, RedisResult, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// The pause after the first failed attempt. It doubles with each failure, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The interval between pings, which find the end of an idle connection before a call does, and read Redis's clock.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// The task that keeps the connection.
pub(super) struct Keeper {
    pub(super) topology: Topology,
    pub(super) timeouts: Timeouts,
    /// The number of commands that a connection buffers.
    pub(super) buffer: usize,
    pub(super) publish: watch::Sender<State>,
    pub(super) incoming: mpsc::UnboundedReceiver<Loss>,
    pub(super) metrics: Arc<Metrics>,
}

impl Keeper {
    /// Runs until the link is dropped.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut number = 0;
        while !self.publish.is_closed() {
            match self.connect().await {
                Ok(mut connection) => {
                    self.load_scripts(&mut connection).await;
                    tracing::info!(redis = %self.topology, "connected");
                    self.metrics.connected();
                    number += 1;
                    let began = Instant::now();
                    self.publish.send_replace(State::Up(Line { connection: connection.clone(), number }));
                    let Some(why) = self.wait_for_loss(connection, number).await else { return };
                    tracing::warn!(redis = %self.topology, %why, "connection lost");
                    self.metrics.disconnected();
                    if began.elapsed() > MAX_PAUSE && matches!(why, Unavailable::Broke(_)) {
                        // It worked, so callers who find it broken wait for the next attempt, which follows at once.
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    self.publish.send_replace(State::Down(why));
                }
                Err(why) => self.publish_failure(why),
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Shows Redis the scripts before anybody waits for one: a call that finds its script unknown takes a second round
    /// trip. If this fails, that is what calls do.
    async fn load_scripts(&self, connection: &mut Connection) {
        let load = |source: &str| redis::cmd("SCRIPT").arg("LOAD").arg(source).to_owned();
        let commands: Vec<_> = script::all().map(|script| load(script.source)).collect();
        let _ = timeout(self.timeouts.answer, connection.send(&commands)).await;
    }

    async fn connect(&self) -> Result<Connection, Unavailable> {
        match timeout(self.timeouts.connect, self.topology.connect(self.buffer)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(why)) => Err(Unavailable::NotConnected(why.to_string().into())),
            Err(_) => Err(Unavailable::NotConnected(
                format!("no connection within {} ms", self.timeouts.connect.as_millis()).into(),
            )),
        }
    }

    /// Publishes a failed attempt, and logs it unless the previous one failed in the same way.
    fn publish_failure(&self, why: Unavailable) {
        self.metrics.disconnected();
        let previous = self.publish.send_replace(State::Down(why.clone()));
        if !matches!(previous, State::Down(previous) if previous == why) {
            tracing::warn!(redis = %self.topology, %why, "not connected, retrying");
        }
    }

    /// Waits until a caller or a ping finds that the connection is lost; `None` when the link is dropped.
    async fn wait_for_loss(&mut self, mut connection: Connection, number: u64) -> Option<Unavailable> {
        loop {
            tokio::select! {
                loss = self.incoming.recv() => {
                    let loss = loss?;
                    if loss.number == number {
                        return Some(loss.why);
                    }
                }
                () = sleep(PING_INTERVAL) => {
                    // A cluster's connection maintains its nodes itself, and one lost node is no reason to drop all.
                    if let Connection::Cluster(_) = connection {
                        continue;
                    }
                    let began = milliseconds();
                    match timeout(self.timeouts.answer, connection.send(&[redis::cmd("TIME")])).await {
                        Ok(Ok(replies)) => self.compare_clocks(began, replies),
                        Ok(Err(why)) => return Some(Unavailable::Broke(why.to_string().into())),
                        Err(_) => return Some(Unavailable::NoAnswer(self.timeouts.answer.as_millis())),
                    }
                }
            }
        }
    }

    /// Records by how much Redis's clock is ahead of this machine's, which was at `began` when Redis was asked.
    fn compare_clocks(&self, began: i64, replies: Vec<RedisResult<Value>>) {
        let time = replies.into_iter().next().and_then(Result::ok);
        // An ACL may deny the command.
        let Some((seconds, micros)) = time.and_then(|time| <(i64, i64)>::from_redis_value(time).ok()) else {
            return;
        };
        let shown = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
        // Redis has answered halfway.
        self.metrics.clock_ahead(shown.saturating_sub(began.midpoint(milliseconds())));
    }
}

/// This machine's clock, in milliseconds since the epoch.
fn milliseconds() -> i64 {
    i64::try_from(clock::now().get()).unwrap_or(i64::MAX)
}
