//! `usage` and `reset`: show counters and reset them, by asking a running sidecar.
//!
//! An owner's identity and scope find its counters. The identity of a key is its digest. The filter configuration says
//! whether a secret goes into that digest and which scope the key is in, so it is needed where groups or a secret are
//! used.

use super::Failure;
use super::client::Client;
use super::input::{configuration, key as presented};
use super::table::{self, Align};
use crate::store::usage::{Reset, Usage, WindowUsage};
use clap::{ArgGroup, Args};
use llm_rate_limit::answer::{amount, go_duration};
use llm_rate_limit::config::Secret;
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::policy::{Access, GLOBAL, group_scope, model_scope};
use std::io::Write;
use std::path::PathBuf;

/// The owner of the counters, and the sidecar to ask.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("owner").required(true).args(["key", "id", "group", "model", "global"]))]
pub struct Selection {
    /// The counters of this key; - reads it from standard input. For a key in a group, --config names the group
    #[arg(long)]
    key: Option<String>,
    /// The counters of this id, as logs show it
    #[arg(long)]
    id: Option<String>,
    /// The counters that the keys of this group share
    #[arg(long)]
    group: Option<String>,
    /// The counters that all requests for the models of this pattern share, as the configuration writes it
    #[arg(long, value_name = "PATTERN")]
    model: Option<String>,
    /// The counters that all requests share
    #[arg(long)]
    global: bool,
    /// The filter configuration: it says which group a key is in and whether a secret goes into its id
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "group", "model", "global"])]
    config: Option<PathBuf>,
    /// The scope of --id: by default the id itself; for a key in a group, group-NAME
    #[arg(long, conflicts_with_all = ["key", "group", "model", "global"])]
    scope: Option<String>,
    /// The sidecar's address: http://host:port or unix:/path
    #[arg(long, env = "SIDECAR_URL", default_value = "http://127.0.0.1:8081")]
    url: String,
    /// The sidecar's AUTH_TOKEN
    #[arg(long, env = "AUTH_TOKEN", hide_env_values = true)]
    auth_token: Option<Secret>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The owner of counters.
struct Owner {
    scope: String,
    identity: String,
}

impl Owner {
    /// An owner with a scope of its own.
    fn alone(name: String) -> Self {
        Self { scope: name.clone(), identity: name }
    }
}

impl Selection {
    fn owner(&self) -> Result<Owner, Failure> {
        if let Some(key) = &self.key {
            return self.owner_of_key(key);
        }
        if let Some(id) = &self.id {
            return Ok(Owner {
                scope: self.scope.clone().unwrap_or_else(|| id.clone()),
                identity: id.clone(),
            });
        }
        let group = self.group.as_deref().map(group_scope);
        let model = self.model.as_deref().map(model_scope);
        Ok(Owner::alone(group.or(model).unwrap_or_else(|| GLOBAL.to_owned())))
    }

    fn owner_of_key(&self, key: &str) -> Result<Owner, Failure> {
        let identity = Identity::of_key(&presented(key)?);
        let Some(file) = &self.config else { return Ok(Owner::alone(identity.id().to_string())) };
        match configuration(file)?.access(Some(&identity)) {
            Access::Limited(subject) => {
                Ok(Owner { scope: subject.scope().to_owned(), identity: subject.id().to_owned() })
            }
            Access::Unlimited => {
                Err(Failure("this key is unlimited: its requests are not counted".to_owned()))
            }
            Access::Rejected => Err(Failure("unknown API key: its requests are not counted".to_owned())),
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.auth_token.as_ref())
    }
}

/// Prints the usage of the windows.
pub(super) fn show(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let Owner { scope, identity } = selection.owner()?;
    let usage: Usage = selection.client()?.usage(&scope, &identity)?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&usage)?)?;
    } else {
        print(&usage.windows, "no usage", out)?;
    }
    Ok(true)
}

/// Resets the windows, and prints their usage before.
pub(super) fn reset(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let Owner { scope, identity } = selection.owner()?;
    let reset: Reset = selection.client()?.reset(&scope, &identity)?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reset)?)?;
    } else {
        if !reset.removed.is_empty() {
            writeln!(out, "reset; usage before the reset:")?;
        }
        print(&reset.removed, "nothing to reset", out)?;
    }
    Ok(true)
}

fn print(windows: &[WindowUsage], if_empty: &str, out: &mut impl Write) -> Result<(), Failure> {
    if windows.is_empty() {
        return Ok(writeln!(out, "{if_empty}")?);
    }
    let columns = [
        ("LIMIT ON", Align::Left),
        ("WINDOW", Align::Left),
        ("USED", Align::Right),
        ("LIMIT", Align::Right),
        ("REMAINING", Align::Right),
        ("RESET", Align::Right),
    ];
    let rows: Vec<_> = windows.iter().map(row).collect();
    Ok(table::write(out, columns, &rows)?)
}

fn row(window: &WindowUsage) -> [String; 6] {
    let is_cost = window.name.rsplit('/').next() == Some(Metric::CostUsd.name());
    let units =
        |units| if is_cost { format!("${}", amount(Metric::CostUsd, units)) } else { units.to_string() };
    [
        window.name.clone(),
        window.window.clone(),
        units(window.used),
        units(window.limit),
        units(window.remaining),
        go_duration(window.reset_ms),
    ]
}
