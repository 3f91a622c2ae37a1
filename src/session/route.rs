//! From a request's headers to its way through the filter: whether limits apply to it, who sends it, and whether its
//! body must be read before it is admitted. [`super::arrival`] reads bodies.

use super::admission::reserve;
use super::arrival::{self, AwaitBody};
use super::context::Cx;
use super::effects::Directive;
use super::inspection;
use super::reservation::{Estimate, Reservation};
use super::{RequestFacts, Session};
use crate::answer::refusal::Refusal;
use crate::codec::{content_encoding, media_type};
use crate::config::{AcceptEncoding, Messages, WebSocket};
use crate::identity::RequestView;
use crate::policy::endpoints::{Route, Treatment};
use crate::policy::{Access, Candidates, Subject};
use crate::request::{self, Endpoint};
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, SenderLabels, Verdict};

/// The way of a request whose sender is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It passes, whoever sends it.
    Pass,
    /// It passes, unless its sender is rejected.
    PassKnown,
    /// It is answered 403 where limits are enforced.
    Reject,
    /// It is answered 426 where limits apply and are enforced.
    RefuseWebSocket,
    /// It is a request and a slot, and nobody sees what is sent in it.
    CountConnection,
    /// It is a request and a slot that uses no tokens.
    CountRequest,
    /// Its body is read in its format, or by its size.
    Read,
}

/// Decides from the headers how the request goes on.
pub(super) fn begin<S: SharedData>(
    request: &dyn RequestView,
    end_of_stream: bool,
    cx: &mut Cx<'_, S>,
) -> Session {
    let method = request.header(":method").unwrap_or_default();
    let path = request.header(":path").unwrap_or_default();
    if let Some(reply) = inspection::answer(request, &method, &path, cx) {
        cx.not_limited("path");
        cx.direct(Directive::Reply(reply));
        return Session::Idle;
    }
    let route = cx.config.endpoints().route(&path);
    let websocket = request::wants_websocket(request).then(|| cx.config.websocket());
    let way = way(&method, route.treatment, websocket);
    if way == Way::Pass || (way == Way::PassKnown && !cx.config.rejects_strangers()) {
        return pass(request, &method, &path, cx);
    }
    let identity = cx.config.identity(request);
    let access = cx.config.access(identity.as_ref());
    let subject = match access {
        Access::Rejected => {
            if let Some(identity) = &identity {
                cx.log(Field::Id, cx.config.store_id(identity));
            }
            reject(route.endpoint, cx);
            return Session::Idle;
        }
        // A closed endpoint is closed to all who are not exempt, even if no limit is for them.
        Access::Unlimited if way == Way::Reject && !cx.config.exempts(identity.as_ref()) => {
            let subject = cx.config.unlimited(identity.as_ref());
            cx.log_sender(&subject);
            let (endpoint, dry_run) = (route.endpoint, cx.config.dry_run());
            refuse_unless_dry_run(&Refusal::ClosedEndpoint, &subject, endpoint, None, dry_run, cx);
            return Session::Idle;
        }
        _ if way == Way::PassKnown => return pass(request, &method, &path, cx),
        Access::Unlimited if cx.config.meters() && way == Way::Read => cx.config.unlimited(identity.as_ref()),
        Access::Unlimited => {
            let is_exempt = cx.config.exempts(identity.as_ref());
            cx.not_limited(if is_exempt { "unlimited_key" } else { "no_limit_applies" });
            if cx.config.meters() {
                cx.log_sender(&cx.config.unlimited(identity.as_ref()));
            }
            return Session::Idle;
        }
        Access::Limited(subject) => subject,
    };
    Arrival { request, end_of_stream, route, subject }.follow(way, cx)
}

/// Lets a request pass. If it asks for an earlier response and tokens are limited, the answer may report what that has
/// used, whoever asks.
fn pass<S: SharedData>(request: &dyn RequestView, method: &str, path: &str, cx: &mut Cx<'_, S>) -> Session {
    let by_method = matches!(method, "GET" | "HEAD" | "OPTIONS");
    cx.not_limited(if by_method { "method" } else { "path" });
    if !cx.shared.limits_tokens || !cx.config.endpoints().is_of_a_response(method, path) {
        return Session::Idle;
    }
    narrow_accept_encoding(request, cx);
    Session::Asking
}

/// The way of a request with `method`. `websocket`: what to do with its WebSocket, if it wants one.
fn way(method: &str, treatment: Treatment, websocket: Option<WebSocket>) -> Way {
    // The methods of a handshake, and those that pass otherwise. Every other method is a request as any other, even if
    // it wants a WebSocket: servers that know none answer it all the same.
    let is_safe = matches!(method, "GET" | "HEAD" | "OPTIONS");
    // docs/envoy.md#upgrades: what is left of this method is a tunnel, for anything.
    let is_connect = method == "CONNECT";
    let is_llm = matches!(treatment, Treatment::Format | Treatment::Realtime);
    match (treatment, websocket) {
        (Treatment::Pass, _) => Way::Pass,
        (_, None) if method == "OPTIONS" => Way::Pass,
        (Treatment::Reject, _) => Way::Reject,
        (_, Some(WebSocket::Refuse)) if is_llm => Way::RefuseWebSocket,
        (Treatment::Health, Some(_)) if is_safe => Way::Pass,
        (_, Some(_)) if is_safe => Way::CountConnection,
        _ if is_connect => Way::CountConnection,
        (Treatment::Health, None) if matches!(method, "GET" | "HEAD") => Way::Pass,
        (_, None) if is_safe => Way::PassKnown,
        (Treatment::Free, _) => Way::PassKnown,
        (Treatment::WithoutTokens, _) => Way::CountRequest,
        _ => Way::Read,
    }
}

/// A request of a limited sender.
struct Arrival<'a> {
    request: &'a dyn RequestView,
    /// Whether nothing follows the headers.
    end_of_stream: bool,
    route: Route,
    subject: Subject,
}

impl Arrival<'_> {
    fn follow<S: SharedData>(self, way: Way, cx: &mut Cx<'_, S>) -> Session {
        match way {
            Way::Pass | Way::PassKnown => Session::Idle,
            Way::Reject => {
                // Where there is no limit, nothing is in a dry run but everything.
                let dry_run =
                    cx.config.dry_run() || (self.subject.is_limited() && !self.subject.is_enforced());
                if self.refuses(&Refusal::ClosedEndpoint, dry_run, cx) {
                    return Session::Idle;
                }
                self.read(cx)
            }
            Way::RefuseWebSocket if !self.subject.is_limited() => self.not_limited(cx),
            Way::RefuseWebSocket => {
                let dry_run = !self.subject.is_enforced();
                if self.refuses(&Refusal::WebSocket, dry_run, cx) {
                    return Session::Idle;
                }
                self.count_connection(cx)
            }
            Way::CountConnection => self.count_connection(cx),
            Way::CountRequest => self.count_request(cx),
            Way::Read => self.read(cx),
        }
    }

    /// Refuses the request for what it is, unless that is in a dry run. Returns whether it did.
    fn refuses<S: SharedData>(&self, refusal: &Refusal, dry_run: bool, cx: &mut Cx<'_, S>) -> bool {
        let is_refused =
            refuse_unless_dry_run(refusal, &self.subject, self.route.endpoint, None, dry_run, cx);
        if is_refused {
            cx.log_sender(&self.subject);
        }
        is_refused
    }

    /// Forwards a request that no limit applies to.
    fn not_limited<S: SharedData>(&self, cx: &mut Cx<'_, S>) -> Session {
        cx.not_limited("no_limit_applies");
        if cx.config.meters() {
            cx.log_sender(&self.subject);
        }
        Session::Idle
    }

    /// Reserves a request and a slot for a connection, under every limit that its sender has: what is sent in it may
    /// use what the others are on.
    fn count_connection<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let models = self.deployed().unwrap_or(Candidates::UNKNOWN);
        let facts = RequestFacts { spends_tokens: false, models, ..self.unread(cx) };
        arrival::admit(&self.subject, facts, Estimate::REQUEST, cx)
    }

    /// Reserves a request and a slot. Limits on tokens and on cost do not apply.
    fn count_request<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let facts = RequestFacts { spends_tokens: false, ..self.unread(cx) };
        let limits =
            self.subject.limits(&facts.models).filter(|applied| !applied.limit.metric.needs_tokens());
        let id = cx.shared.reservation_id();
        let reservation = Reservation::new(id, self.subject.name(), limits, Estimate::REQUEST)
            .bounded(self.subject.max_new_identities())
            .of_request(facts.request_id.clone())
            .under(cx.config.accounting());
        if reservation.lines.is_empty() {
            return self.not_limited(cx);
        }
        cx.log_sender(&self.subject);
        reserve(reservation, facts, cx)
    }

    /// Reads the body if the cost depends on it, and reserves a request otherwise. A body without a format is read only
    /// if it is JSON: others may be large, or never end.
    fn read<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        narrow_accept_encoding(self.request, cx);
        let Self { request, end_of_stream, ref route, ref subject } = self;
        let is_readable = route.endpoint.has_format()
            || request.header("content-type").is_some_and(|types| media_type::is_json(&types));
        let needs_body = subject.needs_body() || cx.config.meters();
        if end_of_stream || !needs_body || !is_readable {
            let facts = self.unread(cx);
            return arrival::admit(&self.subject, facts, Estimate::REQUEST, cx);
        }
        let languages = self.languages(cx);
        AwaitBody::begin(self.request, self.route, self.subject, languages, cx)
    }

    /// The facts of the request without its body: of the model, only what the path says.
    fn unread<S: SharedData>(&self, cx: &Cx<'_, S>) -> RequestFacts {
        let labels = cx.labels(&self.subject);
        let facts =
            RequestFacts::unread(self.route.endpoint, self.subject.sender(), labels, self.languages(cx));
        let facts = RequestFacts { request_id: cx.request_id(self.request), ..facts };
        match self.deployed() {
            Some(models) => RequestFacts { models, ..facts },
            None => facts,
        }
    }

    /// The model that the path names.
    fn deployed(&self) -> Option<Candidates> {
        self.route.deployment.clone().map(Candidates::One)
    }

    /// The header `accept-language`, if refusals depend on it.
    fn languages<S: SharedData>(&self, cx: &Cx<'_, S>) -> Option<String> {
        let varies = cx.config.messages().is_some_and(Messages::differ);
        varies.then(|| self.request.header("accept-language")).flatten()
    }
}

/// Refuses a request of an unknown identity, unless the configuration is a dry run.
fn reject<S: SharedData>(endpoint: Endpoint, cx: &mut Cx<'_, S>) {
    let (sender, decision) = (SenderLabels::default(), Verdict::UnknownIdentity);
    if cx.config.dry_run() {
        cx.log(Field::Decision, decision.name());
        cx.count(Count::DryRunRequests { sender, decision });
    } else {
        cx.decide(decision, sender);
        cx.refuse(&Refusal::UnknownIdentity, endpoint, None);
    }
}

/// Refuses a request of `subject` for what it is. In a dry run, only counts and logs that, and returns false.
pub(super) fn refuse_unless_dry_run<S: SharedData>(
    refusal: &Refusal,
    subject: &Subject,
    endpoint: Endpoint,
    languages: Option<&str>,
    dry_run: bool,
    cx: &mut Cx<'_, S>,
) -> bool {
    let reason = refusal.reason().unwrap_or_default();
    let (sender, decision) = (cx.labels(subject), Verdict::Refused);
    if dry_run {
        cx.count(Count::DryRunRequests { sender, decision });
        cx.log(Field::DryRun, reason);
        return false;
    }
    cx.decide(decision, sender);
    cx.count(Count::Refused { reason });
    cx.log(Field::Reason, reason);
    cx.refuse(refusal, endpoint, languages);
    true
}

/// Removes from `accept-encoding` the codings that the filter cannot decode, if it must read the response.
fn narrow_accept_encoding<S: SharedData>(request: &dyn RequestView, cx: &mut Cx<'_, S>) {
    let narrows = cx.shared.counts_tokens && cx.config.accounting().accept_encoding == AcceptEncoding::Narrow;
    let accepted = if narrows { request.header("accept-encoding") } else { None };
    let narrowed = accepted.and_then(|accepted| content_encoding::narrowed(&accepted));
    cx.effects.headers.set.extend(narrowed.map(|encodings| ("accept-encoding", encodings)));
}
