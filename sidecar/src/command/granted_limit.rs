//! The limit that `grant` and `refund` are about: its name on the command line among those that its owner has.
//!
//! The configuration knows all limits of an owner. Without one, the sidecar knows those that have been used lately.

use super::Failure;
use super::client::Client;
use super::counters::Selected;
use super::nothing_found::Asked;
use crate::clock;
use crate::store::grants::Configured;
use crate::store::usage::Usage;
use llm_rate_limit::calendar::Calendars;
use llm_rate_limit::config::{Config, SHORTHANDS};
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::policy::{Access, Applied, Candidates};
use llm_rate_limit::quantity::{Units, parse_millionths};
use llm_rate_limit::store::wire::{Charge, ScopeCharges, path};
use llm_rate_limit::window::Window;

/// A limit of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GrantedLimit {
    /// Its name, such as `requests`.
    pub(super) name: String,
    /// The label of its window.
    pub(super) window: String,
    /// What the configuration says of it.
    pub(super) configured: Option<Configured>,
}

impl GrantedLimit {
    /// The limit that `--limit` names: `requests/1m`, `rpm`, or `requests` if there is only one.
    pub(super) fn find(named: &str, selected: &Selected, client: &Client) -> Result<Self, Failure> {
        let mut known = selected.config.as_ref().map_or_else(Vec::new, |config| configured(selected, config));
        if known.is_empty() {
            let usage: Usage = client.get(path::USAGE, &selected.owner.query())?;
            known = usage.windows.into_iter().map(Self::used).collect();
        }
        choose(named, known).map_err(|why| {
            let without = selected.config.is_none();
            let hint = if without { "; --config knows limits that nobody has used lately" } else { "" };
            Failure(format!("--limit {named}: {why}{hint}"))
        })
    }

    fn used(window: crate::store::usage::WindowUsage) -> Self {
        Self { name: window.name, window: window.window, configured: None }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.name, self.window)
    }

    /// Whether it is in dollars.
    fn is_dollars(&self) -> bool {
        Metric::of_limit(&self.name) == Some(Metric::CostUsd)
    }

    /// The units of an amount on the command line: a whole number, or dollars.
    pub(super) fn units(&self, flag: &str, amount: &str) -> Result<Units, Failure> {
        let (units, expected) = if self.is_dollars() {
            let dollars = amount.strip_prefix('$').unwrap_or(amount);
            (parse_millionths(dollars), "dollars, such as 2.50")
        } else {
            (amount.parse().ok().filter(|_| !amount.starts_with('+')), "a whole number")
        };
        let found = units.filter(|units| *units > 0);
        found
            .map(Units::new)
            .ok_or_else(|| Failure(format!("{flag} {amount}: expected {expected}, more than 0")))
    }
}

/// The limits that `config` has for the owner.
fn configured(selected: &Selected, config: &Config) -> Vec<GrantedLimit> {
    let own = match &selected.asked {
        Asked::Key(key) => match config.access(Some(&Identity::of_key(key))) {
            Access::Limited(subject) => Some(subject),
            Access::Unlimited | Access::Rejected => None,
        },
        _ => None,
    };
    let subjects = own.into_iter().chain(config.subjects()).chain(config.strangers());
    let mut limits = Vec::new();
    for subject in subjects {
        let of_owner =
            |it: &Applied| *it.scope == *selected.owner.scope && *it.identity == *selected.owner.identity;
        for applied in subject.limits(&Candidates::UNKNOWN).filter(of_owner) {
            let limit = of_configuration(&applied);
            if !limits.contains(&limit) {
                limits.push(limit);
            }
        }
    }
    limits
}

fn of_configuration(applied: &Applied) -> GrantedLimit {
    let limit = &applied.limit;
    let charge = Charge {
        identity: applied.identity.clone(),
        name: limit.name.clone(),
        window: limit.window,
        limit: limit.amount,
        cost: Units::ZERO,
        enforced: true,
        warn_at: None,
    };
    let mut scopes = [ScopeCharges { scope: applied.scope.clone(), charges: vec![charge] }];
    Calendars::default().keep_up(&mut scopes, clock::now());
    let window = ScopeCharges::flat(&scopes).next().map_or(limit.window, |charge| charge.window);
    GrantedLimit {
        name: limit.name.to_string(),
        window: limit.window.label(),
        configured: Some(Configured { window, limit: limit.amount }),
    }
}

/// The one of `known` that is `named`.
fn choose(named: &str, known: Vec<GrantedLimit>) -> Result<GrantedLimit, String> {
    let full = written_out(named);
    let labels: Vec<_> = known.iter().map(GrantedLimit::label).collect();
    let has =
        if labels.is_empty() { "it has none".to_owned() } else { format!("it has {}", labels.join(", ")) };
    let mut found: Vec<_> = known.into_iter().filter(|it| it.label() == full || it.name == full).collect();
    match (found.pop(), found.is_empty()) {
        (Some(limit), true) => Ok(limit),
        (Some(_), false) => Err(format!("several windows have this name: {has}")),
        (None, _) => Err(format!("this owner has no such limit: {has}")),
    }
}

/// A shorthand, alone or after a pattern of models, as a name and a window.
fn written_out(named: &str) -> String {
    let (models, last) = named.rsplit_once('/').map_or(("", named), |(models, last)| (models, last));
    let full = SHORTHANDS.iter().find(|(field, ..)| *field == last);
    let full =
        full.map(|(_, metric, length)| format!("{}/{}", metric.name(), Window::sliding(*length).label()));
    match (full, last) {
        (Some(full), _) if models.is_empty() => full,
        (Some(full), _) => format!("{models}/{full}"),
        (None, "max_concurrency") => named.replace("max_concurrency", Metric::Concurrency.name()),
        (None, _) => named.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, window: &str) -> GrantedLimit {
        GrantedLimit { name: name.to_owned(), window: window.to_owned(), configured: None }
    }

    #[test]
    fn a_limit_is_found_by_its_label_its_shorthand_or_its_name_alone() {
        let known = || {
            vec![
                limit("requests", "1m"),
                limit("requests", "1d"),
                limit("gpt-4*/requests", "1m"),
                limit("concurrency", "10m"),
            ]
        };
        let chosen = |named| choose(named, known()).map(|it| it.label());
        assert_eq!(chosen("rpm").as_deref(), Ok("requests/1m"));
        assert_eq!(chosen("requests/1d").as_deref(), Ok("requests/1d"));
        assert_eq!(chosen("gpt-4*/rpm").as_deref(), Ok("gpt-4*/requests/1m"));
        assert_eq!(chosen("gpt-4*/requests").as_deref(), Ok("gpt-4*/requests/1m"));
        assert_eq!(chosen("max_concurrency").as_deref(), Ok("concurrency/10m"));
        assert!(
            chosen("requests").unwrap_err().starts_with("several windows have this name: it has requests/1m")
        );
        assert!(chosen("tpm").unwrap_err().starts_with("this owner has no such limit: it has requests/1m, "));
        assert_eq!(choose("rpm", Vec::new()).unwrap_err(), "this owner has no such limit: it has none");
    }

    #[test]
    fn amounts_are_whole_or_dollars() {
        let units = |name, amount| limit(name, "1d").units("--add", amount).map_err(|why| why.to_string());
        assert_eq!(units("requests", "50"), Ok(Units::new(50)));
        assert_eq!(units("cost_usd", "2.5"), Ok(Units::new(2_500_000)));
        assert_eq!(units("cost_usd", "$3"), Ok(Units::new(3_000_000)));
        assert_eq!(units("requests", "2.5").unwrap_err(), "--add 2.5: expected a whole number, more than 0");
        assert_eq!(
            units("cost_usd", "x").unwrap_err(),
            "--add x: expected dollars, such as 2.50, more than 0"
        );
        for wrong in ["", "0", "-1", "+1", "1.2345678", "2.+5", "$"] {
            assert!(units("cost_usd", wrong).is_err(), "{wrong}");
        }
    }
}
