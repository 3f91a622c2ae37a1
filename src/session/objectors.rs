//! The upstreams that are asked for a stream's usage in a client's place, and those that object to it, so that no
//! worker of this Envoy asks them again for a while.
//!
//! An upstream is known by the authority and the model of a request, because only Envoy knows where it routes them. An
//! error that names the option may also repeat what the client sent. So if the client's own body could be the reason,
//! the objection counts for this sender alone: nobody can keep the usage of others from being asked for.

use super::arrival::AwaitBody;
use super::context::Cx;
use crate::config::StreamUsage;
use crate::policy::{Applied, Candidates};
use crate::quantity::Millis;
use crate::request::{Endpoint, Request, mentions_stream_options};
use crate::store::local::SharedData;
use crate::store::shard::{Digest16, digest};
use crate::store::{Stores, noticeboard};
use std::sync::Arc;

/// How long an upstream is not asked again.
const MEMORY: Millis = Millis::new(10 * Millis::MINUTE.get());

/// A request for usage in a client's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where the request goes.
    pub destination: Destination,
    /// Whether an error that names the option may be about the client's own body.
    pub is_doubtful: bool,
}

/// Where a request goes, as far as the filter knows, and who sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The header `:authority`.
    pub authority: String,
    /// The models that the request may be for.
    pub model: String,
    /// The id of the sender's counters.
    pub sender: Arc<str>,
}

impl Destination {
    /// Whether the upstream there objects, as far as this Envoy knows.
    pub(super) fn objects<S: SharedData>(&self, stores: &Stores<S>, now: Millis) -> bool {
        stores.notices().has(|| [self.notice(false), self.notice(true)], now)
    }

    /// The notice of an objection, to all or to this sender.
    fn notice(&self, is_for_sender: bool) -> Digest16 {
        let sender = if is_for_sender { &*self.sender } else { "" };
        let notice = digest(&["stream_options", &self.authority.to_ascii_lowercase(), &self.model, sender]);
        // A sender can make as many of its own as it likes.
        if is_for_sender { noticeboard::lesser(notice) } else { noticeboard::greater(notice) }
    }
}

impl AwaitBody {
    /// Where to ask for the usage of a stream for which the client does not ask; none if it must not be asked for.
    pub(super) fn asks_for_usage<S: SharedData>(
        &self,
        request: &Request<'_>,
        models: &Candidates,
        cx: &Cx<'_, S>,
    ) -> Option<Destination> {
        let choice = cx.config.accounting().stream_usage;
        let can = cx.shared.counts_tokens
            && choice != Some(StreamUsage::Count)
            && matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
            && self.may_change_body()
            && request.stream
            && !request.include_usage
            && !request.has_data_sources
            && request.is_plain();
        if !can {
            return None;
        }
        // An upstream may object, and a dry run is not to bring its clients a 503 that nobody has asked for.
        let may_ask = |applied: &Applied| !applied.dry_run || choice == Some(StreamUsage::Inject);
        let mut limits = self.subject.limits(models);
        if !limits.any(|applied| applied.limit.metric.needs_tokens() && may_ask(&applied)) {
            return None;
        }
        let destination = Destination {
            authority: self.authority.clone()?,
            model: models.names().join(","),
            sender: self.subject.sender().id,
        };
        Some(destination).filter(|destination| !destination.objects(cx.stores, cx.now))
    }
}

impl Asked {
    /// A request to `destination` with this `body`, before the option was added.
    pub fn new(destination: Destination, body: &[u8]) -> Self {
        Self { destination, is_doubtful: mentions_stream_options(body) }
    }

    /// Remembers that the upstream objects. Returns whether that is news.
    pub(super) fn has_failed<S: SharedData>(&self, stores: &Stores<S>, now: Millis) -> bool {
        stores.notices().add(self.destination.notice(self.is_doubtful), now + MEMORY, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::store::local::tests::Memory;

    fn to(authority: &str, model: &str, sender: &str) -> Destination {
        Destination { authority: authority.into(), model: model.into(), sender: sender.into() }
    }

    fn stores(memory: &Memory) -> Stores<&Memory> {
        let config = br#"{"store": {"type": "redis", "cluster": "s"}}"#;
        Stores::new(Config::from_bytes(config).unwrap().store(), "".into(), Default::default(), memory)
    }

    #[test]
    fn an_upstream_is_asked_again_after_ten_minutes() {
        let memory = Memory::default();
        let [one, other] = [stores(&memory), stores(&memory)];
        let asked = Asked::new(to("azure.example", "gpt-4o", "me"), b"{}");
        let now = Millis::new(7);
        assert!(!asked.destination.objects(&one, now));
        assert_eq!([asked.has_failed(&one, now), asked.has_failed(&other, now)], [true, false]);
        let mine = to("Azure.Example", "gpt-4o", "you");
        assert!(mine.objects(&other, now + Millis::new(599_999)), "every worker knows");
        assert!(!mine.objects(&other, now + Millis::new(600_000)));
        for other in [to("azure.example", "o3", "me"), to("openai.example", "gpt-4o", "me")] {
            assert!(!other.objects(&one, now));
        }
    }

    #[test]
    fn an_error_that_a_client_may_have_caused_concerns_nobody_else() {
        let memory = Memory::default();
        let stores = stores(&memory);
        let body = br#"{"messages":[{"role":"stream_options"}]}"#;
        Asked::new(to("a", "m", "me"), body).has_failed(&stores, Millis::ZERO);
        assert!(to("a", "m", "me").objects(&stores, Millis::ZERO));
        assert!(!to("a", "m", "you").objects(&stores, Millis::ZERO));
    }
}
