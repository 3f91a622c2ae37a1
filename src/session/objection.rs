//! The error of an upstream that was asked for a stream's usage in the client's place. It may object to exactly that.
//!
//! The client must not pay for it with an error that it did not cause. So the filter holds the error back until it has
//! read whether it names the option. If so, the client gets a 503 in its place, after which its library sends the
//! request again at once, and that goes as it came. Every other error passes unchanged.

use super::Session;
use super::charged::Charged;
use super::context::Cx;
use super::effects::Directive;
use super::reservation::FinalCost;
use super::response::{Forwarded, Head, ResponseView};
use crate::answer;
use crate::answer::refusal::Refusal;
use crate::codec::content_encoding::Decoder;
use crate::config::Headers;
use crate::quantity::Millis;
use crate::request::{BodyEdit, names_stream_options};
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::Count;

/// The most bytes of an error that are held back; a longer one passes. Errors of known upstreams have a few hundred.
const MAX_HELD: usize = 64 * 1024;

/// The most parts in which a held error may come: each time, all that has come is read.
const MAX_PARTS: u32 = 64;

/// The headers of the upstream's error that do not fit the answer in its place.
const REPLACED: [&str; 3] = ["content-encoding", "transfer-encoding", "retry-after"];

/// An error that is held back.
#[derive(Debug)]
pub struct Objection {
    forwarded: Forwarded,
    status: u16,
    decoder: Decoder,
    /// All that has come of its body.
    body: Vec<u8>,
    parts: u32,
}

impl Objection {
    /// What reads the answer with this `head` to a request for usage, if that may be an objection and can be read.
    pub(super) fn decoder(head: &Head, response: &dyn ResponseView) -> Option<Decoder> {
        if !matches!(head.status, 400 | 422) {
            return None;
        }
        let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
        Decoder::of_response(head.content_encoding.as_deref())
            .filter(|_| length.is_none_or(|length| length <= MAX_HELD))
    }

    /// Holds back an answer with this status.
    pub(super) fn hold<S: SharedData>(
        forwarded: Forwarded,
        status: u16,
        decoder: Decoder,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        cx.direct(Directive::Pause);
        Session::Objecting(Self { forwarded, status, decoder, body: Vec::new(), parts: 0 })
    }

    pub(super) fn due(&self) -> Option<Millis> {
        self.forwarded.due()
    }

    /// Notes that Redis has made the reservation after all.
    pub(super) fn counted(self) -> Self {
        Self { forwarded: self.forwarded.counted(), ..self }
    }

    /// Renews the request's leases.
    pub(super) fn renew_leases<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Self {
        Self { forwarded: self.forwarded.renew_leases(cx), ..self }
    }

    /// Takes a part of the body. `buffer` reads all that has come.
    pub(super) fn read<S: SharedData>(
        self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        // docs/envoy.md#held-responses: while an answer is held, the size covers all of its body that has come.
        let (body, parts) = (buffer(), self.parts.saturating_add(1));
        let held = Self { body, parts, ..self };
        if end_of_stream {
            return held.decide(cx);
        }
        if held.body.len() > MAX_HELD || parts > MAX_PARTS {
            return held.pass(cx);
        }
        cx.direct(Directive::Pause);
        Session::Objecting(held)
    }

    /// Decides about an error that is whole.
    pub(super) fn decide<S: SharedData>(mut self, cx: &mut Cx<'_, S>) -> Session {
        let mut text = Vec::new();
        let mut keep = |piece: &[u8]| {
            text.extend_from_slice(piece);
            text.len() > MAX_HELD
        };
        self.decoder.push(&self.body, &mut keep);
        self.decoder.finish(&mut keep);
        if names_stream_options(&text) { self.replace(cx) } else { self.pass(cx) }
    }

    /// Lets the error pass as it came.
    fn pass<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        cx.direct(Directive::Continue);
        cx.effects.headers = self.forwarded.header_edits(None, cx);
        self.forwarded.fail(self.status, cx)
    }

    /// Settles a request that ended before its error was whole.
    pub(super) fn leave<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        self.forwarded.fail(self.status, cx);
    }

    /// Answers in the upstream's place, so that the client sends its request again.
    fn replace<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let Self { forwarded, body, status, .. } = self;
        if let Some(asked) = &forwarded.facts.asked
            && asked.has_failed(cx.stores, cx.now)
        {
            log::warn!(
                "stream_usage: {:?} answers {status} to stream_options for the model {:?}: streams are not asked for \
                 usage there for ten minutes",
                asked.destination.authority,
                asked.destination.model
            );
        }
        cx.count(Count::StreamUsageRefused);
        let refusal = Refusal::StreamUsage;
        cx.log(Field::Reason, refusal.reason().unwrap_or_default());
        let reply = cx.reply(&refusal, forwarded.facts.endpoint, None);
        if forwarded.facts.asked.as_ref().is_some_and(|asked| asked.is_doubtful) {
            // The client's own body may be the reason: then this would be a way to the upstream that costs nothing.
            forwarded.fail(status, cx);
        } else {
            let Forwarded { open, facts, .. } = forwarded;
            cx.settle(open, &facts, Charged::failed(FinalCost::NOTHING));
        }
        cx.effects.headers.remove = REPLACED.to_vec();
        if cx.config.headers() != Headers::None {
            cx.effects.headers.remove.extend(answer::replaced_headers());
        }
        cx.effects.headers.set = vec![(":status", reply.status.to_string())];
        cx.effects.headers.set.push(("content-length", reply.body.len().to_string()));
        cx.effects.headers.set.extend(reply.headers);
        cx.effects.body = Some(BodyEdit { after: 0, replaced: body.len(), with: reply.body });
        cx.direct(Directive::Continue);
        Session::Idle
    }
}
