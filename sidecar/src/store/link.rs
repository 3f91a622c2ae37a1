//! The one connection to Redis. A task in the background keeps it, so that no caller waits for a connection attempt:
//! while Redis is unavailable, every call fails at once with the reason.
//!
//! A call that finds the connection broken waits for the task's next attempt, which succeeds in a moment if Redis is
//! up, and goes out once more. That is safe because every call may be repeated: see `lua/`. A call without an answer in
//! time is not repeated, and the link drops the connection, because Redis or the network may be stuck. It also drops a
//! server that has become a replica, since sentinels or a name server know the new master.

use super::error::Unavailable;
use super::keeper::Keeper;
use super::topology::{Connection, Topology};
use crate::metrics::Metrics;
use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// The longest time for a command on which nothing depends.
const LONGEST_ASIDE: Duration = Duration::from_millis(100);

/// Time limits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a call, including its repetition.
    pub answer: Duration,
    /// For opening a connection.
    pub connect: Duration,
}

/// The connection to Redis, for many tasks at once.
#[derive(Debug)]
pub struct Link {
    state: watch::Receiver<State>,
    losses: mpsc::UnboundedSender<Loss>,
    timeouts: Timeouts,
    /// Where Redis is, without credentials.
    place: String,
    is_cluster: bool,
    metrics: Arc<Metrics>,
}

/// The state of the connection, which the keeper publishes.
#[derive(Clone)]
pub(super) enum State {
    Up(Line),
    Down(Unavailable),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up(line) => write!(f, "Up({})", line.number),
            Self::Down(why) => write!(f, "Down({why})"),
        }
    }
}

/// A connection and its number, which distinguishes its loss from the loss of an earlier one.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) number: u64,
}

/// A caller's report that the connection of this number no longer works.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) number: u64,
    pub(super) why: Unavailable,
}

impl Link {
    /// Starts the task that keeps the connection; the task ends when the link is dropped. A connection buffers up to
    /// `buffer` commands before their senders wait.
    pub fn start(topology: Topology, timeouts: Timeouts, buffer: usize, metrics: Arc<Metrics>) -> Self {
        let (publish, state) =
            watch::channel(State::Down(Unavailable::NotConnected("not connected yet".into())));
        let (losses, incoming) = mpsc::unbounded_channel();
        let (is_cluster, place) = (topology.is_cluster(), topology.to_string());
        let keeper = Keeper { topology, timeouts, buffer, publish, incoming, metrics: Arc::clone(&metrics) };
        tokio::spawn(keeper.run());
        Self { state, losses, timeouts, place, is_cluster, metrics }
    }

    /// Where Redis is, without credentials.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether keys are spread over several servers, by their slots.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Sends `commands` in one round trip and returns the reply to each, in order. An error in reply to one does not
    /// affect the others.
    ///
    /// # Errors
    /// Redis is unavailable: each of them may or may not have run.
    pub async fn send(&self, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, Unavailable> {
        let deadline = Instant::now() + self.timeouts.answer;
        let line = match &*self.state.borrow() {
            State::Up(line) => line.clone(),
            State::Down(why) => return Err(why.clone()),
        };
        let number = line.number;
        match self.send_on(line, commands, deadline).await {
            Err(Unavailable::Broke(_)) => {
                let next = self.line_after(number, deadline).await?;
                self.send_on(next, commands, deadline).await
            }
            outcome => outcome,
        }
    }

    /// Sends a command on which nothing depends, and returns the reply. It is not repeated, and no failure of it says
    /// anything about the connection.
    ///
    /// # Errors
    /// There is no reply, for this reason.
    pub async fn send_aside(&self, command: &Cmd) -> Result<RedisResult<Value>, String> {
        let deadline = Instant::now() + self.timeouts.answer.min(LONGEST_ASIDE);
        let mut line = match &*self.state.borrow() {
            State::Up(line) => line.clone(),
            State::Down(why) => return Err(why.to_string()),
        };
        match timeout_at(deadline, line.connection.send(std::slice::from_ref(command))).await {
            Ok(Ok(mut replies)) => replies.pop().ok_or_else(|| "Redis: a reply is missing".to_owned()),
            Ok(Err(why)) => Err(format!("Redis: {why}")),
            Err(_) => Err("Redis did not answer in time".to_owned()),
        }
    }

    /// Checks that Redis answers.
    ///
    /// # Errors
    /// Redis is unavailable, or it answers with an error, for instance because it is still loading its data.
    pub async fn ping(&self) -> Result<(), String> {
        let replies = self.send(&[redis::cmd("PING")]).await.map_err(|why| why.to_string())?;
        replies.into_iter().try_for_each(|reply| reply.map(drop).map_err(|why| format!("Redis: {why}")))
    }

    async fn send_on(
        &self,
        mut line: Line,
        commands: &[Cmd],
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Unavailable> {
        let began = Instant::now();
        let outcome = timeout_at(deadline, line.connection.send(commands)).await;
        self.metrics.round_trip(began.elapsed());
        let why = match outcome {
            Ok(Ok(replies)) => {
                if replies.iter().any(|reply| reply.as_ref().is_err_and(is_no_master)) {
                    let why = Unavailable::Broke("the server is no longer a master".into());
                    self.report_loss(line.number, why);
                }
                return Ok(replies);
            }
            Ok(Err(why)) => Unavailable::Broke(why.to_string().into()),
            Err(_) => Unavailable::NoAnswer(self.timeouts.answer.as_millis()),
        };
        self.report_loss(line.number, why.clone());
        Err(why)
    }

    fn report_loss(&self, number: u64, why: Unavailable) {
        // An error means that the keeper has ended, and it ends only with this link.
        let _ = self.losses.send(Loss { number, why });
    }

    /// Waits for the keeper's next attempt and returns the connection that follows number `number`.
    async fn line_after(&self, number: u64, deadline: Instant) -> Result<Line, Unavailable> {
        let mut state = self.state.clone();
        let changed = state.wait_for(|state| !matches!(state, State::Up(line) if line.number == number));
        match timeout_at(deadline, changed).await {
            Ok(Ok(state)) => match &*state {
                State::Up(line) => Ok(line.clone()),
                State::Down(why) => Err(why.clone()),
            },
            Ok(Err(_)) => Err(Unavailable::NotConnected("shutting down".into())),
            Err(_) => Err(Unavailable::NoAnswer(self.timeouts.answer.as_millis())),
        }
    }
}

/// Whether a server refuses writes because it is a replica.
fn is_no_master(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

impl Connection {
    /// Sends `commands` together. The error of a single command is in its place; `Err` means a broken connection.
    pub(super) async fn send(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Single(connection) => {
                let mut pipeline = redis::Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.ignore_errors().query_async(connection).await
            }
            // A pipeline has to stay on one node. Commands that go out side by side share each node's connection.
            Self::Cluster(connection) => {
                let replies = join_all(commands.iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { command.query_async(&mut connection).await }
                }))
                .await;
                match replies.first() {
                    Some(Err(first))
                        if replies.iter().all(|reply| reply.as_ref().is_err_and(is_unreachable)) =>
                    {
                        Err(first.clone())
                    }
                    _ => Ok(replies),
                }
            }
        }
    }
}

/// Whether an error means that no node was reached, as opposed to a node's answer.
fn is_unreachable(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::ClusterConnectionNotFound)
}
