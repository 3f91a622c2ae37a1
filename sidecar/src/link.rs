//! The one connection to Redis, kept by a task in the background, so that no caller ever waits for a connection
//! attempt: while Redis is away every call fails at once and says why.
//!
//! A call that finds the connection broken waits for the task's next attempt, which a Redis that is up answers in a
//! moment, and is then sent once more. That is safe because every call may be repeated: see `lua/`. A call that gets no answer in
//! time is not repeated, and the connection is given up: Redis, or the way to it, may be stuck. A server that has
//! become a replica is left likewise, since sentinels or a name server know the new master.

use crate::error::Unavailable;
use crate::metrics::Metrics;
use crate::topology::{Connection, Topology};
use futures_util::future::join_all;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long after a failed attempt the next one is made: at first, and at most after doubling.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// How often an idle connection is tried, so that its end is noticed before a call needs it.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A call, its repetition included.
    pub answer: Duration,
    /// Opening a connection.
    pub connect: Duration,
}

/// The way to Redis. Cheap to use from many tasks at once.
#[derive(Debug)]
pub struct Link {
    state: watch::Receiver<State>,
    losses: mpsc::UnboundedSender<Loss>,
    times: Times,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
enum State {
    Up(Line),
    Down(Unavailable),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Up(line) => write!(f, "Up({})", line.number),
            Self::Down(away) => write!(f, "Down({away})"),
        }
    }
}

/// A connection and its number, which tells a loss of it from the loss of an earlier one.
#[derive(Clone)]
struct Line {
    connection: Connection,
    number: u64,
}

/// A caller found the connection of this number of no use.
#[derive(Debug)]
struct Loss {
    number: u64,
    why: Unavailable,
}

impl Link {
    /// Starts the task that keeps the connection; it ends when the link is dropped. Holds up to `buffer` commands for a
    /// connection before their senders wait.
    pub fn start(topology: Topology, times: Times, buffer: usize, metrics: Arc<Metrics>) -> Self {
        let (publish, state) =
            watch::channel(State::Down(Unavailable::NotConnected("not connected yet".into())));
        let (losses, incoming) = mpsc::unbounded_channel();
        let keeper = Keeper { topology, times, buffer, publish, incoming, metrics: Arc::clone(&metrics) };
        tokio::spawn(keeper.run());
        Self { state, losses, times, metrics }
    }

    /// Sends `commands` in one round trip and returns the answer to each, in order; an error that Redis gives to one
    /// does not touch the others.
    ///
    /// # Errors
    /// Redis is away: nothing is known of any of them.
    pub async fn send(&self, commands: &[Cmd]) -> Result<Vec<RedisResult<Value>>, Unavailable> {
        let deadline = Instant::now() + self.times.answer;
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

    /// Asks Redis whether it is there.
    ///
    /// # Errors
    /// It is away, or it answers with an error, for instance because it is still loading its data.
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
                    self.report(line.number, why);
                }
                return Ok(replies);
            }
            Ok(Err(why)) => Unavailable::Broke(why.to_string().into()),
            Err(_) => Unavailable::NoAnswer(self.times.answer.as_millis()),
        };
        self.report(line.number, why.clone());
        Err(why)
    }

    fn report(&self, number: u64, why: Unavailable) {
        // Fails only if the keeper is gone, which ends with this link.
        let _ = self.losses.send(Loss { number, why });
    }

    /// The connection that follows number `number`, once the keeper has made its next attempt.
    async fn line_after(&self, number: u64, deadline: Instant) -> Result<Line, Unavailable> {
        let mut state = self.state.clone();
        let changed = state.wait_for(|state| !matches!(state, State::Up(line) if line.number == number));
        match timeout_at(deadline, changed).await {
            Ok(Ok(state)) => match &*state {
                State::Up(line) => Ok(line.clone()),
                State::Down(why) => Err(why.clone()),
            },
            Ok(Err(_)) => Err(Unavailable::NotConnected("shutting down".into())),
            Err(_) => Err(Unavailable::NoAnswer(self.times.answer.as_millis())),
        }
    }
}

/// Whether a server says that it cannot be written to because it is a replica.
fn is_no_master(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown))
}

impl Connection {
    /// Sends `commands` together. The error of a single one is in its place; `Err` if the connection is of no use.
    async fn send(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Single(connection) => {
                let mut pipeline = redis::Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command(command.clone());
                }
                pipeline.ignore_errors().query_async(connection).await
            }
            // A pipeline would have to stay on one node. Sent side by side, the commands share each node's connection.
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

/// Whether an error means that no node could be asked, as opposed to a node's answer.
fn is_unreachable(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::ClusterConnectionNotFound)
}

/// The task that keeps the connection.
struct Keeper {
    topology: Topology,
    times: Times,
    buffer: usize,
    publish: watch::Sender<State>,
    incoming: mpsc::UnboundedReceiver<Loss>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let mut number = 0;
        while !self.publish.is_closed() {
            match self.connect().await {
                Ok(connection) => {
                    tracing::info!(redis = %self.topology, "connected");
                    self.metrics.connected();
                    number += 1;
                    let began = Instant::now();
                    self.publish.send_replace(State::Up(Line { connection: connection.clone(), number }));
                    let Some(why) = self.until_lost(connection, number).await else { return };
                    tracing::warn!(redis = %self.topology, %why, "connection lost");
                    self.metrics.disconnected();
                    if began.elapsed() > PAUSE_MOST && matches!(why, Unavailable::Broke(_)) {
                        // It was of use: whoever finds it broken waits for the next, which is tried at once.
                        pause = PAUSE_FIRST;
                        continue;
                    }
                    self.publish.send_replace(State::Down(why));
                }
                Err(why) => self.away(why),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    async fn connect(&self) -> Result<Connection, Unavailable> {
        match timeout(self.times.connect, self.topology.connect(self.buffer)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(why)) => Err(Unavailable::NotConnected(why.to_string().into())),
            Err(_) => Err(Unavailable::NotConnected(
                format!("no connection within {} ms", self.times.connect.as_millis()).into(),
            )),
        }
    }

    /// Publishes that an attempt failed; logs it if it did not fail in the same way before.
    fn away(&self, why: Unavailable) {
        self.metrics.disconnected();
        let previous = self.publish.send_replace(State::Down(why.clone()));
        if !matches!(previous, State::Down(previous) if previous == why) {
            tracing::warn!(redis = %self.topology, %why, "not connected, trying on");
        }
    }

    /// Waits until a caller or a ping finds the connection of no use; `None` when the link is gone.
    async fn until_lost(&mut self, mut connection: Connection, number: u64) -> Option<Unavailable> {
        loop {
            tokio::select! {
                loss = self.incoming.recv() => {
                    let loss = loss?;
                    if loss.number == number {
                        return Some(loss.why);
                    }
                }
                () = sleep(PING_EVERY) => {
                    // A cluster's connection looks after its nodes itself, and one node away is no reason to drop all.
                    if let Connection::Cluster(_) = connection {
                        continue;
                    }
                    match timeout(self.times.answer, connection.send(&[redis::cmd("PING")])).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(why)) => return Some(Unavailable::Broke(why.to_string().into())),
                        Err(_) => return Some(Unavailable::NoAnswer(self.times.answer.as_millis())),
                    }
                }
            }
        }
    }
}
