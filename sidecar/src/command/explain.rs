//! `explain`: prints the windows that a request would be charged to, without sending one.
//!
//! It needs no Envoy, no sidecar and no Redis, and so it does not know how much of a window is used.

use super::Failure;
use super::input::{configuration, key};
use super::table::{self, Align};
use clap::Args;
use llm_rate_limit::answer::{amount, go_duration, metric_name};
use llm_rate_limit::config::Config;
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::{Access, Applied, Subject};
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::store::keys;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

/// The request to explain.
#[derive(Clone, Debug, Args)]
pub struct Question {
    /// The filter configuration, JSON or YAML; - is standard input
    file: PathBuf,
    /// The key that the request presents; - reads it from standard input. Without it, the request has no identity
    #[arg(long)]
    key: Option<String>,
    /// The model that the request names. Without it, the request may be for any, and counts under the limits of all
    #[arg(long)]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(question: &Question, out: &mut impl Write) -> Result<bool, Failure> {
    let config = configuration(&question.file)?;
    let presented = question.key.as_deref().map(key).transpose()?;
    let identity = presented.as_deref().map(Identity::of_key);
    let access = config.access(identity.as_ref());
    let model = question.model.as_deref();
    if question.json {
        writeln!(out, "{:#}", as_json(&access, model))?;
    } else {
        as_text(&config, &access, model, out)?;
    }
    Ok(true)
}

fn as_json(access: &Access, model: Option<&str>) -> Value {
    match access {
        Access::Unlimited => json!({"access": "unlimited"}),
        Access::Rejected => json!({"access": "rejected"}),
        Access::Limited(subject) => json!({
            "access": "limited",
            "name": subject.name(),
            "identity": subject.id(),
            "scope": subject.scope(),
            "group": subject.group(),
            "windows": subject.limits(&model.into()).map(|applied| window(&applied)).collect::<Vec<_>>(),
        }),
    }
}

fn window(applied: &Applied) -> Value {
    let limit = &applied.limit;
    json!({
        "owner": applied.owner.to_string(),
        "name": limit.name,
        "metric": limit.metric.name(),
        "limit": limit.amount,
        "capacity": limit.window.capacity(limit.amount),
        "window": limit.window.label(),
        "window_ms": limit.window.length,
        "algorithm": limit.window.algorithm.name(),
        "max_wait_ms": limit.enforcement.max_wait,
        "dry_run": applied.dry_run,
        "counter": counter(applied),
    })
}

/// The name of its counter in Redis.
fn counter(applied: &Applied) -> String {
    let limit = &applied.limit;
    keys::counter(&applied.scope, &applied.identity, &limit.name, &limit.window)
}

fn as_text(
    config: &Config,
    access: &Access,
    model: Option<&str>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let subject = match access {
        Access::Unlimited => return Ok(writeln!(out, "unlimited: nothing is counted")?),
        Access::Rejected => return Ok(writeln!(out, "rejected: answered 401")?),
        Access::Limited(subject) => subject,
    };
    writeln!(out, "{}", introduction(subject, model))?;
    let limits: Vec<_> = subject.limits(&model.into()).collect();
    let has_budget = limits.iter().any(|applied| applied.limit.metric.name() == "cost_usd");
    if has_budget && model.is_some() && config.price(model).is_none() {
        writeln!(out, "this model has no price, so it costs nothing")?;
    }
    let columns = [
        ("OWNER", Align::Left),
        ("LIMIT ON", Align::Left),
        ("AMOUNT", Align::Right),
        ("CAPACITY", Align::Right),
        ("WINDOW", Align::Left),
        ("ALGORITHM", Align::Left),
        ("IF EXCEEDED", Align::Left),
    ];
    let rows: Vec<_> = limits.iter().map(row).collect();
    Ok(table::write(out, columns, &rows)?)
}

fn introduction(subject: &Subject, model: Option<&str>) -> String {
    let name = subject.name().map_or_else(|| "no name".to_owned(), |name| format!("{name:?}"));
    let group = subject.group().map(|group| format!(", group {group:?}")).unwrap_or_default();
    let model = model.map_or_else(|| "any model".to_owned(), |model| format!("model {model:?}"));
    format!("{name}{group}, {model}, id {}", subject.id())
}

fn row(applied: &Applied) -> [String; 7] {
    let limit = &applied.limit;
    let wait = limit.enforcement.max_wait;
    let if_exceeded = match (applied.dry_run, wait) {
        (true, _) => "forwarded (dry run)".to_owned(),
        (false, Millis::ZERO) => "refused".to_owned(),
        (false, wait) => format!("waits up to {}", go_duration(wait)),
    };
    [
        applied.owner.to_string(),
        metric_name(limit),
        amount(limit.metric, limit.amount),
        amount(limit.metric, limit.window.capacity(limit.amount)),
        limit.window.label(),
        limit.window.algorithm.name().to_owned(),
        if_exceeded,
    ]
}
