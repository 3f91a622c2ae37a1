//! From a request's headers to its reservation: who sends it, which limits apply, and what it is expected to cost.
//! [`super::admission`] makes the reservation.

use super::admission::reserve;
use super::context::Cx;
use super::effects::Directive;
use super::reservation::{Estimate, Reservation};
use super::{RequestFacts, Session};
use crate::answer::refusal::Refusal;
use crate::codec::content_encoding;
use crate::config::{AcceptEncoding, Messages, OutputMode, StreamUsage};
use crate::identity::{self, RequestView};
use crate::policy::limit::Metric;
use crate::policy::{Access, Subject};
use crate::pricing::Tokens;
use crate::quantity::{Millis, Units};
use crate::request::{self, Body, Endpoint, Request};
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::stats::Stat;
use crate::tokens::Meter;
use std::borrow::Cow;

/// A request that has shown its headers and not yet its whole body.
#[derive(Debug)]
pub struct AwaitBody {
    endpoint: Endpoint,
    /// The deployment that the path names.
    deployment: Option<String>,
    /// The identity, with its limits.
    subject: Subject,
    /// The header `accept-language`, if refusals depend on it.
    languages: Option<String>,
    /// Whether the filter still holds the headers.
    headers_held: bool,
    /// When to release the headers if no body comes.
    release_at: Option<Millis>,
}

/// Finds out from the headers whether a request is limited, and whether its body must be read before it is admitted.
pub(super) fn begin<S: SharedData>(
    request: &dyn RequestView,
    end_of_stream: bool,
    cx: &mut Cx<'_, S>,
) -> Session {
    let path = request.header(":path").unwrap_or_default();
    let is_post = request.header(":method").as_deref() == Some("POST");
    let Some(endpoint) = Endpoint::from_path(&path).filter(|_| is_post) else { return Session::Idle };
    let identity = identity::find(cx.config.sources(), request);
    let subject = match cx.config.access(identity.as_ref()) {
        Access::Unlimited => return Session::Idle,
        Access::Rejected => {
            reject(endpoint, cx);
            return Session::Idle;
        }
        Access::Limited(subject) => subject,
    };
    narrow_accept_encoding(request, cx);
    let varies = cx.config.messages().is_some_and(Messages::differ);
    let languages = varies.then(|| request.header("accept-language")).flatten();
    if end_of_stream || !subject.needs_body() {
        let facts = RequestFacts::unread(endpoint, languages);
        return admit(&subject, facts, Estimate::REQUEST, cx);
    }
    let headers_held = cx.shared.headers_mode.holds();
    cx.direct(if headers_held { Directive::Pause } else { Directive::Continue });
    Session::AwaitBody(AwaitBody {
        endpoint,
        deployment: request::deployment(&path),
        subject,
        languages,
        headers_held,
        release_at: if headers_held { cx.shared.headers_mode.release_at(cx.now) } else { None },
    })
}

/// Refuses a request of an unknown identity, unless the configuration is a dry run.
fn reject<S: SharedData>(endpoint: Endpoint, cx: &mut Cx<'_, S>) {
    cx.count(Stat::UnknownIdentity, 1);
    cx.log(Field::Decision, "unknown_identity");
    if !cx.config.dry_run() {
        cx.refuse(&Refusal::UnknownIdentity, endpoint, None);
    }
}

/// Removes from `accept-encoding` the codings that the filter cannot decode, if it must read the response.
fn narrow_accept_encoding<S: SharedData>(request: &dyn RequestView, cx: &mut Cx<'_, S>) {
    let narrows = cx.shared.counts_tokens && cx.config.accounting().accept_encoding == AcceptEncoding::Narrow;
    let accepted = if narrows { request.header("accept-encoding") } else { None };
    let narrowed = accepted.and_then(|accepted| content_encoding::narrowed(&accepted));
    cx.effects.headers.set.extend(narrowed.map(|encodings| ("accept-encoding", encodings)));
}

impl AwaitBody {
    /// When to release the headers.
    pub(super) const fn due(&self) -> Option<Millis> {
        self.release_at
    }

    /// Releases headers that no body has followed in time.
    pub(super) fn release_held_headers<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Self {
        let releases = self.headers_held && cx.shared.headers_mode.releases();
        if releases {
            cx.shared.headers_mode = cx.shared.headers_mode.after_release();
            cx.direct(Directive::Continue);
        }
        Self { headers_held: self.headers_held && !releases, release_at: None, ..self }
    }

    /// Waits for the end of the body, then reads all of it from `buffer`.
    pub(super) fn read<S: SharedData>(
        self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        if self.headers_held {
            cx.shared.headers_mode = cx.shared.headers_mode.after_body();
        }
        if end_of_stream {
            return self.read_whole(&buffer(), cx);
        }
        cx.direct(Directive::Pause);
        Session::AwaitBody(Self { release_at: None, ..self })
    }

    fn read_whole<S: SharedData>(self, bytes: &[u8], cx: &mut Cx<'_, S>) -> Session {
        let body = Body::new(bytes);
        let request = Request::read(self.endpoint, &body).to_deployment(self.deployment.as_deref());
        let estimate = estimate(&request, &self.subject, cx);
        if self.must_inject(&request, cx) {
            cx.effects.body = request::inject_include_usage(bytes, request.has_stream_options);
        }
        let hides_usage = cx.effects.body.is_some();
        if self.headers_held && request.stream && cx.stream_edits(hides_usage).any() {
            // A compressed stream cannot be edited.
            cx.effects.headers.set.push(("accept-encoding", "identity".to_owned()));
        }
        let facts = RequestFacts {
            endpoint: self.endpoint,
            languages: self.languages,
            choices: request.choices(),
            answers: request.answers(),
            hides_usage,
            model: request.model.map(Cow::into_owned),
        };
        admit(&self.subject, facts, estimate, cx)
    }

    /// Whether to request the usage of a stream for which the client did not request it.
    fn must_inject<S>(&self, request: &Request<'_>, cx: &Cx<'_, S>) -> bool {
        cx.shared.counts_tokens
            && cx.config.accounting().stream_usage == StreamUsage::Inject
            && matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
            && self.headers_held
            && request.stream
            && request.is_json
            && !request.include_usage
    }
}

/// Estimates the cost of `request`, which `subject` sent.
fn estimate<S: SharedData>(request: &Request<'_>, subject: &Subject, cx: &Cx<'_, S>) -> Estimate {
    if !cx.shared.counts_tokens {
        return Estimate::REQUEST;
    }
    let accounting = cx.config.accounting();
    let model = request.model.as_deref();
    let default = accounting.default_output_tokens;
    let guess = || match accounting.output_mode {
        OutputMode::Declared => default,
        OutputMode::Learned => cx.shared.learned.expect(model, default),
        OutputMode::None => 0,
    };
    let cap = request.output_cap().filter(|_| accounting.output_mode != OutputMode::None);
    let output = cap.unwrap_or_else(|| guess().saturating_mul(request.answers()));
    let max = max_input(subject, model);
    let weighed =
        |input| accounting.weights.weigh(model, &Tokens { input, ..Tokens::default() }).input_tokens;
    let is_enough = |input| max.is_some_and(|max| Units::from(weighed(input)) > max);
    let meter = Meter::new(cx.config.encodings().tokenizer(model), &is_enough);
    let tokens = Tokens { input: request.input_tokens(&meter), ..Tokens::default() };
    Estimate {
        tokens,
        base: cx.cost(model, &tokens),
        full: cx.cost(model, &Tokens { output, ..tokens }),
        is_guess: cap.is_none(),
        is_partial: meter.has_stopped(),
    }
}

/// The largest input with which a request of `subject` for `model` is ever admitted; none if nothing bounds it.
fn max_input(subject: &Subject, model: Option<&str>) -> Option<Units> {
    let bounds = subject.limits(model).filter(|applied| {
        !applied.dry_run && matches!(applied.limit.metric, Metric::InputTokens | Metric::TotalTokens)
    });
    bounds.map(|applied| applied.limit.window.capacity(applied.limit.amount)).min()
}

/// Reserves the `estimate` under the limits of `subject`. Forwards the request if none apply.
fn admit<S: SharedData>(
    subject: &Subject,
    facts: RequestFacts,
    estimate: Estimate,
    cx: &mut Cx<'_, S>,
) -> Session {
    let model = facts.model.as_deref();
    let id = cx.shared.reservation_id();
    let reservation = Reservation::new(id, subject.name(), subject.limits(model), estimate);
    if reservation.lines.is_empty() {
        cx.direct(Directive::Continue);
        return Session::Idle;
    }
    log_estimate(&reservation, model, cx);
    warn_of_missing_price(&reservation, model, cx);
    reserve(reservation, facts, cx)
}

fn log_estimate<S: SharedData>(reservation: &Reservation, model: Option<&str>, cx: &mut Cx<'_, S>) {
    let name = reservation.name.as_deref().map(|name| (Field::Name, name));
    let model = model.map(|model| (Field::Model, model));
    for (field, value) in name.into_iter().chain(model) {
        cx.log(field, value);
    }
    if cx.shared.counts_tokens {
        cx.log(Field::EstimatedInputTokens, reservation.estimate.full.input_tokens);
        cx.log(Field::ReservedOutputTokens, reservation.estimate.full.output_tokens);
    }
}

/// Logs once per model that limits on cost do not limit it, because the configuration has no price for it.
fn warn_of_missing_price<S: SharedData>(reservation: &Reservation, model: Option<&str>, cx: &mut Cx<'_, S>) {
    let has_budget = reservation.lines.iter().any(|line| line.applied.limit.metric == Metric::CostUsd);
    if has_budget && cx.config.price(model).is_none() && cx.shared.unpriced.insert(model) {
        let model = model.unwrap_or("none");
        log::warn!(
            "prices: no price for model {model:?}, so its requests cost nothing under limits on cost_usd"
        );
    }
}
