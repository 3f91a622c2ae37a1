//! Requests that go on although they are over a limit: for another model, or with a header by which Envoy chooses
//! another route.
//!
//! A request that may have to go on for another model is quoted for that one too when its body is read, for nobody
//! keeps the body. It is reserved for the model that it names first, and limits that let it fall back refuse it then,
//! so that nothing is charged; if one of them does, it is reserved for the other model. That happens once: limits that
//! would let it go on for a third model refuse it.

use super::RequestFacts;
use super::arrival::AwaitBody;
use super::context::Cx;
use super::estimate::{self, CountText};
use super::output_cap::Output;
use super::reading::MAX_AT_ONCE;
use super::reservation::{AtLimit, Estimate, Reservation};
use crate::answer::units::amount;
use crate::policy::on_limit::Continuation;
use crate::policy::status::LimitStatus;
use crate::policy::{Candidates, Subject};
use crate::request::{BodyEdit, Request, model_edit};
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::Count;
use std::sync::Arc;

/// What may still be changed of a request that is about to be reserved.
#[derive(Debug, Default)]
pub(super) struct Leeway {
    /// Whether its headers are still here.
    pub(super) has_headers: bool,
    /// The models that it may be for instead.
    pub(super) others: Vec<Other>,
}

/// Another model that a request may be for.
#[derive(Debug)]
pub(super) struct Other {
    model: Arc<str>,
    /// The change that makes its body name the model.
    edit: BodyEdit,
    /// What the request costs for it.
    estimate: Estimate,
}

/// A request as it goes on for another model.
#[derive(Clone, Debug)]
pub(super) struct Fallback {
    pub(super) model: Arc<str>,
    pub(super) edit: BodyEdit,
    pub(super) reservation: Reservation,
    pub(super) facts: RequestFacts,
}

/// A limit over which a request goes on.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    /// Its status.
    pub(super) status: LimitStatus,
    /// How the request goes on.
    pub(super) how: Arc<Continuation>,
}

impl Leeway {
    /// Nothing has been sent on of the request, and its body is not read.
    pub(super) const HEADERS: Self = Self { has_headers: true, others: Vec::new() };

    /// What a limit that lets a request for one of `models` go on does with it.
    pub(super) fn at_limit(&self, how: &Continuation, models: &Candidates) -> AtLimit {
        let Some(model) = how.model.as_ref().filter(|_| self.has_headers) else {
            return if self.has_headers { AtLimit::Continue } else { AtLimit::Refuse };
        };
        if models.one() == Some(model) {
            AtLimit::Continue
        } else if self.others.iter().any(|other| other.model == *model) {
            AtLimit::FallBack
        } else {
            AtLimit::Refuse
        }
    }

    /// The request of `subject` with these `facts` for each of the other models; `reserve` makes the reservation.
    pub(super) fn fallbacks(
        self,
        subject: &Subject,
        facts: &RequestFacts,
        mut reserve: impl FnMut(&Subject, &RequestFacts, Estimate) -> Reservation,
    ) -> Vec<Fallback> {
        let of = |Other { model, edit, estimate }: Other| {
            let mut facts = RequestFacts { models: Some(&*model).into(), ..facts.clone() };
            if let Some(asked) = &mut facts.asked {
                asked.destination.model = model.to_string();
            }
            let reservation =
                reserve(subject, &facts, estimate).continuing(|how| at_second_limit(how, &model));
            Fallback { model, edit, reservation, facts }
        };
        self.others.into_iter().map(of).collect()
    }
}

/// What a limit that lets a request go on does with one that has fallen back to `model`: to another it does not.
fn at_second_limit(how: &Continuation, model: &str) -> AtLimit {
    match &how.model {
        Some(other) if **other != *model => AtLimit::Refuse,
        _ => AtLimit::Continue,
    }
}

impl AwaitBody {
    /// The other models that a `request` for one of `models` with this `output` may be for, if its body, `bytes`, can
    /// be changed. `count` counts its text.
    pub(super) fn others<S: SharedData>(
        &self,
        request: &Request<'_>,
        models: &Candidates,
        output: &Output,
        count: &CountText<'_>,
        bytes: Option<&[u8]>,
        cx: &Cx<'_, S>,
    ) -> Vec<Other> {
        let mut others = Vec::new();
        let is_changeable = |body: &&[u8]| {
            let can_change = self.may_change_body() && self.deployed().is_none();
            can_change && body.len() <= MAX_AT_ONCE && request.has_content() && request.is_plain()
        };
        let body = bytes.filter(|_| cx.config.falls_back()).filter(is_changeable);
        let (Some(body), Some(named)) = (body, models.one()) else { return others };
        for model in self.subject.other_models(models).into_iter().filter(|model| **model != *named) {
            let candidates = Candidates::from(Some(&*model));
            let is_forbidden = self.subject.forbidden(&candidates).is_some_and(|it| !it.dry_run);
            let (its_output, objections) = Output::decide(&self.subject, request, &candidates, bytes);
            let has_same_output = its_output == *output && objections.enforced.is_none();
            if is_forbidden || !has_same_output {
                continue;
            }
            if let Some(edit) = edit_after(cx.effects.body.as_ref(), body, &model) {
                let estimate = estimate::of_request(request, output, &candidates, &self.subject, count, cx);
                others.push(Other { model, edit, estimate });
            }
        }
        others
    }
}

/// The edit that makes `model` the model of `body` once the `earlier` edit is made.
fn edit_after(earlier: Option<&BodyEdit>, body: &[u8], model: &str) -> Option<BodyEdit> {
    let Some(BodyEdit { replaced, with, .. }) = earlier else { return model_edit(body, model) };
    if *replaced == body.len() {
        return model_edit(with, model);
    }
    let edit = model_edit(body, model)?;
    let after = edit.after.checked_sub(*replaced)?.checked_add(with.len())?;
    Some(BodyEdit { after, ..edit })
}

/// The other models that requests of `subject` for one of `models` may be for.
pub(super) fn other_models<S: SharedData>(
    subject: &Subject,
    models: &Candidates,
    cx: &Cx<'_, S>,
) -> Vec<Candidates> {
    if !cx.config.falls_back() {
        return Vec::new();
    }
    subject.other_models(models).iter().map(|model| Some(&**model).into()).collect()
}

/// Lets a request go on over the limits that it has `passed`: it gets their headers, and the log and metrics show them.
pub(super) fn go_on<S: SharedData>(passed: &[Passed], cx: &mut Cx<'_, S>) {
    let Some(Passed { status: first, .. }) = passed.first() else { return };
    let metric = first.limit.metric;
    cx.log(Field::Reason, "over_limit");
    cx.log(Field::Limit, first.label());
    cx.log(Field::Used, amount(metric, first.state.used));
    cx.log(Field::LimitAmount, amount(metric, first.capacity()));
    for Passed { status, how } in passed {
        let (owner, window) = (status.owner.kind(), status.limit.window.label());
        cx.count(Count::Continued { owner, metric: status.limit.metric, window });
        let routes = &mut cx.effects.amended.routes;
        if let Some(header) = &how.header
            && !routes.iter().any(|(name, value)| *name == header.name && value.is_some())
        {
            routes.push((Arc::clone(&header.name), Some(Arc::clone(&header.value))));
        }
    }
}
