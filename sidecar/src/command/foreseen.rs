//! What would become of a request: the filter's own rules sort it, by its headers, and read its body.

use super::Failure;
use super::presented::View;
use llm_rate_limit::answer::refusal::{BadBody, Refusal};
use llm_rate_limit::answer::{Dialect, Wording};
use llm_rate_limit::config::{Config, HeadersMode};
use llm_rate_limit::identity::{Identity, RequestView as _};
use llm_rate_limit::policy::Subject;
use llm_rate_limit::policy::endpoints::Route;
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::request::Endpoint;
use llm_rate_limit::session::quote::{Due, Quote, decoded};
use llm_rate_limit::session::sorting::{Sorted, Way, has_sealed_body, refuses_body, sort};
use llm_rate_limit::telemetry::series::Unlimited;
use serde_json::Value;

/// What a request says beside its headers.
pub(super) struct Asked {
    /// Its sender, if it shows one.
    pub(super) identity: Option<Identity>,
    pub(super) body: Option<Vec<u8>>,
    /// The model that it names, where no body does.
    pub(super) model: Option<String>,
    /// Whether it may be for any path of an LLM.
    pub(super) is_of_any_path: bool,
}

/// What would become of a request.
pub(super) struct Foreseen {
    pub(super) outcome: Outcome,
    /// The model that it is for, if that is known.
    pub(super) model: Option<String>,
    /// What else there is to say.
    pub(super) notes: Vec<String>,
    /// Whether what its path says of requests is said of it.
    pub(super) is_as_its_path: bool,
}

/// What the filter does with a request.
pub(super) enum Outcome {
    /// It answers, about itself.
    Inspected,
    /// It lets it pass.
    Passes(Unlimited),
    /// Nothing limits the sender.
    Unlimited,
    /// It answers it with an error.
    Refused(Answered),
    /// It charges it.
    Counted { subject: Subject, due: Box<Due> },
}

/// An answer that refuses a request.
pub(super) struct Answered {
    pub(super) status: u32,
    /// Why it is refused for what it is; none if its sender is unknown.
    pub(super) reason: Option<&'static str>,
    message: String,
}

impl Answered {
    fn new(refusal: &Refusal, endpoint: Endpoint, config: &Config) -> Self {
        let dialect = Dialect { headers: config.headers(), endpoint };
        let reply = refusal.reply(&Wording { message: None, dialect, now: Millis::ZERO });
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        Self { status: reply.status, reason: refusal.reason(), message: message.to_owned() }
    }

    /// It, in a line.
    pub(super) fn in_words(&self) -> String {
        match self.reason {
            None => format!("rejected: answered {}", self.status),
            Some(_) => format!("refused: answered {}: {}", self.status, self.message),
        }
    }
}

impl Foreseen {
    /// What would become of the request `view` under `config`.
    pub(super) fn of(view: &View<'_>, asked: Asked, config: &Config) -> Result<Self, Failure> {
        let Asked { identity, body, model, is_of_any_path } = asked;
        let ended =
            |outcome, is_as_its_path| Self { outcome, model: None, notes: Vec::new(), is_as_its_path };
        let (route, way, subject) = match sort(view, view.method, view.path, config, || identity) {
            Sorted::Inspected => return Ok(ended(Outcome::Inspected, false)),
            Sorted::Passes(reason) => {
                return Ok(ended(Outcome::Passes(reason), reason == Unlimited::Path));
            }
            Sorted::Exempt { .. } => return Ok(ended(Outcome::Unlimited, true)),
            Sorted::Rejected { route, .. } => {
                return Ok(Self::refused(&Refusal::UnknownIdentity, config.dry_run(), &route, config));
            }
            Sorted::Closed { route, .. } => {
                return Ok(Self::refused(&Refusal::ClosedEndpoint, config.dry_run(), &route, config));
            }
            Sorted::Limited { route, way, subject } => (route, way, subject),
        };
        let mut notes = Vec::new();
        if let Some((refusal, dry_run)) = way.refusal(&subject, config) {
            if !dry_run {
                return Ok(Self::refused(&refusal, false, &route, config));
            }
            notes.push(dry(&refusal, &route, config));
        }
        let charged = |quote: &Quote, due, notes, is_as_its_path| Self {
            model: quote.model.clone(),
            outcome: Outcome::Counted { subject: subject.clone(), due: Box::new(due) },
            notes,
            is_as_its_path,
        };
        if matches!(way, Way::CountConnection | Way::RefuseWebSocket) {
            let quote = Quote::without_body(config, view.path, None);
            let what = "a connection: one request and one slot, whatever is sent in it";
            notes.push(what.to_owned());
            return Ok(charged(&quote, quote.due_of_connection(&subject), notes, false));
        }
        let read = body.map(|body| {
            let [coding, kind] =
                ["content-encoding", "content-type"].map(|name| view.header(name).unwrap_or_default());
            (decoded(&coding, &kind, &body), body)
        });
        let may_change = view.header("content-encoding").is_none()
            && !has_sealed_body(view)
            && config.headers_mode() != HeadersMode::HeadersFirst;
        let (quote, bad, unasked) = match read {
            None => {
                let quote = Quote::without_body(config, view.path, model.as_deref());
                // Without a body, nobody knows that it names none.
                let refusal = quote.refusal_of_model(&subject);
                let (refusal, unknown) =
                    if quote.model.is_some() { (refusal, None) } else { (None, refusal) };
                notes.extend(unknown.map(|_| "not every model is available to this key".to_owned()));
                let most = subject.output_rules().map(|rule| rule.most).min();
                notes.extend(most.map(|most| format!("an answer may have at most {most} output tokens")));
                (quote, None, Vec::from_iter(refusal))
            }
            Some((Ok(bytes), _)) => {
                let (quote, refusals) = Quote::of_sender(&subject, config, view.path, &bytes, may_change);
                let bad = quote.fault.clone().map(BadBody::Unreadable);
                (quote, bad, refusals)
            }
            Some((Err(bad), sent)) => {
                let (quote, refusals) = Quote::of_sender(&subject, config, view.path, &sent, may_change);
                (quote, Some(bad), refusals)
            }
        };
        for (refusal, dry_run) in unasked.into_iter().filter(|_| way == Way::Read) {
            if !dry_run {
                return Ok(Self::refused(&refusal, false, &route, config));
            }
            notes.push(dry(&refusal, &route, config));
        }
        if let Some(bad) = bad.filter(|_| way == Way::Read) {
            let refusal = Refusal::BadBody(bad.clone());
            match refuses_body(&bad, &subject, config) {
                Some(false) => return Ok(Self::refused(&refusal, false, &route, config)),
                Some(true) => notes.push(dry(&refusal, &route, config)),
                None => {}
            }
            if subject.needs_body() {
                notes.push("nobody can read its body: it is charged the most that it could cost".to_owned());
            }
            return Ok(charged(&quote, quote.due_unread(config, &subject), notes, true));
        }
        let due = if is_of_any_path { quote.due_of_all(&subject) } else { quote.due(&subject) };
        Ok(charged(&quote, due, notes, true))
    }

    /// A request that is refused, or passes because that is in a dry run.
    fn refused(refusal: &Refusal, dry_run: bool, route: &Route, config: &Config) -> Self {
        let answered = Answered::new(refusal, route.endpoint, config);
        let of_path = *refusal == Refusal::ClosedEndpoint;
        if dry_run {
            let notes = vec![dry(refusal, route, config)];
            return Self { outcome: Outcome::Unlimited, model: None, notes, is_as_its_path: of_path };
        }
        Self { outcome: Outcome::Refused(answered), model: None, notes: Vec::new(), is_as_its_path: of_path }
    }
}

/// What a dry run spares a request.
fn dry(refusal: &Refusal, route: &Route, config: &Config) -> String {
    format!("in a dry run, and forwarded: {}", Answered::new(refusal, route.endpoint, config).in_words())
}
