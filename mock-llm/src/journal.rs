//! What the mock has been asked and what it has answered: the truth that tests hold a limit's counters against.

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many of the last requests are kept whole.
const KEPT: usize = 256;

/// Tokens of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of all choices together.
    pub completion_tokens: u64,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// `POST`, mostly.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Every header, API keys included: for tests in the same process, never part of the [`Report`].
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// The answer to `GET /mock/requests`: counts since the start, or since the last `DELETE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Requests whose headers have arrived.
    pub requests: u64,
    /// Of those, how many are being answered now.
    pub in_flight: u64,
    /// The most that were being answered at a time.
    pub in_flight_max: u64,
    /// Requests answered to the end, errors included.
    pub completed: u64,
    /// Requests that ended before the answer did: the client left, or the mock was asked to break off.
    pub aborted: u64,
    /// Prompt tokens of the completions that were answered to the end.
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
}

impl Journal {
    /// The counts.
    pub fn report(&self) -> Report {
        self.pages().report
    }

    /// The last requests, oldest first; at most 256.
    pub fn received(&self) -> Vec<Received> {
        self.pages().received.iter().cloned().collect()
    }

    /// Starts again from nothing, but for the requests that are being answered.
    pub fn forget(&self) {
        let mut pages = self.pages();
        let in_flight = pages.report.in_flight;
        *pages = Pages {
            report: Report { in_flight, in_flight_max: in_flight, ..Report::default() },
            received: VecDeque::new(),
        };
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        let report = &mut self.pages().report;
        report.requests += 1;
        report.in_flight += 1;
        report.in_flight_max = report.in_flight_max.max(report.in_flight);
        InFlight { journal: Arc::clone(self), completed: None }
    }

    pub(crate) fn record(&self, received: Received) {
        let kept = &mut self.pages().received;
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(received);
    }

    /// A panic while the lock was held leaves counts that are still counts.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered. Dropping it says that the answer did not come to its end.
#[derive(Debug)]
pub(crate) struct InFlight {
    journal: Arc<Journal>,
    completed: Option<Usage>,
}

impl InFlight {
    /// The answer is whole; `usage` if it was a completion.
    pub(crate) fn complete(mut self, usage: Option<Usage>) {
        self.completed = Some(usage.unwrap_or_default());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let report = &mut self.journal.pages().report;
        report.in_flight = report.in_flight.saturating_sub(1);
        match self.completed {
            None => report.aborted += 1,
            Some(usage) => {
                report.completed += 1;
                report.prompt_tokens += usage.prompt_tokens;
                report.completion_tokens += usage.completion_tokens;
                report.total_tokens += usage.prompt_tokens + usage.completion_tokens;
            }
        }
    }
}
