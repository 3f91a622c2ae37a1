//! `explain --live`: what the store has counted in every window that a request would be charged to, and which of them
//! binds. It asks a running sidecar, which changes nothing.

use super::Failure;
use super::client::Address;
use super::table::{self, Align};
use crate::clock;
use llm_rate_limit::answer::{amount, go_duration, metric_name};
use llm_rate_limit::calendar::Calendars;
use llm_rate_limit::config::{Config, Store};
use llm_rate_limit::policy::Subject;
use llm_rate_limit::policy::status::LimitStatus;
use llm_rate_limit::session::quote::Due;
use llm_rate_limit::session::reservation::AtLimit;
use llm_rate_limit::store::wire::{Reserve, Reserved, path};
use llm_rate_limit::window::Fit;
use serde_json::{Value, json};
use std::io::Write;

/// The windows of a request, as they are now.
pub(super) struct Live {
    /// Each limit, and what it does if the request does not fit.
    limits: Vec<(LimitStatus, AtLimit)>,
    /// The place of the limit that binds, if any does: that for which the request waits longest, or else the one that
    /// it brings closest to its amount.
    binds: Option<usize>,
}

impl Live {
    /// Asks the sidecar at `address` about what is `due` of `subject`.
    pub(super) fn ask(
        config: &Config,
        subject: &Subject,
        due: &Due,
        address: &Address,
    ) -> Result<Self, Failure> {
        if let Store::Local(_) = config.store() {
            return Err(Failure(
                "the store of this configuration is \"local\": Envoy has its counters, and no sidecar does"
                    .to_owned(),
            ));
        }
        let mut charges = due.charges();
        if charges.is_empty() {
            return Ok(Self { limits: Vec::new(), binds: None });
        }
        Calendars::default().keep_up(&mut charges, clock::now());
        let reserve = Reserve {
            id: "explain".to_owned(),
            namespace: config.namespace(),
            max_new_identities_per_second: subject.max_new_identities(),
            charges,
            ..Reserve::default()
        };
        let answers: Vec<Reserved> = address.client()?.post(path::PEEK, &[reserve])?;
        let states = match answers.into_iter().next() {
            Some(Reserved::Decided { windows, .. }) => windows,
            Some(Reserved::Failed { error, .. }) => return Err(Failure(format!("the sidecar: {error}"))),
            None => return Err(Failure("the sidecar's answer is empty".to_owned())),
        };
        let limits = due.statuses(&states);
        let binds = binding(&limits);
        Ok(Self { limits, binds })
    }

    /// Writes the table, and what would become of the request.
    pub(super) fn write(&self, out: &mut impl Write) -> Result<(), Failure> {
        let columns = [
            ("OWNER", Align::Left),
            ("LIMIT ON", Align::Left),
            ("WINDOW", Align::Left),
            ("COST", Align::Right),
            ("USED", Align::Right),
            ("LIMIT", Align::Right),
            ("RESET", Align::Right),
            ("FITS", Align::Left),
            ("", Align::Left),
        ];
        let rows: Vec<_> =
            self.limits.iter().enumerate().map(|(at, limit)| row(limit, self.binds == Some(at))).collect();
        table::write(out, columns, &rows)?;
        Ok(writeln!(out, "{}", self.outcome())?)
    }

    /// What would become of the request now.
    fn outcome(&self) -> String {
        if self.limits.is_empty() {
            return "forwarded: no limit applies".to_owned();
        }
        let Some((status, _)) = self.binds.and_then(|at| self.limits.get(at)) else {
            return "forwarded: no limit refuses it".to_owned();
        };
        let label = status.label();
        match status.wait() {
            None => format!("refused: more than {label} ever admits"),
            Some(wait) if wait.is_zero() => format!("forwarded: {label} is the closest to its limit"),
            Some(wait) if wait <= status.limit.enforcement.wait() => {
                format!("waits {} for {label}", go_duration(wait))
            }
            Some(wait) => format!("refused by {label}: fits in {}", go_duration(wait)),
        }
    }

    /// Adds what is known to each of `windows`, which are in the order of the limits.
    pub(super) fn add_to(&self, windows: &mut [Value]) {
        for (at, ((status, _), window)) in self.limits.iter().zip(windows).enumerate() {
            let Some(members) = window.as_object_mut() else { continue };
            members.extend([
                ("cost".to_owned(), json!(status.cost)),
                ("used".to_owned(), json!(status.state.used)),
                ("granted".to_owned(), json!(status.state.granted)),
                ("reset_ms".to_owned(), json!(status.state.reset)),
                ("fits_in_ms".to_owned(), json!(status.wait())),
                ("binds".to_owned(), json!(self.binds == Some(at))),
            ]);
        }
    }

    /// Whether the request would be refused now, or wait.
    pub(super) fn is_admitted(&self) -> bool {
        let refuses = |at_limit: AtLimit| at_limit == AtLimit::Refuse;
        self.limits.iter().all(|(status, at_limit)| !refuses(*at_limit) || status.state.fit == Fit::Now)
    }
}

/// The place of the limit that binds.
fn binding(limits: &[(LimitStatus, AtLimit)]) -> Option<usize> {
    let share = |status: &LimitStatus| {
        let used = u128::from(status.state.used.get()) + u128::from(status.cost.get());
        used * 1_000_000 / u128::from(status.capacity().get().max(1))
    };
    let strength = |status: &LimitStatus| (status.wait().map_or(u64::MAX, |wait| wait.get()), share(status));
    let refusing = limits.iter().enumerate().filter(|(_, (_, at_limit))| *at_limit == AtLimit::Refuse);
    // Of equals, the first: a key's own before those that it shares.
    refusing.rev().max_by_key(|(_, (status, _))| strength(status)).map(|(at, _)| at)
}

/// The most that fits at once, and the part of it that is granted.
fn limit_of(status: &LimitStatus) -> String {
    let units = |units| amount(status.limit.metric, units);
    match status.state.granted {
        granted if granted.is_zero() => units(status.capacity()),
        granted => format!("{} ({} granted)", units(status.capacity()), units(granted)),
    }
}

fn row((status, at_limit): &(LimitStatus, AtLimit), binds: bool) -> [String; 9] {
    let limit = &status.limit;
    let units = |units| amount(limit.metric, units);
    let fits = match status.wait() {
        None => "never".to_owned(),
        Some(wait) if wait.is_zero() => "now".to_owned(),
        Some(wait) => format!("in {}", go_duration(wait)),
    };
    [
        status.owner.to_string(),
        metric_name(limit),
        limit.window.label(),
        units(status.cost),
        units(status.state.used),
        limit_of(status),
        go_duration(status.state.reset),
        match at_limit {
            AtLimit::Refuse => fits,
            AtLimit::FallBack | AtLimit::Continue => format!("{fits} (goes on)"),
            AtLimit::Report => format!("{fits} (dry run)"),
        },
        if binds { "<- binds".to_owned() } else { String::new() },
    ]
}
