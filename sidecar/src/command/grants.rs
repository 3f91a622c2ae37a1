//! `grant`, `refund` and `grants`: change a limit by hand, and show who has done so. They ask a running sidecar.

use super::Failure;
use super::client::Client;
use super::counters::{Selected, Selection};
use super::granted_limit::GrantedLimit;
use super::table::{self, Align};
use crate::clock;
use crate::store::grants::{Action, Audit, Change, Changed, Entry};
use clap::Args;
use llm_rate_limit::answer::{amount_of_limit, date, parse_date};
use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::store::wire::path;
use std::io::Write;

/// The limit to change, and what the audit list says of it.
#[derive(Clone, Debug, Args)]
struct Why {
    /// The limit: requests/1m or rpm; requests alone if it has one window; after a pattern of models, gpt-4*/rpm
    #[arg(long)]
    limit: String,
    /// Who does this, for the audit list
    #[arg(long, value_name = "NAME", env = "USER")]
    by: String,
    /// Why, for the audit list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Change nothing, and print what would be
    #[arg(long)]
    dry_run: bool,
}

/// The grant to make or to end.
#[derive(Clone, Debug, Args)]
pub struct Grant {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    why: Why,
    /// The units to add to the limit: requests, tokens, slots or dollars
    #[arg(long, value_name = "N", required_unless_present = "revoke")]
    add: Option<String>,
    /// When it ends: a time in RFC 3339, a duration from now such as 2h, or window, the end of the window
    #[arg(long, value_name = "WHEN", default_value = "window", conflicts_with = "revoke")]
    until: String,
    /// End all grants of the limit now
    #[arg(long, conflicts_with = "add")]
    revoke: bool,
}

/// The refund to make.
#[derive(Clone, Debug, Args)]
pub struct Refund {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    why: Why,
    /// The units to give back: requests, tokens or dollars; at most what is used
    #[arg(long, value_name = "N")]
    amount: String,
}

/// Grants, or ends what is granted.
pub(super) fn grant(grant: &Grant, out: &mut impl Write) -> Result<bool, Failure> {
    let Grant { selection, why, add, until, .. } = grant;
    let until = until_of(until, clock::now())?;
    match add {
        Some(add) => make(selection, why, Action::Grant, Some(("--add", add)), until, out),
        None => make(selection, why, Action::Revoke, None, None, out),
    }
}

/// Refunds.
pub(super) fn refund(refund: &Refund, out: &mut impl Write) -> Result<bool, Failure> {
    let Refund { selection, why, amount } = refund;
    make(selection, why, Action::Refund, Some(("--amount", amount)), None, out)
}

/// Makes a change and prints what has become of the limit.
fn make(
    selection: &Selection,
    why: &Why,
    action: Action,
    amount: Option<(&str, &String)>,
    until_ms: Option<Millis>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let selected = selection.select()?;
    let client = selection.sidecar.client()?;
    let limit = GrantedLimit::find(&why.limit, &selected, &client)?;
    let units = amount.map_or(Ok(Units::ZERO), |(flag, amount)| limit.units(flag, amount))?;
    let Selected { owner, .. } = selected;
    let change = Change {
        identity: owner.identity,
        scope: owner.scope,
        namespace: owner.namespace,
        limit: limit.name,
        window: limit.window,
        configured: limit.configured,
        action,
        units,
        until_ms,
        by: why.by.clone(),
        reason: why.reason.clone(),
        dry_run: why.dry_run,
    };
    let changed: Changed = client.post(path::GRANTS, &change)?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&changed)?)?;
    } else {
        writeln!(out, "{}", said(&change, &changed))?;
    }
    Ok(true)
}

/// What has become of the limit, in a line.
fn said(change: &Change, changed: &Changed) -> String {
    let units = |units| amount_of_limit(&change.limit, units);
    let limit = format!("{}/{}", change.limit, change.window);
    let would = if change.dry_run { "would be " } else { "" };
    let done = match change.action {
        Action::Grant => {
            let until = changed.until_ms.map(date).unwrap_or_default();
            format!("{would}granted: {} more of {limit} until {until}", units(changed.units))
        }
        Action::Refund => format!("{would}refunded: {} of {limit}", units(changed.units)),
        Action::Revoke => format!("{would}revoked: {} of {limit}", units(changed.units)),
    };
    let state = format!("used {} of {}", units(changed.used), units(changed.limit + changed.granted));
    format!("{done}; {state}")
}

/// When a grant ends; none for the end of the window.
fn until_of(text: &str, now: Millis) -> Result<Option<Millis>, Failure> {
    if text == "window" {
        return Ok(None);
    }
    let until = Millis::parse(text).map(|lasts| now + lasts).or_else(|| parse_date(text));
    match until {
        Some(until) if until > now => Ok(Some(until)),
        Some(_) => Err(Failure(format!("--until {text}: that time has passed"))),
        None => Err(Failure(format!(
            "--until {text}: expected a time such as {}, a duration such as 2h, or window",
            date(now + Millis::DAY)
        ))),
    }
}

/// Prints the audit list of an owner.
pub(super) fn audit(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let selected = selection.select()?;
    let client = selection.sidecar.client()?;
    let audit: Audit = client.get(path::GRANTS, &selected.owner.query())?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&audit)?)?;
    } else {
        print(&audit, &selected, &client, out)?;
    }
    Ok(true)
}

fn print(audit: &Audit, selected: &Selected, client: &Client, out: &mut impl Write) -> Result<(), Failure> {
    if audit.entries.is_empty() {
        writeln!(out, "no grants or refunds")?;
        return selected.explain_nothing(client, out);
    }
    let columns = [
        ("TIME", Align::Left),
        ("WHAT", Align::Left),
        ("LIMIT", Align::Left),
        ("UNITS", Align::Right),
        ("UNTIL", Align::Left),
        ("BY", Align::Left),
        ("REASON", Align::Left),
    ];
    let rows: Vec<_> = audit.entries.iter().map(row).collect();
    Ok(table::write(out, columns, &rows)?)
}

fn row(entry: &Entry) -> [String; 7] {
    let note = &entry.note;
    // What people have typed may not move the cursor of who reads it.
    let shown = |text: &str| text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    [
        date(entry.at_ms),
        <&str>::from(note.action).to_owned(),
        format!("{}/{}", note.limit, note.window),
        amount_of_limit(&note.limit, entry.units),
        entry.until_ms.map(date).unwrap_or_default(),
        shown(&note.by),
        note.reason.as_deref().map(shown).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_ends_at_a_time_after_a_duration_or_with_the_window() {
        let now = parse_date("2026-11-28T10:00:00Z").unwrap();
        let until = |text| until_of(text, now).map_err(|why| why.to_string());
        assert_eq!(until("window"), Ok(None));
        assert_eq!(until("2h"), Ok(Some(now + Millis::HOUR * 2)));
        assert_eq!(until("2026-11-28T12:30:00+01:00"), Ok(Some(now + Millis::MINUTE * 90)));
        assert_eq!(
            until("2026-11-28T09:00:00Z"),
            Err("--until 2026-11-28T09:00:00Z: that time has passed".to_owned())
        );
        assert_eq!(
            until("tomorrow"),
            Err("--until tomorrow: expected a time such as 2026-11-29T10:00:00Z, a duration such as 2h, or window"
                .to_owned())
        );
    }
}
