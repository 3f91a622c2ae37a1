//! A record of requests and answers, with which tests compare the counters of limits.

use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of requests that are kept: the last ones.
const MAX_REQUESTS: usize = 4096;

/// The bytes of bodies that are kept besides the last request's: 64 MiB.
const MAX_BYTES: usize = 64 << 20;

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of all choices together.
    pub completion_tokens: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With the whole answer.
    Answered {
        /// Its cost.
        usage: Usage,
        /// Whether the answer reported it.
        reported: bool,
    },
    /// With an error.
    Refused,
    /// The client left, or the request asked the mock to break off.
    Aborted,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// `POST`, mostly.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Every header, including API keys: for tests in the same process, never part of the [`Report`].
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// How it ended, if it has ended.
    pub ended: Option<Ended>,
}

impl Received {
    /// A request without its body.
    pub(crate) fn without_body<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().to_string(),
            path: request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: request.headers().clone(),
            body: Bytes::new(),
            ended: None,
        }
    }
}

/// The answer to `GET /mock/requests`: counts since the start, or since the last `DELETE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Requests whose headers have arrived.
    pub requests: u64,
    /// How many of them are being answered now.
    pub in_flight: u64,
    /// The largest number that were answered at a time.
    pub in_flight_max: u64,
    /// Requests answered to the end, errors included.
    pub completed: u64,
    /// Requests that ended before their answer did: the client left, or the request asked the mock to break off.
    pub aborted: u64,
    /// Prompt tokens of the requests that were answered to the end.
    pub prompt_tokens: u64,
    /// Their completion tokens.
    pub completion_tokens: u64,
    /// The sum of both.
    pub total_tokens: u64,
}

/// Shared by all requests of one mock.
#[derive(Debug, Default)]
pub struct Journal {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    report: Report,
    received: VecDeque<Received>,
    /// Bytes of their bodies.
    bytes: usize,
    /// How many requests came before the first that is kept.
    forgotten: usize,
}

impl Journal {
    /// The counts.
    pub fn report(&self) -> Report {
        self.pages().report
    }

    /// The last requests, oldest first: at most 4,096, and little more than 64 MiB.
    pub fn received(&self) -> Vec<Received> {
        self.pages().received.iter().cloned().collect()
    }

    /// Resets all counts except for the requests that are being answered.
    pub fn forget(&self) {
        let mut pages = self.pages();
        let in_flight = pages.report.in_flight;
        let forgotten = pages.forgotten + pages.received.len();
        let report = Report { in_flight, in_flight_max: in_flight, ..Report::default() };
        *pages = Pages { report, forgotten, ..Pages::default() };
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let report = &mut self.pages().report;
        report.requests += 1;
        report.in_flight += 1;
        report.in_flight_max = report.in_flight_max.max(report.in_flight);
        InFlight { journal: Arc::clone(self), number: None, ended: Ended::Aborted }
    }

    /// A panic under the lock leaves valid counts, so a poisoned lock is no error.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// Keeps a request and returns its number, which finds it again.
    fn keep(&mut self, received: Received) -> usize {
        self.bytes += received.body.len();
        self.received.push_back(received);
        while self.received.len() > MAX_REQUESTS || (self.bytes > MAX_BYTES && self.received.len() > 1) {
            let dropped = self.received.pop_front();
            self.bytes -= dropped.map_or(0, |dropped| dropped.body.len());
            self.forgotten += 1;
        }
        self.forgotten + self.received.len() - 1
    }

    fn end(&mut self, number: Option<usize>, ended: Ended) {
        let at = number.and_then(|number| number.checked_sub(self.forgotten));
        if let Some(received) = at.and_then(|at| self.received.get_mut(at)) {
            received.ended = Some(ended);
        }
        self.report.in_flight = self.report.in_flight.saturating_sub(1);
        match ended {
            Ended::Aborted => self.report.aborted += 1,
            Ended::Refused => self.report.completed += 1,
            Ended::Answered { usage, .. } => {
                self.report.completed += 1;
                self.report.prompt_tokens += usage.prompt_tokens;
                self.report.completion_tokens += usage.completion_tokens;
                self.report.total_tokens += usage.prompt_tokens + usage.completion_tokens;
            }
        }
    }
}

/// A request that is being answered. Dropping it records that the answer broke off.
#[derive(Debug)]
pub(crate) struct InFlight {
    journal: Arc<Journal>,
    number: Option<usize>,
    ended: Ended,
}

impl InFlight {
    /// Records a request that has arrived completely.
    pub(crate) fn record(&mut self, received: Received) {
        self.number = Some(self.journal.pages().keep(received));
    }

    /// Records how it ended.
    pub(crate) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.journal.pages().end(self.number, self.ended);
    }
}
