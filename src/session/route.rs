//! From a request's headers to its way through the filter: whether limits apply to it, who sends it, and whether its
//! body must be read before it is admitted. [`super::arrival`] reads bodies.

use super::admission::reserve;
use super::arrival::{self, AwaitBody};
use super::context::Cx;
use super::effects::Directive;
use super::fall_back::Leeway;
use super::inspection;
use super::reservation::{Estimate, Reservation};
use super::sorting::{Sorted, Way, sort};
use super::{RequestFacts, Session};
use crate::answer::refusal::Refusal;
use crate::codec::{content_encoding, media_type};
use crate::config::{AcceptEncoding, Messages};
use crate::identity::{ReadOnce, RequestView};
use crate::policy::endpoints::Route;
use crate::policy::{Candidates, Claims, Subject};
use crate::request::Endpoint;
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, SenderLabels, Unlimited, Verdict};
use std::sync::Arc;

/// Why a request has the limits that it has, in the access log: it did not say its own.
const UNKNOWN_PLAN: &str = "unknown_plan";

/// Decides from the headers how the request goes on.
pub(super) fn begin<S: SharedData>(
    request: &dyn RequestView,
    end_of_stream: bool,
    cx: &mut Cx<'_, S>,
) -> Session {
    // Whoever sets them decides on the route.
    let routes = cx.config.route_headers().iter().map(|name| (Arc::clone(name), None));
    cx.effects.amended.routes.extend(routes);
    let method = request.header(":method").unwrap_or_default();
    let path = request.header(":path").unwrap_or_default();
    let with_path = WithPath { request, path: &path };
    let once = ReadOnce::new(&with_path);
    let sender: &dyn RequestView = if cx.config.asks_requests() { &once } else { &with_path };
    let (route, way, subject) = match sort(sender, &method, &path, cx.config, || cx.config.identity(sender)) {
        Sorted::Inspected => {
            cx.read_clock();
            cx.not_limited(Unlimited::Path);
            cx.direct(Directive::Reply(inspection::answer(request, &method, cx)));
            return Session::Idle;
        }
        Sorted::Passes(reason) => return pass(request, &method, &path, reason, cx),
        Sorted::Rejected { route, identity } => {
            if let Some(identity) = &identity {
                cx.log(Field::Id, cx.config.store_id(identity));
            }
            return reject(route.endpoint, cx);
        }
        Sorted::Closed { route, subject } => return close(&route, &subject, cx),
        Sorted::Exempt { route, way: Way::Read, identity, .. } if cx.config.meters() => {
            (route, Way::Read, cx.config.unlimited(identity.as_ref()))
        }
        Sorted::Exempt { identity, reason, .. } => {
            // To know the sender takes a hash, so only whoever wants to see it pays.
            if cx.config.meters() || cx.config.metrics_by_name() {
                let subject = cx.config.unlimited(identity.as_ref());
                cx.not_limited_of(&subject, reason);
                if cx.config.meters() {
                    cx.log_sender(&subject);
                }
            } else {
                cx.not_limited(reason);
            }
            return cx.pass();
        }
        Sorted::Limited { route, way, subject } => (route, way, subject),
    };
    if subject.claims().is_some_and(Claims::misses) {
        // What becomes of the request is a better reason, if there is one.
        cx.log(Field::Reason, UNKNOWN_PLAN);
    }
    cx.read_clock();
    Arrival { request, end_of_stream, route, subject }.follow(way, cx)
}

/// Lets a request pass. If it asks for an earlier response and tokens are limited, the answer may report what that has
/// used, whoever asks.
fn pass<S: SharedData>(
    request: &dyn RequestView,
    method: &str,
    path: &str,
    reason: Unlimited,
    cx: &mut Cx<'_, S>,
) -> Session {
    cx.not_limited(reason);
    if !cx.shared.limits_tokens || !cx.config.endpoints().is_of_a_response(method, path) {
        return cx.pass();
    }
    narrow_accept_encoding(request, cx);
    Session::Asking
}

/// A request whose path was read: a source of identity may need it again, and reading it costs an entry into the VM.
struct WithPath<'a> {
    request: &'a dyn RequestView,
    path: &'a str,
}

impl RequestView for WithPath<'_> {
    fn header(&self, name: &str) -> Option<String> {
        if name == ":path" { Some(self.path.to_owned()) } else { self.request.header(name) }
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.request.property(path)
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
        if let Some((refusal, dry_run)) = way.refusal(&self.subject, cx.config)
            && self.refuses(&refusal, dry_run, cx)
        {
            return Session::Idle;
        }
        match way {
            Way::Pass | Way::PassKnown => cx.pass(),
            Way::RefuseWebSocket if !self.subject.is_limited() => self.not_limited(cx),
            Way::RefuseWebSocket | Way::CountConnection => self.count_connection(cx),
            Way::CountRequest => self.count_request(cx),
            Way::Reject | Way::Read => self.read(cx),
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
        cx.not_limited_of(&self.subject, Unlimited::NoLimitApplies);
        if cx.config.meters() {
            cx.log_sender(&self.subject);
        }
        cx.pass()
    }

    /// Reserves a request and a slot for a connection, under every limit that its sender has: what is sent in it may
    /// use what the others are on.
    fn count_connection<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let models = self.deployed().unwrap_or(Candidates::UNKNOWN);
        let facts = RequestFacts { spends_tokens: false, models, ..self.unread(cx) };
        arrival::admit(&self.subject, facts, Estimate::REQUEST, Leeway::HEADERS, cx)
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
            .under(cx.config.accounting())
            .continuing(|how| Leeway::HEADERS.at_limit(how, &facts.models));
        if reservation.lines.is_empty() {
            return self.not_limited(cx);
        }
        cx.log_sender(&self.subject);
        reserve(reservation, facts, Vec::new(), cx)
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
            let types = request.header("content-type").unwrap_or_default();
            let may_name_model = !end_of_stream && !is_readable && !media_type::is_no_text(&types);
            // A server that does not mind the type may read JSON in it.
            if may_name_model && arrival::refuses_model(subject, &Candidates::UNKNOWN, &facts, cx) {
                return Session::Idle;
            }
            return arrival::admit(&self.subject, facts, Estimate::REQUEST, Leeway::HEADERS, cx);
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
        self.route.deployment.clone()
    }

    /// The header `accept-language`, if refusals depend on it.
    fn languages<S: SharedData>(&self, cx: &Cx<'_, S>) -> Option<String> {
        let varies = cx.config.messages().is_some_and(Messages::differ);
        varies.then(|| self.request.header("accept-language")).flatten()
    }
}

/// Refuses a request of an unlimited sender to a closed endpoint, unless the configuration is a dry run.
fn close<S: SharedData>(route: &Route, subject: &Subject, cx: &mut Cx<'_, S>) -> Session {
    cx.log_sender(subject);
    let dry_run = cx.config.dry_run();
    if refuse_unless_dry_run(&Refusal::ClosedEndpoint, subject, route.endpoint, None, dry_run, cx) {
        return Session::Idle;
    }
    cx.not_limited_of(subject, Unlimited::NoLimitApplies);
    cx.pass()
}

/// Refuses a request of an unknown identity, unless the configuration is a dry run.
fn reject<S: SharedData>(endpoint: Endpoint, cx: &mut Cx<'_, S>) -> Session {
    let (sender, decision) = (SenderLabels::default(), Verdict::UnknownIdentity);
    if cx.config.dry_run() {
        cx.log(Field::DryRun, decision.name());
        cx.count(Count::DryRunRequests { sender, decision });
        cx.not_limited(Unlimited::NoLimitApplies);
        return cx.pass();
    }
    cx.decide(decision, sender);
    cx.refuse(&Refusal::UnknownIdentity, endpoint, None);
    Session::Idle
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
