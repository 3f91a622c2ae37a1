//! The parts of a worker that a request uses while it handles an event: configuration, stores, and what requests share.

use super::charged::{Charged, Ended};
use super::effects::{Directive, Effects};
use super::headers_mode::HeadersMode;
use super::held::Held;
use super::refusals::Refusals;
use super::reservation::{FinalCost, OpenReservation, Reservation};
use super::waiting_room::WaitingRoom;
use super::{RequestFacts, Session};
use crate::answer::refusal::Refusal;
use crate::answer::{Dialect, Reply, Wording};
use crate::config::{Config, Fingerprint, Headers, OnStreamOver};
use crate::identity::RequestView;
use crate::models;
use crate::policy::limit::{Cost, Metric};
use crate::policy::{Candidates, Subject};
use crate::pricing::{Tokens, WithoutPrice};
use crate::quantity::{Millis, Units};
use crate::request::Endpoint;
use crate::store::local::SharedData;
use crate::store::wire::MAX_REQUEST_ID;
use crate::store::{HeldIn, Settlement, Stores};
use crate::stream_edit::Edits;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, SenderLabels, Unlimited, Verdict};
use crate::tokens::Effort;
use crate::usage::Reasoning;
use crate::usage::learned_output::Learned;
use crate::usage::learned_parts::LearnedParts;
use std::sync::Arc;

/// The worker, as one event of one request sees it. It collects the effects of the event.
pub struct Cx<'a, S> {
    /// The request's stream: Envoy's context id.
    pub stream: u32,
    /// The time, since the epoch; that of the last tick while there is a `clock` to read.
    pub now: Millis,
    /// The clock, until it is read.
    pub clock: Option<&'a dyn Fn() -> Millis>,
    /// The configuration.
    pub config: &'a Config,
    /// The stores that count.
    pub stores: &'a mut Stores<S>,
    /// State that the worker's requests share.
    pub shared: &'a mut Shared,
    /// The effects of the event so far.
    pub effects: Effects,
}

/// The state that the requests of one worker share, beside the stores.
#[derive(Debug)]
pub struct Shared {
    /// Which configuration it is.
    pub(super) fingerprint: Fingerprint,
    /// Whether the configuration limits the tokens of any request.
    pub(super) limits_tokens: bool,
    /// Whether anybody wants to know the tokens of requests: because of such a limit, or to meter them.
    pub(super) counts_tokens: bool,
    /// The requests that wait until they fit.
    pub(super) waiting: WaitingRoom,
    /// Refusals that are still in force.
    pub(super) refusals: Refusals,
    /// Whether bodies arrive while the filter holds headers.
    pub(super) headers_mode: HeadersMode,
    /// The lengths of each model's answers.
    pub(super) learned: Learned,
    /// How much of each sender's prompts comes from no cache, and how much of its answers is reasoning; none where no
    /// limit is on that.
    pub(super) learned_parts: Option<LearnedParts>,
    /// Models without a price that have been logged.
    pub(super) without_price: WithoutPrice,
    /// Bytes that bodies on their way hold.
    pub(super) held: Held,
    /// Bytes that bodies hold that are being read in steps.
    pub(super) reading: Held,
    /// Prefix and number of the next reservation.
    next_id: (u64, u64),
}

impl Shared {
    /// The state of a new worker. `seed` is random, so that no two workers of a fleet make the same reservation id.
    pub fn new(config: &Config, seed: u64) -> Self {
        Self {
            fingerprint: Fingerprint::default(),
            limits_tokens: config.needs_tokens(),
            counts_tokens: config.needs_tokens() || config.meters(),
            waiting: WaitingRoom::new(config.max_waiting(), config.max_waiting_bytes()),
            refusals: Refusals::default(),
            headers_mode: HeadersMode::new(config.headers_mode()),
            learned: Learned::default(),
            learned_parts: limits_parts(config).then(LearnedParts::default),
            without_price: WithoutPrice::default(),
            held: Held::default(),
            reading: Held::default(),
            next_id: (seed, 0),
        }
    }

    /// The same state, of the configuration with this fingerprint.
    #[must_use]
    pub fn of(self, fingerprint: Fingerprint) -> Self {
        Self { fingerprint, ..self }
    }

    /// An id that no other reservation of the fleet has.
    pub(super) fn reservation_id(&mut self) -> String {
        let (seed, number) = self.next_id;
        self.next_id = (seed, number.wrapping_add(1));
        format!("{seed:016x}-{number:x}")
    }

    /// How many requests wait until they fit.
    pub(crate) const fn waiting(&self) -> u32 {
        self.waiting.occupied()
    }

    /// Goes on with ids and a waiting room.
    #[cfg(test)]
    pub(crate) fn with(self, next_id: (u64, u64), waiting: WaitingRoom) -> Self {
        Self { next_id, waiting, ..self }
    }

    /// The next id, and the waiting room.
    #[cfg(test)]
    pub(crate) fn into_ids_and_waiting(self) -> ((u64, u64), WaitingRoom) {
        (self.next_id, self.waiting)
    }

    /// Lets headers go before bodies, as where they cannot be held.
    #[cfg(test)]
    pub(crate) fn stop_holding_headers(&mut self) {
        self.headers_mode = HeadersMode::Stated;
    }

    /// The bytes that bodies hold.
    #[cfg(test)]
    pub(crate) fn held(&self) -> u64 {
        self.held.all().saturating_add(self.reading.all())
    }

    /// Whether requests of `identity` wait.
    #[cfg(test)]
    pub(crate) fn has_waiting(&self, identity: &str) -> bool {
        self.waiting.has(identity)
    }
}

/// Whether a limit of `config` is on a part of prompts or answers that only answers report.
fn limits_parts(config: &Config) -> bool {
    [Metric::UncachedInputTokens, Metric::ReasoningTokens].into_iter().any(|metric| config.limits(metric))
}

/// The cost by `config` of a request that uses `tokens`, of whichever of `models` it is for. The dearest counts.
pub(super) fn cost(config: &Config, models: &Candidates, tokens: &Tokens) -> Cost {
    let accounting = config.accounting();
    let weighed = accounting.weights.dearest(models, tokens);
    Cost {
        requests: Units::new(1),
        input_tokens: Units::from(weighed.input_tokens),
        uncached_input_tokens: Units::from(weighed.uncached_input_tokens),
        output_tokens: Units::from(weighed.output_tokens),
        reasoning_tokens: Units::from(weighed.reasoning_tokens),
        cost_micro_usd: Units::from(accounting.prices.dearest_micro_usd(models, tokens)),
    }
}

/// Whether an answer of `model` to a request of this `effort`, which shows this of its reasoning, may hold more than it
/// shows: by the model's name, or by the usage of earlier answers, as `learned`. What the answer shows counts before
/// what the client asks for, which a gateway may not pass on.
pub(super) fn may_hide_reasoning(
    model: Option<&str>,
    effort: Effort,
    shown: Reasoning,
    learned: &Learned,
) -> bool {
    let name = model.unwrap_or_default();
    match shown {
        Reasoning::None => false,
        Reasoning::Shown => !models::shows_all_reasoning(name),
        Reasoning::Unknown => models::reasons(name, effort).unwrap_or_else(|| learned.reasons(model)),
    }
}

impl<S: SharedData> Cx<'_, S> {
    /// Reads the clock, for an event of which most requests need no time.
    pub(super) fn read_clock(&mut self) {
        self.now = self.clock.take().map_or(self.now, |clock| clock());
    }

    /// Forwards, pauses or answers the request.
    pub(super) fn direct(&mut self, directive: Directive) {
        self.effects.directive = Some(directive);
    }

    /// Adds a field to the access log.
    pub(super) fn log(&mut self, field: Field, value: impl ToString) {
        self.effects.log.add(field, value);
    }

    /// Adds to the access log who sends the request.
    pub(super) fn log_sender(&mut self, subject: &Subject) {
        self.log(Field::Id, subject.id());
        let fields =
            [(Field::Name, subject.name()), (Field::Plan, subject.plan()), (Field::Group, subject.group())];
        for (field, value) in fields {
            if let Some(value) = value {
                self.log(field, value);
            }
        }
    }

    /// The id by which Envoy knows `request`, if a sidecar's log is to have it.
    pub(super) fn request_id(&self, request: &dyn RequestView) -> Option<Arc<str>> {
        let id = request.header("x-request-id").filter(|_| self.stores.is_shared())?;
        let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
        (is_plain && (1..=MAX_REQUEST_ID).contains(&id.len())).then(|| id.into())
    }

    /// What metrics say of `subject`.
    pub(super) fn labels(&self, subject: &Subject) -> SenderLabels {
        subject.labels(self.config.metrics_by_name())
    }

    /// No limit applies to the request, for this reason.
    pub(super) fn not_limited(&mut self, reason: Unlimited) {
        self.not_limited_by(SenderLabels::default(), reason);
    }

    /// No limit applies to the request of `subject`, for this reason. Metrics show its name, where they show names.
    pub(super) fn not_limited_of(&mut self, subject: &Subject, reason: Unlimited) {
        let SenderLabels { key_name, .. } = self.labels(subject);
        self.not_limited_by(SenderLabels { key_name, ..SenderLabels::default() }, reason);
    }

    fn not_limited_by(&mut self, sender: SenderLabels, reason: Unlimited) {
        self.decide(Verdict::NotLimited, sender);
        self.log(Field::Reason, reason.name());
        self.count(Count::NotLimited { reason });
    }

    /// Lets a request pass that nothing limits, or answers it. A 429 of its upstream is still to say so.
    pub(super) const fn pass(&self) -> Session {
        let says_source = !matches!(self.config.headers(), Headers::None);
        if says_source { Session::Passing } else { Session::Idle }
    }

    /// What is decided about a request of `sender`, for the access log and for metrics.
    pub(super) fn decide(&mut self, decision: Verdict, sender: SenderLabels) {
        self.log(Field::Decision, decision.name());
        self.count(Count::Requests { sender, decision });
    }

    /// Counts one.
    pub(super) fn count(&mut self, count: Count) {
        self.effects.metrics.add(count, 1);
    }

    /// Answers the request with `refusal`, in the form of its API.
    pub(super) fn refuse(&mut self, refusal: &Refusal, endpoint: Endpoint, languages: Option<&str>) {
        self.direct(Directive::Reply(self.reply(refusal, endpoint, languages)));
    }

    /// The answer with `refusal`, in the form of the API.
    pub(super) fn reply(&self, refusal: &Refusal, endpoint: Endpoint, languages: Option<&str>) -> Reply {
        let message = self.config.messages().map(|messages| messages.of(languages));
        refusal.reply(&Wording { message, dialect: self.dialect(endpoint), now: self.now })
    }

    /// The headers and errors that a client of `endpoint` understands.
    pub(super) fn dialect(&self, endpoint: Endpoint) -> Dialect {
        Dialect { headers: self.config.headers(), endpoint }
    }

    /// The cost of a request that uses `tokens`, of whichever of `models` it is for. The dearest counts.
    pub(super) fn cost(&self, models: &Candidates, tokens: &Tokens) -> Cost {
        cost(self.config, models, tokens)
    }

    /// Whether an answer of `model` to a request of this `effort`, which shows this of its reasoning, may hold more
    /// than it shows.
    pub(super) fn may_hide_reasoning(&self, model: Option<&str>, effort: Effort, shown: Reasoning) -> bool {
        may_hide_reasoning(model, effort, shown, &self.shared.learned)
    }

    /// The output tokens that half of the answers of `model` stay within, as far as they are known.
    pub(super) fn median_output(&self, model: Option<&str>) -> u64 {
        self.shared.learned.median(model, self.config.accounting().default_output_tokens)
    }

    /// The changes to make in a response that is a stream. `hides_usage`: the client did not request its usage.
    pub(super) fn stream_edits(&self, hides_usage: bool) -> Edits {
        let finishes = self.config.accounting().on_stream_over == OnStreamOver::Finish;
        Edits { hides_usage, finishes: finishes && self.shared.limits_tokens }
    }

    /// Undoes what the store may have charged for a request that is not forwarded.
    pub(super) fn cancel(&mut self, reservation: &Reservation) {
        self.shared.refusals.forget(reservation);
        self.effects.wake |= self.stores.cancel(
            reservation.cancellation(),
            reservation.request_id.clone(),
            reservation.may_share(),
            self.now,
        );
    }

    /// Gives back all of a reservation that was made for a request that is not forwarded.
    pub(super) fn give_back(&mut self, reservation: Reservation, held: HeldIn) {
        self.shared.refusals.forget(&reservation);
        let open = OpenReservation::new(reservation, held, self.now);
        self.effects.wake |= self.stores.settle(open.settlement(FinalCost::NOTHING), self.now);
    }

    /// Settles a reservation that was forwarded, unless its cost is still to come ([`super::background`]).
    pub(super) fn settle(&mut self, open: OpenReservation, facts: &RequestFacts, charged: Charged) {
        self.shared.refusals.forget(open.reservation());
        let cost = charged.cost.cost(&open);
        let is_metered = open.reservation().lines.is_empty();
        let ended = Ended { facts, charged, cost, estimate: open.estimate(), is_metered };
        ended.report(self);
        let settlement = Settlement { tokens: ended.measured_tokens(), ..open.settlement(charged.cost) };
        self.effects.wake |= self.stores.settle(settlement, self.now);
    }

    /// Charges what a running request has cost beyond its earlier charges, and renews its leases. Returns whether that
    /// takes a counter past its limit, as far as is known: Redis answers later.
    pub(super) fn extend(&mut self, open: &mut OpenReservation, cost: &Cost) -> bool {
        let extended = open.extend(self.stream, cost, self.now, self.stores);
        self.effects.wake |= extended.queued;
        extended.is_over
    }

    /// Removes the request from its queue, if it is in one.
    pub(super) fn leave_queue(&mut self, reservation: &Reservation) {
        let next = self.shared.waiting.leave(reservation.queue(), self.stream);
        self.effects.next_in_queue = self.effects.next_in_queue.or(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_counts_after_what_the_answer_shows_and_the_model_can() {
        use Effort::{Off, Unsaid};
        use Reasoning::{None, Shown, Unknown};
        let mut learned = Learned::default();
        learned.note_reasoning(Some("our-model"));
        learned.note_reasoning(Some("claude-opus-4-7"));
        for (model, effort, shown, expected) in [
            ("o3", Off, Unknown, true),
            ("o3", Off, Shown, true),
            ("o3", Off, None, false),
            ("gpt-5", Off, Unknown, true),
            ("gpt-5.1", Off, Unknown, false),
            // A gateway has not passed on what the client asks for.
            ("gpt-5.1", Off, Shown, true),
            ("claude-opus-4-7", Off, Shown, true),
            ("claude-opus-4-7", Off, Unknown, false),
            ("claude-opus-4-7", Unsaid, Unknown, true),
            ("qwen3-32b", Off, Shown, false),
            ("qwen3-32b", Off, Unknown, false),
            // Nobody knows what this name stands for, but that it has reasoned.
            ("our-model", Off, Unknown, true),
            ("another", Off, Unknown, false),
            ("another", Off, Shown, true),
        ] {
            let found = may_hide_reasoning(Some(model), effort, shown, &learned);
            assert_eq!(found, expected, "{model} {effort:?} {shown:?}");
        }
    }
}
