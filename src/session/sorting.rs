//! What the headers of a request decide: whether it passes, is refused, or is counted, and how. `route` does
//! that to requests, and the command `llm-rate-limit explain` says it of them.

use crate::answer::refusal::{BadBody, Refusal};
use crate::config::{Config, OnUnreadable, WebSocket};
use crate::identity::{Identity, RequestView};
use crate::policy::endpoints::{Route, Treatment};
use crate::policy::{Access, Subject};
use crate::request;
use crate::telemetry::series::Unlimited;

/// A request, by its headers.
#[derive(Clone, Debug)]
pub enum Sorted {
    /// The filter answers it, about itself.
    Inspected,
    /// It passes for this reason, whoever sends it.
    Passes(Unlimited),
    /// Nothing limits its sender.
    Exempt {
        /// The endpoint.
        route: Route,
        /// What would become of it if anything did.
        way: Way,
        /// The sender, if the request shows one.
        identity: Option<Identity>,
        /// Why.
        reason: Unlimited,
    },
    /// Its sender is unknown, and such senders are answered 401.
    Rejected {
        /// The endpoint.
        route: Route,
        /// The sender, if the request shows one.
        identity: Option<Identity>,
    },
    /// Nothing limits its sender, but the endpoint is closed to all who are not exempt.
    Closed {
        /// The endpoint.
        route: Route,
        /// The sender.
        subject: Subject,
    },
    /// Limits are for its sender.
    Limited {
        /// The endpoint.
        route: Route,
        /// What becomes of it.
        way: Way,
        /// The sender.
        subject: Subject,
    },
}

/// The way of a request whose sender is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
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

/// Sorts a request with this method and path under `config`. `identity` finds its sender, which is asked for only if
/// that matters.
pub fn sort(
    request: &dyn RequestView,
    method: &str,
    path: &str,
    config: &Config,
    identity: impl FnOnce() -> Option<Identity>,
) -> Sorted {
    if config.inspect().is_some_and(|inspect| inspect.is_at(path)) {
        return Sorted::Inspected;
    }
    let route = config.endpoints().route(path);
    let websocket = request::wants_websocket(request).then(|| config.websocket());
    let way = Way::of(method, route.treatment, websocket);
    let by_method = matches!(method, "GET" | "HEAD" | "OPTIONS");
    let passes = Sorted::Passes(if by_method { Unlimited::Method } else { Unlimited::Path });
    if way == Way::Pass || (way == Way::PassKnown && !config.rejects_strangers()) {
        return passes;
    }
    let identity = identity();
    match config.access_of(identity.as_ref(), request) {
        Access::Rejected => Sorted::Rejected { route, identity },
        Access::Unlimited if way == Way::Reject && !config.exempts(identity.as_ref()) => {
            Sorted::Closed { route, subject: config.unlimited(identity.as_ref()) }
        }
        _ if way == Way::PassKnown => passes,
        Access::Unlimited => {
            let is_exempt = config.exempts(identity.as_ref());
            let reason = if is_exempt { Unlimited::UnlimitedKey } else { Unlimited::NoLimitApplies };
            Sorted::Exempt { route, way, identity, reason }
        }
        Access::Limited(subject) => Sorted::Limited { route, way, subject },
    }
}

/// Whether a request of `subject` is refused for a body that nobody can read, and whether that is in a dry run; none if
/// it is charged for it, or nothing that is limited depends on the body.
pub fn refuses_body(bad: &BadBody, subject: &Subject, config: &Config) -> Option<bool> {
    let is_charged = matches!(bad, BadBody::Unreadable(_)) && config.on_unreadable() == OnUnreadable::Charge;
    (!is_charged && subject.needs_body()).then(|| !subject.enforces_by_body())
}

/// Whether the headers of `request` have a digest or a signature of its body, which must not be changed then.
pub fn has_sealed_body(request: &dyn RequestView) -> bool {
    const DIGESTS: [&str; 5] =
        ["content-digest", "repr-digest", "digest", "content-md5", "x-amz-content-sha256"];
    DIGESTS.iter().any(|name| request.header(name).is_some()) || has_signature_of_aws(request)
}

/// Whether AWS's Signature Version 4 signs `request`, in its header or in its query: it has a digest of the body in it.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
fn has_signature_of_aws(request: &dyn RequestView) -> bool {
    let begins =
        |text: &str, start: &str| text.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    if request.header("authorization").is_some_and(|value| begins(value.trim_start(), "AWS4-")) {
        return true;
    }
    let path = request.header(":path").unwrap_or_default();
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|parameter| begins(parameter, "X-Amz-Signature="))
}

impl Way {
    /// The way of a request with `method`. `websocket`: what to do with its WebSocket, if it wants one.
    fn of(method: &str, treatment: Treatment, websocket: Option<WebSocket>) -> Self {
        // The methods of a handshake, and those that pass otherwise. Every other method is a request as any other, even
        // if it wants a WebSocket: servers that know none answer it all the same.
        let is_safe = matches!(method, "GET" | "HEAD" | "OPTIONS");
        // docs/envoy.md#upgrades: what is left of this method is a tunnel, for anything.
        let is_connect = method == "CONNECT";
        let is_llm = matches!(treatment, Treatment::Format | Treatment::Realtime);
        match (treatment, websocket) {
            (Treatment::Pass, _) => Self::Pass,
            (_, None) if method == "OPTIONS" => Self::Pass,
            (Treatment::Reject, _) => Self::Reject,
            (_, Some(WebSocket::Refuse)) if is_llm => Self::RefuseWebSocket,
            (Treatment::Health, Some(_)) if is_safe => Self::Pass,
            (_, Some(_)) if is_safe => Self::CountConnection,
            _ if is_connect => Self::CountConnection,
            (Treatment::Health, None) if matches!(method, "GET" | "HEAD") => Self::Pass,
            (_, None) if is_safe => Self::PassKnown,
            (Treatment::Free, _) => Self::PassKnown,
            (Treatment::WithoutTokens, _) => Self::CountRequest,
            _ => Self::Read,
        }
    }

    /// The refusal of a request of `subject` that goes this way, and whether that is in a dry run; none if it is
    /// refused for nothing that its headers say.
    pub fn refusal(self, subject: &Subject, config: &Config) -> Option<(Refusal, bool)> {
        match self {
            // Where there is no limit, nothing is in a dry run but everything.
            Self::Reject => {
                let dry_run = config.dry_run() || (subject.is_limited() && !subject.is_enforced());
                Some((Refusal::ClosedEndpoint, dry_run))
            }
            Self::RefuseWebSocket if subject.is_limited() => {
                Some((Refusal::WebSocket, !subject.is_enforced()))
            }
            _ => None,
        }
    }
}
