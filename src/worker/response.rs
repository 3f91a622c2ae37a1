//! From a response's headers to its end: the part of the worker that reads what a request cost and settles it.

use super::Worker;
use crate::answer;
use crate::codec::content_encoding::Decoder;
use crate::config::{Headers, OnStreamOver};
use crate::policy::limit::{Cost, Metric};
use crate::pricing::Tokens;
use crate::session::reservation::{Extension, FinalCost, OpenReservation, Settlement};
use crate::session::{Forwarded, HeaderEdits, RequestFacts, Responding, ResponseHead, Session};
use crate::store::local::SharedData;
use crate::stream_edit::{Edits, StreamEditor};
use crate::telemetry::access_log::Field;
use crate::telemetry::stats::Stat;
use crate::usage::{Outcome, ResponseReader};

/// Output tokens after which the store is told again what a stream that outgrew its reservation costs.
const TELL_STEP: u64 = 64;

/// How often leases are looked through, in milliseconds.
const SWEEP_MS: u64 = 1_000;

impl<S: SharedData> Worker<S> {
    /// A response's headers came. `end_of_stream`: nothing follows.
    pub fn response_headers(
        &mut self,
        stream: u32,
        head: ResponseHead<'_>,
        end_of_stream: bool,
        now_ms: u64,
    ) -> HeaderEdits {
        let forwarded = match self.sessions.remove(&stream) {
            Some(Session::Forwarded(forwarded)) => forwarded,
            // An upstream that answers before it has the whole request, which it only can if the headers went first.
            Some(Session::AwaitBody(_)) | None => return HeaderEdits::default(),
            Some(session) => {
                self.sessions.insert(stream, session);
                return HeaderEdits::default();
            }
        };
        let edits = self.edits(&forwarded, now_ms);
        let Forwarded { account, asked, .. } = forwarded;
        if !(200..300).contains(&head.status) {
            // The upstream did no work: its tokens are given back.
            let requests = u64::from(!self.config.accounting().refund_requests_on_error);
            self.close(
                stream,
                account,
                &asked,
                FinalCost::Cost(Cost { requests, ..Cost::default() }),
                now_ms,
            );
            self.sessions.insert(stream, Session::Settled(None));
            return edits;
        }
        let editor = self.editor(&asked, &head);
        let reader = self.reader(&asked, &head);
        if reader.is_none() && !account.has_leases() {
            self.close(stream, account, &asked, FinalCost::AsReserved, now_ms);
            self.sessions.insert(stream, Session::Settled(editor));
            return edits;
        }
        let responding = Responding { account, asked, reader, tell_at: TELL_STEP, is_over: false, editor };
        if end_of_stream {
            self.finish(stream, responding, now_ms);
            self.sessions.insert(stream, Session::Settled(None));
        } else {
            self.sessions.insert(stream, Session::Responding(responding));
        }
        edits
    }

    /// A part of a response's body passed. What to send in its place, if it is to be changed.
    pub fn response_body(
        &mut self,
        stream: u32,
        chunk: &[u8],
        end_of_stream: bool,
        now_ms: u64,
    ) -> Option<Vec<u8>> {
        let (session, mut editor) = match self.sessions.remove(&stream)? {
            Session::Responding(mut responding) => {
                let editor = responding.editor.take();
                (self.read(stream, responding, chunk, end_of_stream, now_ms), editor)
            }
            Session::Settled(editor) => (Session::Settled(None), editor),
            other => (other, None),
        };
        let edited = editor.as_mut().map(|editor| {
            let mut edited = editor.push(chunk);
            if end_of_stream {
                edited.extend(editor.finish());
            }
            if let Session::Responding(responding) = &session
                && responding.is_over
            {
                let end = editor.cut(responding.asked.choices, responding.so_far());
                edited.extend(end.into_iter().flatten());
            }
            edited
        });
        let session = match session {
            Session::Responding(responding) => Session::Responding(Responding { editor, ..responding }),
            Session::Settled(_) => Session::Settled(editor),
            other => other,
        };
        self.sessions.insert(stream, session);
        edited
    }

    /// Reads the next part of a response, and settles as soon as what it cost is certain.
    fn read(
        &mut self,
        stream: u32,
        mut responding: Responding,
        chunk: &[u8],
        end_of_stream: bool,
        now_ms: u64,
    ) -> Session {
        let mut outcome = None;
        if let Some((decoder, reader)) = &mut responding.reader {
            decoder.push(chunk, |bytes| {
                outcome = reader.push(bytes);
                outcome.is_some()
            });
        }
        match outcome {
            Some(outcome) => self.close_by(stream, responding.account, &responding.asked, outcome, now_ms),
            None if end_of_stream => self.finish(stream, responding, now_ms),
            None => {
                self.tell(&mut responding, now_ms);
                return Session::Responding(responding);
            }
        }
        Session::Settled(None)
    }

    /// Tells the store what a stream costs by now if it has outgrown its reservation, so that others see the spend
    /// while it happens.
    fn tell(&mut self, responding: &mut Responding, now_ms: u64) {
        let so_far = responding.so_far();
        if so_far < responding.tell_at {
            return;
        }
        responding.tell_at = so_far.saturating_add(TELL_STEP);
        let tokens = Tokens { output: so_far, ..responding.account.estimate().tokens };
        let cost = self.cost(responding.asked.model.as_deref(), &tokens);
        if responding.account.is_outgrown_by(&cost) {
            responding.is_over |= self.extend(&mut responding.account, &cost, now_ms);
        }
    }

    /// Tells the store that a request costs `cost` by now and still runs. Whether it says at once that a limit is
    /// passed.
    fn extend(&mut self, account: &mut OpenReservation, cost: &Cost, now_ms: u64) -> bool {
        let Extension { charges, local, remote } = account.extend(cost, now_ms);
        let mut is_over = false;
        if let (Some(hold), Some(store)) = (local, &self.local) {
            match store.extend(&charges, hold, now_ms) {
                Ok(over) => is_over = over,
                Err(error) => log::error!("{error}"),
            }
        }
        if let Some(settle) = remote {
            self.send_settlement(settle);
        }
        is_over
    }

    /// Renews the slots of requests that run, every [`SWEEP_MS`] for those whose lease is a third over.
    pub(super) fn renew_leases(&mut self, now_ms: u64) {
        if now_ms < self.renewed_ms.saturating_add(SWEEP_MS) {
            return;
        }
        self.renewed_ms = now_ms;
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut() {
            let account = match session {
                Session::Forwarded(forwarded) => &mut forwarded.account,
                Session::Responding(responding) => &mut responding.account,
                _ => continue,
            };
            if account.is_to_be_renewed(now_ms) {
                self.extend(account, &Cost::default(), now_ms);
            }
        }
        self.sessions = sessions;
    }

    /// Reservations were extended past a limit: their streams may have to end.
    pub(super) fn passed_limits(&mut self, ids: &[String]) {
        for session in self.sessions.values_mut() {
            if let Session::Responding(responding) = session {
                responding.is_over |= ids.iter().any(|id| id == responding.account.id());
            }
        }
    }

    /// A response's trailers came: its body is over.
    pub fn response_trailers(&mut self, stream: u32, now_ms: u64) {
        self.response_body(stream, &[], true, now_ms);
    }

    /// A stream is over, however it ended.
    pub fn stream_done(&mut self, stream: u32, now_ms: u64) {
        match self.sessions.remove(&stream) {
            Some(Session::AwaitStore(pending)) => {
                self.waiting.leave(pending.bill.queue(), stream);
                if !self.reserves.withdraw(stream) {
                    self.sessions.insert(stream, Session::Abandoned(pending.bill));
                }
            }
            Some(Session::Waiting(pending)) => self.waiting.leave(pending.bill.queue(), stream),
            // Nobody waited for the response to begin, and nobody knows what the upstream has done by then.
            Some(Session::Forwarded(forwarded)) => {
                let Forwarded { account, asked, .. } = forwarded;
                self.close(stream, account, &asked, FinalCost::AsReserved, now_ms);
            }
            Some(Session::Responding(responding)) => self.finish(stream, responding, now_ms),
            // Its answer is still to come.
            Some(session @ Session::Abandoned(_)) => {
                self.sessions.insert(stream, session);
            }
            Some(Session::AwaitBody(_) | Session::Settled(_)) | None => {}
        }
    }

    fn edits(&self, forwarded: &Forwarded, now_ms: u64) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if self.config.headers() == Headers::None {
            return edits;
        }
        if !forwarded.standings.is_empty() {
            edits.remove = answer::replaced_headers().collect();
            let dialect = self.dialect(forwarded.asked.endpoint);
            edits.set = dialect.rate_limit_headers(&forwarded.standings, now_ms);
        }
        let waited = forwarded.waited_ms.map(|ms| ("x-ratelimit-waited-ms", ms.to_string()));
        let would_refuse = forwarded.would_refuse.clone().map(|limit| ("x-ratelimit-dry-run", limit));
        edits.set.extend(waited.into_iter().chain(would_refuse));
        edits
    }

    /// What reads the response; none if nothing in it can change what the request cost (only requests are limited),
    /// or if it cannot be decompressed.
    fn reader(&self, asked: &RequestFacts, head: &ResponseHead<'_>) -> Option<(Decoder, ResponseReader)> {
        if !self.counts_tokens {
            return None;
        }
        let tokenizer = self.config.encodings().tokenizer(asked.model.as_deref());
        let decoder = Decoder::new(head.content_encoding)?;
        Some((decoder, ResponseReader::new(asked.endpoint, head.content_type, asked.choices, tokenizer)))
    }

    /// What is changed in streams that answer requests like this one.
    pub(super) fn edits_of_streams(&self, asked: &RequestFacts) -> Edits {
        let finishes = self.config.accounting().on_stream_over == OnStreamOver::Finish;
        Edits { hides_usage: asked.hides_usage, finishes: finishes && self.counts_tokens }
    }

    /// What changes the response, if it is a stream that is to be changed and is not compressed.
    fn editor(&self, asked: &RequestFacts, head: &ResponseHead<'_>) -> Option<Box<StreamEditor>> {
        let edits = self.edits_of_streams(asked);
        let is_stream = head.content_type.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let is_plain = head.content_encoding.is_none_or(|encoding| encoding == "identity");
        (edits.any() && is_stream && is_plain).then(|| Box::new(StreamEditor::new(edits)))
    }

    /// The response is over: what it cost is what was read in it.
    fn finish(&mut self, stream: u32, responding: Responding, now_ms: u64) {
        let Responding { account, asked, reader, .. } = responding;
        let outcome = reader.map_or(Outcome::Unknown, |(_, reader)| reader.finish());
        self.close_by(stream, account, &asked, outcome, now_ms);
    }

    fn close_by(
        &mut self,
        stream: u32,
        account: OpenReservation,
        asked: &RequestFacts,
        outcome: Outcome,
        now_ms: u64,
    ) {
        let model = asked.model.as_deref();
        let closing = match outcome {
            Outcome::Reported(usage) => {
                self.learned.observe(model, usage.output_tokens / asked.answers.max(1));
                FinalCost::Cost(self.cost(model, &usage.tokens()))
            }
            Outcome::Counted { output_tokens } => {
                let tokens = Tokens { output: output_tokens, ..account.estimate().tokens };
                FinalCost::Cost(self.cost(model, &tokens))
            }
            Outcome::Unknown => FinalCost::AsReserved,
        };
        self.close(stream, account, asked, closing, now_ms);
    }

    fn close(
        &mut self,
        stream: u32,
        account: OpenReservation,
        asked: &RequestFacts,
        closing: FinalCost,
        now_ms: u64,
    ) {
        let cost = closing.cost(&account);
        self.stats.add(Stat::Settled, 1);
        self.stats.add(Stat::InputTokens, cost.input_tokens);
        self.stats.add(Stat::OutputTokens, cost.output_tokens);
        let reserved = account.estimate().full;
        self.stats.settled(
            asked.model.as_deref(),
            reserved.of(Metric::TotalTokens),
            cost.of(Metric::TotalTokens),
        );
        self.note(stream, Field::InputTokens, cost.input_tokens);
        self.note(stream, Field::OutputTokens, cost.output_tokens);
        let Settlement { local, remote } = account.close(closing);
        if let Some((charges, hold)) = local
            && let Some(store) = &self.local
            && let Err(error) = store.settle(&charges, hold, now_ms)
        {
            log::error!("{error}");
        }
        if let Some(settle) = remote {
            self.send_settlement(settle);
        }
    }
}
