//! From a request's body to its reservation: what the body says, and whether it is refused for that. [`super::route`]
//! decides whether the body matters, [`super::estimate`] estimates its cost, and [`super::admission`] makes the
//! reservation.

use super::admission::reserve;
use super::context::Cx;
use super::effects::Directive;
use super::estimate::{self, CountText};
use super::fall_back::Leeway;
use super::incoming::{self, Arrived, Buffer, Incoming};
use super::output_cap::{Objections, Output};
use super::reading::{MAX_AT_ONCE, Reading};
use super::reservation::{Estimate, OpenReservation, Reservation};
use super::response::Forwarded;
use super::route::refuse_unless_dry_run;
use super::sorting::{has_sealed_body, refuses_body};
use super::{Asked, RequestFacts, Session};
use crate::answer::refusal::{BadBody, BadCap, Refusal};
use crate::codec::form;
use crate::codec::loose_json::Fault;
use crate::identity::RequestView;
use crate::policy::endpoints::Route;
use crate::policy::limit::Metric;
use crate::policy::{Candidates, ForbiddenModel, Subject};
use crate::pricing::Unpriced;
use crate::quantity::Millis;
use crate::request::{self, Body, Endpoint, IncludeUsage, NewCap, NewMembers, Request};
use crate::store::HeldIn;
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, Unlimited};
use std::sync::Arc;

/// The most characters of models' names in the access log.
const MAX_LOGGED: usize = 256;

/// A request that has shown its headers and not yet its whole body.
#[derive(Debug)]
pub struct AwaitBody {
    pub(super) endpoint: Endpoint,
    /// The deployment that the path names.
    deployment: Option<Candidates>,
    /// The identity, with its limits.
    pub(super) subject: Subject,
    /// The header `accept-language`, if refusals depend on it.
    languages: Option<String>,
    /// The id by which Envoy knows the request, for the sidecar's log.
    request_id: Option<Arc<str>>,
    /// The body.
    incoming: Incoming,
    /// Whether the headers say that the body is a form.
    is_form: bool,
    /// The header `:authority`; none if the body may not be changed: the headers have a digest of it.
    pub(super) authority: Option<String>,
    /// Bytes of the body that have arrived.
    pub(super) size: usize,
    headers: RequestHeaders,
}

/// Where the headers of a request are whose body has not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestHeaders {
    /// The filter holds them, up to this time if no body comes.
    Held(Option<Millis>),
    /// The filter let them go at this time, since no body came.
    Released(Millis),
    /// They went at once.
    Sent,
}

impl AwaitBody {
    /// Waits for the body of `request`, unless its headers say that nobody can tell what it says and it is refused for
    /// that.
    pub(super) fn begin<S: SharedData>(
        request: &dyn RequestView,
        route: Route,
        subject: Subject,
        languages: Option<String>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let holds = cx.shared.headers_mode.holds(cx.now);
        let release_at = cx.shared.headers_mode.release_at(cx.now);
        let content_encoding = request.header("content-encoding").unwrap_or_default();
        let content_type = request.header("content-type").unwrap_or_default();
        let phase = Self {
            endpoint: route.endpoint,
            deployment: route.deployment,
            subject,
            languages,
            request_id: cx.request_id(request),
            incoming: Incoming::new(&content_encoding, &content_type, &cx.shared.held),
            is_form: incoming::is_form(&content_type),
            authority: (!has_sealed_body(request)).then(|| request.header(":authority").unwrap_or_default()),
            size: 0,
            headers: if holds { RequestHeaders::Held(release_at) } else { RequestHeaders::Sent },
        };
        if let Some(bad) = phase.incoming.bad()
            && phase.refuses(bad, cx)
        {
            return Session::Idle;
        }
        cx.direct(if holds { Directive::Pause } else { Directive::Continue });
        Session::AwaitBody(phase)
    }

    /// When to release the headers.
    pub(super) const fn due(&self) -> Option<Millis> {
        match self.headers {
            RequestHeaders::Held(release_at) => release_at,
            RequestHeaders::Released(_) | RequestHeaders::Sent => None,
        }
    }

    /// Releases headers that no body has followed in time.
    pub(super) fn release_held_headers<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Self {
        match self.headers {
            RequestHeaders::Held(_) if cx.shared.headers_mode.releases() => {
                cx.direct(Directive::Continue);
                Self { headers: RequestHeaders::Released(cx.now), ..self }
            }
            RequestHeaders::Held(_) => Self { headers: RequestHeaders::Held(None), ..self },
            RequestHeaders::Released(_) | RequestHeaders::Sent => self,
        }
    }

    /// Takes a part of the body, of which `size` bytes have arrived, if that is known. `buffer` reads them.
    pub(super) fn read<S: SharedData>(
        self,
        buffer: &Buffer<'_>,
        size: Option<usize>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let headers = match self.headers {
            RequestHeaders::Held(_) => {
                cx.shared.headers_mode = cx.shared.headers_mode.after_body();
                RequestHeaders::Held(None)
            }
            RequestHeaders::Released(at) => {
                cx.shared.headers_mode = cx.shared.headers_mode.after_release(at, cx.now);
                RequestHeaders::Sent
            }
            RequestHeaders::Sent => RequestHeaders::Sent,
        };
        let phase = Self { headers, ..self };
        let size = size.unwrap_or(phase.size);
        if end_of_stream {
            return Self { size, ..phase }.read_whole(buffer, cx);
        }
        let was_bad = phase.incoming.bad().is_some();
        let incoming = phase.incoming.push(buffer, size);
        let phase = Self { incoming, size, ..phase };
        if let Some(bad) = phase.incoming.bad().filter(|_| !was_bad)
            && phase.refuses(bad, cx)
        {
            return Session::Idle;
        }
        cx.direct(Directive::Pause);
        Session::AwaitBody(phase)
    }

    fn read_whole<S: SharedData>(self, buffer: &Buffer<'_>, cx: &mut Cx<'_, S>) -> Session {
        let was_bad = self.incoming.bad().is_some();
        let Self { incoming, size, .. } = self;
        let phase = Self { incoming: Incoming::Plain, ..self };
        match incoming.finish(buffer, size) {
            Arrived::Large(incoming) => Reading::begin(phase, incoming, cx),
            Arrived::Plain(bytes) => phase.read_body(&bytes, None, cx),
            Arrived::Decoded { decoded, as_sent } => phase.read_body(&decoded, Some(&as_sent), cx),
            Arrived::Bad { bad, .. } if !was_bad && phase.refuses(&bad, cx) => Session::Idle,
            Arrived::Bad { bad, size, as_sent } => phase.charge_unread(&bad, size, Some(&as_sent), cx),
        }
    }

    /// Reads a whole body. `coded` is the body as it came, if it came in a content coding.
    fn read_body<S: SharedData>(self, bytes: &[u8], coded: Option<&[u8]>, cx: &mut Cx<'_, S>) -> Session {
        let body = Body::new(bytes);
        let request = Request::read(self.endpoint, &body);
        let other = if request.fault.is_none() { self.other_meaning(bytes, coded) } else { None };
        if let Some(fault) = request.fault.clone().or_else(|| other.clone()) {
            let bad = BadBody::Unreadable(fault);
            if self.refuses(&bad, cx) {
                return Session::Idle;
            }
            let size = coded.map_or(0, |coded| coded.len() as u64).max(request.size());
            let as_sent = coded.or_else(|| other.is_some().then_some(bytes));
            return self.charge_unread(&bad, Some(size), as_sent, cx);
        }
        self.admit_read(&request, &estimate::at_once(&request), coded.is_none().then_some(bytes), cx)
    }

    /// Reserves what a `request` is expected to cost that was read; `count` counts its text. `bytes` are the body, if
    /// it is in no content coding.
    pub(super) fn admit_read<S: SharedData>(
        self,
        request: &Request<'_>,
        count: &CountText<'_>,
        bytes: Option<&[u8]>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let models = self.models_of(request);
        let body = bytes.filter(|_| self.may_change_body());
        let (output, objections) = Output::decide(&self.subject, request, &models, body);
        if self.refuses_output(objections, &models, cx) {
            return Session::Idle;
        }
        let estimate = estimate::of_request(request, &output, &models, &self.subject, count, cx);
        let asked = bytes.and_then(|bytes| {
            let is_searched = !request.has_stream_options || bytes.len() <= MAX_AT_ONCE;
            let destination = self.asks_for_usage(request, &models, cx).filter(|_| is_searched);
            let has_options = request.has_stream_options;
            let include_usage = destination.as_ref().map(|_| IncludeUsage { has_options });
            let members = NewMembers { include_usage, output_cap: output.change.clone() };
            cx.effects.body = members.edit(bytes);
            destination.filter(|_| cx.effects.body.is_some()).map(|to| Asked::new(to, bytes))
        });
        if let (Some(NewCap { most, .. }), None) = (&output.change, &cx.effects.body) {
            let enforced = Some(BadCap::Unchangeable { most: *most });
            self.refuses_output(Objections { enforced, in_dry_run: None }, &models, cx);
            return Session::Idle;
        }
        let others = self.others(request, &models, &output, count, bytes, cx);
        let leeway = Leeway { has_headers: self.has_headers(), others };
        if self.has_headers() && request.stream && cx.stream_edits(asked.is_some()).any() {
            // A compressed stream cannot be edited.
            cx.effects.headers.set.push(("accept-encoding", "identity".to_owned()));
        }
        let facts = RequestFacts {
            endpoint: self.endpoint,
            languages: self.languages,
            body_bytes: self.size as u64,
            choices: request.choices(),
            answers: request.answers(),
            output_cap: output.cap.tokens,
            sender: self.subject.sender(),
            labels: cx.labels(&self.subject),
            request_id: self.request_id,
            asked,
            background: request.background,
            spends_tokens: true,
            models,
        };
        admit(&self.subject, facts, estimate, leeway, cx)
    }

    /// Refuses the request for the output that it asks for, if there are objections that are enforced. Returns whether
    /// it did.
    fn refuses_output<S: SharedData>(
        &self,
        objections: Objections,
        models: &Candidates,
        cx: &mut Cx<'_, S>,
    ) -> bool {
        let Objections { enforced, in_dry_run } = objections;
        let languages = self.languages.as_deref();
        let mut refuses = |bad: Option<BadCap>, dry_run| {
            let refusal = bad.map(Refusal::OutputCap);
            refusal.is_some_and(|refusal| {
                refuse_unless_dry_run(&refusal, &self.subject, self.endpoint, languages, dry_run, cx)
            })
        };
        refuses(in_dry_run, true);
        let is_refused = refuses(enforced, false);
        if is_refused {
            log_request(&self.subject, models, cx);
        }
        is_refused
    }

    /// Whether its headers are still here, and can be changed.
    const fn has_headers(&self) -> bool {
        matches!(self.headers, RequestHeaders::Held(_))
    }

    /// Whether the body may be changed: its headers have not gone on, and have no digest of it.
    pub(super) const fn may_change_body(&self) -> bool {
        self.has_headers() && self.authority.is_some()
    }

    /// The models that `request` may be for.
    pub(super) fn models_of(&self, request: &Request<'_>) -> Candidates {
        self.deployed().unwrap_or_else(|| request.models())
    }

    /// The model, if the path names a deployment: the body does not matter then.
    pub(super) fn deployed(&self) -> Option<Candidates> {
        self.deployment.clone()
    }

    /// A fault if some upstream takes the body for another request than the one in `bytes`: because it does not know
    /// content codings, and the body as it came is a request too; or because it reads a form.
    fn other_meaning(&self, bytes: &[u8], coded: Option<&[u8]>) -> Option<Fault> {
        if self.is_form_too(bytes) {
            return Some(found_form());
        }
        let as_sent = Body::new(coded?);
        Request::read(self.endpoint, &as_sent).has_content().then(found_uncoded)
    }

    /// Whether the headers say that the body is a form.
    pub(super) const fn says_form(&self) -> bool {
        self.is_form
    }

    /// Whether `bytes`, which are a request in JSON, are one in a form too.
    pub(super) fn is_form_too(&self, bytes: &[u8]) -> bool {
        self.is_form && form::has_field(bytes, request::is_essential)
    }

    /// Charges the most that a body of `size` bytes, if that is known, could cost. `as_sent` is the body as it came, if
    /// an upstream may read it as a request all the same.
    fn charge_unread<S: SharedData>(
        self,
        bad: &BadBody,
        size: Option<u64>,
        as_sent: Option<&[u8]>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let as_sent = as_sent.map(Body::new);
        let request = as_sent.as_ref().map(|body| Request::read(self.endpoint, body));
        let request = request.filter(|request| request.fault.is_none());
        match &request {
            Some(request) => self.admit_unread(bad, size, Some((request, &estimate::at_once(request))), cx),
            None => self.admit_unread(bad, size, None, cx),
        }
    }

    /// The same; `request` is what an upstream may read all the same, and counts its text.
    pub(super) fn admit_unread<S: SharedData>(
        self,
        bad: &BadBody,
        size: Option<u64>,
        request: Option<(&Request<'_>, &CountText<'_>)>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let models = self.unread_models();
        if self.refuses_output(Objections::to_unread(&self.subject, self.endpoint), &models, cx) {
            return Session::Idle;
        }
        let estimate = if self.subject.needs_body() {
            cx.count(Count::Unreadable);
            cx.log(Field::Reason, bad.reason());
            estimate::of_unreadable(size, request, &models, &self.subject, cx)
        } else {
            // What it could be at most is no measure of what it is.
            Estimate::REQUEST
        };
        // Nobody knows whether it asks for that.
        let background = self.endpoint == Endpoint::Responses;
        let labels = cx.labels(&self.subject);
        let leeway = Leeway { has_headers: self.has_headers(), others: Vec::new() };
        let facts = RequestFacts::unread(self.endpoint, self.subject.sender(), labels, self.languages);
        let (request_id, body_bytes) = (self.request_id, self.size as u64);
        let facts = RequestFacts { models, background, body_bytes, request_id, ..facts };
        admit(&self.subject, facts, estimate, leeway, cx)
    }

    /// The models that a body may be for that nobody reads.
    pub(super) fn unread_models(&self) -> Candidates {
        self.deployed().unwrap_or(Candidates::UNKNOWN)
    }

    /// Refuses the request for its body, unless it is to be charged for it, or nothing that the body decides on is
    /// enforced. Returns whether it did.
    pub(super) fn refuses<S: SharedData>(&self, bad: &BadBody, cx: &mut Cx<'_, S>) -> bool {
        let Some(dry_run) = refuses_body(bad, &self.subject, cx.config) else { return false };
        let refusal = Refusal::BadBody(bad.clone());
        let languages = self.languages.as_deref();
        let is_refused =
            refuse_unless_dry_run(&refusal, &self.subject, self.endpoint, languages, dry_run, cx);
        if is_refused {
            cx.log_sender(&self.subject);
        }
        is_refused
    }
}

/// Why a body is not read that is a form too.
pub(super) fn found_form() -> Fault {
    Fault::whole("expected JSON, found a form")
}

/// Why a body is not read that is JSON in its content coding and without it.
pub(super) fn found_uncoded() -> Fault {
    Fault::whole("expected a content coding, found JSON that is in none")
}

/// Reserves the `estimate` under the limits of `subject`, unless it may not use a model that the request may be for. A
/// limit that lets the request go on does so within its `leeway`.
/// Forwards the request if no limits apply, and reads its answer all the same if it is to be metered.
pub(super) fn admit<S: SharedData>(
    subject: &Subject,
    facts: RequestFacts,
    estimate: Estimate,
    leeway: Leeway,
    cx: &mut Cx<'_, S>,
) -> Session {
    if refuses_model(subject, &facts.models, &facts, cx) {
        return Session::Idle;
    }
    let mut reservation_of = |subject: &Subject, facts: &RequestFacts, estimate: Estimate| {
        let id = cx.shared.reservation_id();
        Reservation::new(id, subject.name(), subject.limits(&facts.models), estimate)
            .bounded(subject.max_new_identities())
            .of_request(facts.request_id.clone())
            .under(cx.config.accounting())
    };
    let reservation =
        reservation_of(subject, &facts, estimate).continuing(|how| leeway.at_limit(how, &facts.models));
    let fallbacks = leeway.fallbacks(subject, &facts, reservation_of);
    if reservation.lines.is_empty() {
        let is_exempt = subject.is_exempt();
        let reason = if is_exempt { Unlimited::UnlimitedKey } else { Unlimited::NoLimitApplies };
        cx.not_limited_of(subject, reason);
        cx.direct(Directive::Continue);
        if !cx.config.meters() {
            return cx.pass();
        }
        log_request(subject, &facts.models, cx);
        if !facts.spends_tokens {
            return cx.pass();
        }
        let input = reservation.estimate.shown().input_tokens;
        if !input.is_zero() {
            cx.log(Field::EstimatedInputTokens, input);
        }
        let open = OpenReservation::new(reservation, HeldIn::Nowhere, cx.now);
        return Session::Forwarded(Forwarded {
            open,
            statuses: Vec::new(),
            would_refuse: None,
            waited: None,
            facts,
        });
    }
    log_request(subject, &facts.models, cx);
    log_estimate(&reservation, cx);
    warn_of_missing_price(&reservation, &facts.models, cx);
    reserve(reservation, facts, fallbacks, cx)
}

/// Refuses a request of `subject` that may be for one of `models` if it may not use that, unless that is in a dry run.
/// Returns whether it did.
pub(super) fn refuses_model<S: SharedData>(
    subject: &Subject,
    models: &Candidates,
    facts: &RequestFacts,
    cx: &mut Cx<'_, S>,
) -> bool {
    let Some(ForbiddenModel { model, dry_run }) = subject.forbidden(models) else { return false };
    let (refusal, languages) = (Refusal::ForbiddenModel(model), facts.languages.as_deref());
    let is_refused = refuse_unless_dry_run(&refusal, subject, facts.endpoint, languages, dry_run, cx);
    if is_refused {
        log_request(subject, &facts.models, cx);
    }
    is_refused
}

fn log_request<S: SharedData>(subject: &Subject, models: &Candidates, cx: &mut Cx<'_, S>) {
    cx.log_sender(subject);
    if !models.names().is_empty() {
        // The client chooses how many there are.
        cx.log(Field::Model, models.names().join(",").chars().take(MAX_LOGGED).collect::<String>());
    }
}

pub(super) fn log_estimate<S: SharedData>(reservation: &Reservation, cx: &mut Cx<'_, S>) {
    let (estimate, shown) = (&reservation.estimate, reservation.estimate.shown());
    if cx.shared.counts_tokens && !shown.of(Metric::TotalTokens).is_zero() {
        if !estimate.is_of_any_size() {
            cx.log(Field::EstimatedInputTokens, shown.input_tokens);
        }
        cx.log(Field::ReservedOutputTokens, shown.output_tokens);
    }
}

/// Logs once per model what it costs under limits on cost, because the configuration has no price for it.
fn warn_of_missing_price<S: SharedData>(reservation: &Reservation, models: &Candidates, cx: &mut Cx<'_, S>) {
    let has_budget = reservation.lines.iter().any(|line| line.applied.limit.metric == Metric::CostUsd);
    for model in models.names() {
        if has_budget && cx.config.price(Some(model)).is_none() && cx.shared.without_price.insert(Some(model))
        {
            let cost = match cx.config.accounting().prices.unpriced {
                Unpriced::Dearest => "as much as those of the dearest model in prices",
                Unpriced::Free => "nothing",
            };
            log::warn!(
                "prices: no price for model \"{model}\", so its requests cost {cost} under limits on cost_usd"
            );
        }
    }
}
