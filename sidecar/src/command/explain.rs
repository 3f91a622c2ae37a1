//! `explain`: prints what would become of a request, and the windows that it would be charged to, without sending one.
//!
//! It needs no Envoy, no sidecar and no Redis, unless `--live` asks how much of each window is used ([`super::live`]).

use super::Failure;
use super::claims;
use super::client::Address;
use super::foreseen::{Answered, Asked, Foreseen, Outcome};
use super::input::{configuration, contents};
use super::live::Live;
use super::presented::{Presented, View};
use super::table::{self, Align};
use clap::Args;
use llm_rate_limit::answer::{amount, go_duration, metric_name};
use llm_rate_limit::config::Config;
use llm_rate_limit::policy::endpoints::{Route, Treatment};
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::policy::on_limit::Continuation;
use llm_rate_limit::policy::{Applied, NEW_IDENTITIES, Subject};
use llm_rate_limit::pricing::Unpriced;
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::request::Endpoint;
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::telemetry::series::Unlimited;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The path of a request that names none.
const LLM_PATH: &str = "/v1/chat/completions";

/// The request to explain.
#[derive(Clone, Debug, Args)]
pub struct Question {
    /// The filter configuration, JSON or YAML, alone or in a file that `check` takes; - is standard input
    file: PathBuf,
    #[command(flatten)]
    presented: Presented,
    /// The model that the request names. Without it, the request may be for any, and counts under the limits of all
    #[arg(long, conflicts_with = "body")]
    model: Option<String>,
    /// The path of the request; an LLM endpoint by default
    #[arg(long)]
    path: Option<String>,
    /// The method of the request
    #[arg(long, default_value = "POST", value_parser = method)]
    method: String,
    /// The body of the request, which names its model and says what it costs; - is standard input
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Ask the sidecar how much of each window is used, whether the request would fit, and which limit binds
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    sidecar: Address,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(question: &Question, out: &mut impl Write) -> Result<bool, Failure> {
    question.check_inputs()?;
    let config = configuration(&question.file)?;
    let path = question.path.as_deref().unwrap_or(LLM_PATH);
    let view = View { presented: &question.presented, method: &question.method, path };
    let foreseen = Foreseen::of(&view, question.asked(&config, view)?, &config)?;
    let route = question.path.as_deref().map(|path| config.endpoints().route(path));
    let explained = Explained { config: &config, route, model: foreseen.model.as_deref() };
    let live = match &foreseen.outcome {
        Outcome::Counted { subject, due } if question.live => {
            Some(Live::ask(&config, subject, due, &question.sidecar)?)
        }
        _ => None,
    };
    if question.json {
        writeln!(out, "{:#}", explained.as_json(&foreseen, live.as_ref()))?;
        return Ok(true);
    }
    // The method or an upgrade decide before what the path says of a plain POST.
    if let Some(route) = explained.route.as_ref().filter(|_| foreseen.is_as_its_path) {
        writeln!(out, "{}", in_words(route))?;
    }
    explained.as_text(&foreseen, live.as_ref(), question.body.is_some(), out)?;
    Ok(true)
}

impl Question {
    /// Fails if the parts of the request contradict each other.
    pub(super) fn check(&self) -> Result<(), String> {
        self.presented.check()
    }

    /// Fails if two things are to come from standard input.
    fn check_inputs(&self) -> Result<(), Failure> {
        let is_input = |file: &Path| file == Path::new("-");
        let inputs =
            [is_input(&self.file), self.presented.reads_input(), self.body.as_deref().is_some_and(is_input)];
        if inputs.iter().filter(|is_input| **is_input).count() > 1 {
            return Err(Failure("only one of the configuration, --key and --body can be \"-\"".to_owned()));
        }
        Ok(())
    }

    /// What the request says beside its headers.
    fn asked(&self, config: &Config, view: View<'_>) -> Result<Asked, Failure> {
        Ok(Asked {
            identity: view.identity(config)?,
            body: self.body.as_deref().map(contents).transpose()?,
            model: self.model.clone(),
            is_of_any_path: self.path.is_none(),
        })
    }
}

/// The request that is explained.
struct Explained<'a> {
    config: &'a Config,
    /// The way of the request, if its path is given.
    route: Option<Route>,
    model: Option<&'a str>,
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
        Endpoint::Gemini | Endpoint::GeminiEmbeddings => "gemini",
        Endpoint::OllamaChat => "ollama_chat",
        Endpoint::OllamaGenerate => "ollama_generate",
        Endpoint::CohereChat => "cohere_chat",
        Endpoint::CohereEmbed => "cohere_embed",
        Endpoint::Rerank => "rerank",
        Endpoint::Other(_) => "count",
    }
}

impl Explained<'_> {
    fn as_json(&self, foreseen: &Foreseen, live: Option<&Live>) -> Value {
        let mut answer = match &foreseen.outcome {
            Outcome::Inspected => json!({"access": "inspect"}),
            Outcome::Passes(reason) => json!({"access": "passes", "reason": reason.name()}),
            Outcome::Unlimited => json!({"access": "unlimited"}),
            Outcome::Refused(Answered { reason: None, .. }) => json!({"access": "rejected"}),
            Outcome::Refused(Answered { status, reason, .. }) => {
                json!({"access": "refused", "status": status, "reason": reason})
            }
            Outcome::Counted { subject, due } => {
                let mut windows: Vec<_> =
                    due.limits().map(|applied| window(self.config, subject, applied)).collect();
                if let Some(live) = live {
                    live.add_to(&mut windows);
                }
                json!({
                    "access": "limited",
                    "name": subject.name(),
                    "identity": subject.id(),
                    "scope": subject.scope(),
                    "plan": subject.plan(),
                    "group": subject.group(),
                    "claims": claims::as_json(subject),
                    "max_new_identities_per_second": subject.max_new_identities(),
                    "prompt_estimates": if self.config.learns_prompts() { "learned" } else { "rules" },
                    "windows": windows,
                })
            }
        };
        if let Some(members) = answer.as_object_mut() {
            if let Some(route) = &self.route {
                members.insert("endpoint".to_owned(), word(route).into());
            }
            if let Some(live) = live {
                members.insert("fits".to_owned(), live.is_admitted().into());
            }
            if !foreseen.notes.is_empty() {
                members.insert("notes".to_owned(), json!(foreseen.notes));
            }
        }
        answer
    }

    fn as_text(
        &self,
        foreseen: &Foreseen,
        live: Option<&Live>,
        has_body: bool,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        for note in &foreseen.notes {
            writeln!(out, "{note}")?;
        }
        let (subject, due) = match &foreseen.outcome {
            Outcome::Inspected => {
                let what = "inspect: the filter answers about itself, 200 to a GET with the token and 404 to all else; \
                            nothing is forwarded or counted";
                return Ok(writeln!(out, "{what}")?);
            }
            Outcome::Passes(Unlimited::Method) => {
                return Ok(writeln!(out, "passes: no limit is for its method")?);
            }
            // The path has said so.
            Outcome::Passes(_) => return Ok(()),
            Outcome::Unlimited => return Ok(writeln!(out, "unlimited: nothing is counted")?),
            Outcome::Refused(answered) => return Ok(writeln!(out, "{}", answered.in_words())?),
            Outcome::Counted { subject, due } => (subject, due),
        };
        if live.is_some() && !has_body {
            writeln!(out, "without --body nobody knows its tokens, and it costs none here")?;
        }
        writeln!(out, "{}", introduction(subject, self.model))?;
        for line in claims::in_words(subject, due.limits()) {
            writeln!(out, "{line}")?;
        }
        if let Some(most) = subject.max_new_identities() {
            writeln!(
                out,
                "if it is new, and {most} others have come in the same second, \"this key\" is {NEW_IDENTITIES:?}"
            )?;
        }
        if self.config.learns_prompts() {
            writeln!(
                out,
                "prompts that nobody can count exactly are corrected by what earlier answers reported"
            )?;
        }
        let has_budget = due.limits().any(|applied| applied.limit.metric == Metric::CostUsd);
        if has_budget && self.model.is_some() && self.config.price(self.model).is_none() {
            let cost = match self.config.accounting().prices.unpriced {
                Unpriced::Dearest => "as much as the dearest model in prices",
                Unpriced::Free => "nothing",
            };
            writeln!(out, "this model has no price, so it costs {cost}")?;
        }
        if let Some(live) = live {
            return live.write(out);
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
        let rows: Vec<_> = due.limits().map(row).collect();
        Ok(table::write(out, columns, &rows)?)
    }
}

fn window(config: &Config, subject: &Subject, applied: &Applied) -> Value {
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
        "max_wait_ms": limit.enforcement.wait(),
        "on_limit": on_limit(applied),
        "dry_run": applied.dry_run,
        "warn_at": limit.warns_from(),
        "claim": claims::of_limit(subject, limit),
        "counter": counter(config, applied),
    })
}

/// The name of its counter in Redis.
fn counter(config: &Config, applied: &Applied) -> String {
    let limit = &applied.limit;
    let namespace = config.namespace();
    Keyspace::new(&namespace).counter(&applied.scope, &applied.identity, &limit.name, &limit.window)
}

fn introduction(subject: &Subject, model: Option<&str>) -> String {
    let name = subject.name().map_or_else(|| "no name".to_owned(), |name| format!("{name:?}"));
    let group = subject.group().map(|group| format!(", group {group:?}")).unwrap_or_default();
    let model = model.map_or_else(|| "any model".to_owned(), |model| format!("model {model:?}"));
    format!("{name}{group}, {model}, id {}", subject.id())
}

fn row(applied: &Applied) -> [String; 7] {
    let limit = &applied.limit;
    let wait = limit.enforcement.wait();
    let if_exceeded = match (applied.dry_run, applied.continues(), wait) {
        (true, ..) => "forwarded (dry run)".to_owned(),
        (false, Some(how), _) => goes_on(how),
        (false, None, Millis::ZERO) => "refused".to_owned(),
        (false, None, wait) => format!("waits up to {}", go_duration(wait)),
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

/// How a request goes on that is over a limit.
fn goes_on(how: &Continuation) -> String {
    let model = how.model.as_ref().map(|model| format!(" for {model}")).unwrap_or_default();
    let header = how.header.as_ref().map(|header| format!(" with {}: {}", header.name, header.value));
    format!("goes on{model}{}", header.unwrap_or_default())
}

/// The same, as the configuration says it; `refuse` or `wait` if it does not go on.
fn on_limit(applied: &Applied) -> Value {
    match applied.continues() {
        Some(how) => {
            let header = how.header.as_ref();
            let header = header.map(|header| json!({"name": header.name, "value": header.value}));
            json!({"continue": true, "header": header, "model": how.model})
        }
        None if applied.limit.enforcement.wait().is_zero() => json!("refuse"),
        None => json!("wait"),
    }
}

fn method(text: &str) -> Result<String, &'static str> {
    let is_method = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_method { Ok(text.to_ascii_uppercase()) } else { Err("expected a method, such as GET") }
}
