//! The output that a request may have where its sender has a maximum: more is refused, or lowered in the body.

use super::reading::MAX_AT_ONCE;
use crate::answer::refusal::BadCap;
use crate::policy::{Candidates, OutputRule, OutputVerdict, Subject};
use crate::request::{Cap, Endpoint, NewCap, Request, thinking_budget};

/// The output that a request may have, of all its answers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// The maximum that it sets, as the upstream gets it.
    pub(super) cap: Cap,
    /// The tokens to reserve where it may set none; none if what is known of other answers decides.
    pub(super) otherwise: Option<u64>,
    /// The maximum that its body is to get.
    pub(super) change: Option<NewCap>,
}

/// Why a request is refused for the output that it asks for, if it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Objections {
    /// By a maximum that is enforced.
    pub(super) enforced: Option<BadCap>,
    /// By one in a dry run, which refuses nothing.
    pub(super) in_dry_run: Option<BadCap>,
}

impl Objections {
    /// Those to a request of `subject` to `endpoint` that nobody reads: it may ask for any output.
    pub(super) fn to_unread(subject: &Subject, endpoint: Endpoint) -> Self {
        let smallest = |dry_run| {
            let rules = subject.output_rules().filter(|rule| rule.dry_run == dry_run);
            rules.map(|rule| rule.most).min().filter(|_| endpoint.has_output())
        };
        let [enforced, in_dry_run] =
            [false, true].map(|dry_run| smallest(dry_run).map(|most| BadCap::Unread { most }));
        Self { enforced, in_dry_run }
    }
}

impl Output {
    /// The output that a `request` of `subject` for one of `models` may have. `body` is its body, if that may be
    /// changed.
    pub(super) fn decide(
        subject: &Subject,
        request: &Request<'_>,
        models: &Candidates,
        body: Option<&[u8]>,
    ) -> (Self, Objections) {
        let (in_dry_run, enforced): (Vec<_>, Vec<_>) = subject.output_rules().partition(|rule| rule.dry_run);
        if in_dry_run.is_empty() && enforced.is_empty() {
            return (Self::as_asked(request), Objections::default());
        }
        let body = body.filter(|_| request.has_content() && request.is_plain());
        let in_dry_run = Self::under(&in_dry_run, request, models, body).err();
        match Self::under(&enforced, request, models, body) {
            Ok(output) => (output, Objections { enforced: None, in_dry_run }),
            Err(bad) => (Self::as_asked(request), Objections { enforced: Some(bad), in_dry_run }),
        }
    }

    /// The output that `request` asks for.
    pub(super) fn as_asked(request: &Request<'_>) -> Self {
        Self { cap: request.output_cap(), otherwise: None, change: None }
    }

    /// The output that `request` may have under `rules`. `body` is its body, if that may be changed.
    fn under(
        rules: &[OutputRule],
        request: &Request<'_>,
        models: &Candidates,
        body: Option<&[u8]>,
    ) -> Result<Self, BadCap> {
        let Some(asked) = request.answer_cap() else { return Ok(Self::as_asked(request)) };
        Ok(match OutputVerdict::of(rules, asked.tokens, asked.is_doubtful) {
            OutputVerdict::AsAsked => Self::as_asked(request),
            OutputVerdict::AtMost(most) => {
                Self { otherwise: Some(request.of_all(most)), ..Self::as_asked(request) }
            }
            OutputVerdict::TooMuch(most) => {
                return Err(BadCap::TooLarge { asked: asked.tokens.unwrap_or_default(), most });
            }
            OutputVerdict::Clamped(most) => {
                let change = request.new_cap(most, models);
                let is_small = |body: &[u8]| body.len() <= MAX_AT_ONCE;
                let body = body.filter(|body| !change.has_any || is_small(body));
                let body = body.ok_or_else(|| match asked.tokens.filter(|asked| *asked > most) {
                    Some(asked) => BadCap::TooLarge { asked, most },
                    None => BadCap::Unchangeable { most },
                })?;
                let budget = if is_small(body) { thinking_budget(body) } else { None };
                if let Some(budget) = budget.filter(|budget| *budget >= most) {
                    return Err(BadCap::Thinking { budget, most });
                }
                let cap = Cap { tokens: Some(request.of_all(most)), is_doubtful: false };
                Self { cap, otherwise: None, change: Some(change) }
            }
        })
    }
}
