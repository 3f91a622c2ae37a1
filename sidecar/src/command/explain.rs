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
use llm_rate_limit::policy::endpoints::{Route, Treatment};
use llm_rate_limit::policy::{Access, Applied, Candidates, NEW_IDENTITIES, Subject};
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::request::Endpoint;
use llm_rate_limit::store::keys::Keyspace;
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
    /// The path of the request, which is a POST; an LLM endpoint by default
    #[arg(long)]
    path: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(question: &Question, out: &mut impl Write) -> Result<bool, Failure> {
    let config = configuration(&question.file)?;
    let presented = question.key.as_deref().map(key).transpose()?;
    let identity = presented.as_deref().map(Identity::of_key);
    let access = config.access(identity.as_ref());
    let route = question.path.as_deref().map(|path| config.endpoints().route(path));
    let model = route.as_ref().and_then(|route| route.deployment.as_deref()).or(question.model.as_deref());
    if question.json {
        writeln!(out, "{:#}", as_json(&config, &access, route.as_ref(), model))?;
        return Ok(true);
    }
    if let Some(route) = &route {
        writeln!(out, "{}", in_words(route))?;
    }
    if route.as_ref().is_none_or(|route| is_charged(route.treatment)) {
        as_text(&config, &access, route.as_ref(), model, out)?;
    }
    Ok(true)
}

/// Whether requests that are treated so are charged to any window.
const fn is_charged(treatment: Treatment) -> bool {
    !matches!(treatment, Treatment::Pass | Treatment::Free | Treatment::Reject)
}

/// The limits on a request for `model` by `route`, or to an LLM endpoint.
fn limits(subject: &Subject, route: Option<&Route>, model: Option<&str>) -> Vec<Applied> {
    match route.map(|route| route.treatment) {
        Some(treatment) if !is_charged(treatment) => Vec::new(),
        Some(Treatment::WithoutTokens) => {
            subject.limits(&Candidates::NONE).filter(|applied| !applied.limit.metric.needs_tokens()).collect()
        }
        _ => subject.limits(&model.into()).collect(),
    }
}

/// What happens to a POST.
fn in_words(route: &Route) -> &'static str {
    match route.treatment {
        Treatment::Pass => "pass: the request passes untouched",
        Treatment::Health | Treatment::Count | Treatment::Realtime => {
            "count: a request, the size of a JSON body, and the usage that the answer reports"
        }
        Treatment::Free => "the request costs nothing, and no limit refuses it",
        Treatment::WithoutTokens => "a request without tokens",
        Treatment::Format => format_name(route.endpoint),
        Treatment::Reject => "reject: answered 403",
    }
}

/// The configuration's word for the treatment of `route`.
fn word(route: &Route) -> &'static str {
    match route.treatment {
        Treatment::Pass => "pass",
        Treatment::Health | Treatment::Count | Treatment::Realtime => "count",
        Treatment::Free => "free",
        Treatment::WithoutTokens => "without_tokens",
        Treatment::Format => format_name(route.endpoint),
        Treatment::Reject => "reject",
    }
}

const fn format_name(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "chat_completions",
        Endpoint::Completions => "completions",
        Endpoint::Embeddings => "embeddings",
        Endpoint::Responses => "responses",
        Endpoint::Messages => "messages",
        Endpoint::Other(_) => "count",
    }
}

fn as_json(config: &Config, access: &Access, route: Option<&Route>, model: Option<&str>) -> Value {
    let mut answer = match access {
        Access::Unlimited => json!({"access": "unlimited"}),
        Access::Rejected => json!({"access": "rejected"}),
        Access::Limited(subject) => json!({
            "access": "limited",
            "name": subject.name(),
            "identity": subject.id(),
            "scope": subject.scope(),
            "group": subject.group(),
            "max_new_identities_per_second": subject.max_new_identities(),
            "windows": limits(subject, route, model).iter().map(|applied| window(config, applied)).collect::<Vec<_>>(),
        }),
    };
    if let (Some(route), Some(members)) = (route, answer.as_object_mut()) {
        members.insert("endpoint".to_owned(), word(route).into());
    }
    answer
}

fn window(config: &Config, applied: &Applied) -> Value {
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
        "warn_at": limit.warns_from(),
        "counter": counter(config, applied),
    })
}

/// The name of its counter in Redis.
fn counter(config: &Config, applied: &Applied) -> String {
    let limit = &applied.limit;
    let namespace = config.namespace();
    Keyspace::new(&namespace).counter(&applied.scope, &applied.identity, &limit.name, &limit.window)
}

fn as_text(
    config: &Config,
    access: &Access,
    route: Option<&Route>,
    model: Option<&str>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let subject = match access {
        Access::Unlimited => return Ok(writeln!(out, "unlimited: nothing is counted")?),
        Access::Rejected => return Ok(writeln!(out, "rejected: answered 401")?),
        Access::Limited(subject) => subject,
    };
    writeln!(out, "{}", introduction(subject, model))?;
    if let Some(most) = subject.max_new_identities() {
        writeln!(
            out,
            "if it is new, and {most} others have come in the same second, \"this key\" is {NEW_IDENTITIES:?}"
        )?;
    }
    let limits = limits(subject, route, model);
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
