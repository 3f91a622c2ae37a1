//! `usage` and `reset`: how counters stand, and starting them anew, by asking a running sidecar.
//!
//! Counters are found by whose they are. A key's are under its digest; in which scope, and whether that is hashed with
//! a secret, is the filter configuration's business, so that it is needed where groups or a secret are used.

use super::client::Client;
use super::table::{self, Align};
use super::{Failure, configuration, key as presented};
use crate::settings::Secret;
use crate::usage::{Reset, Usage, WindowUsage};
use clap::{ArgGroup, Args};
use llm_rate_limit::answer::{amount, go_duration};
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::policy::{Access, GLOBAL, group_scope, model_scope};
use std::io::Write;
use std::path::PathBuf;

/// Whose counters, and where to ask for them.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["key", "id", "group", "model", "global"]))]
pub struct Selection {
    /// The counters of this key, - to read it from standard input; --config tells which they are if it is in a group
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
    /// The filter configuration, which says in which group a key is and whether ids are hashed with a secret
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "group", "model", "global"])]
    config: Option<PathBuf>,
    /// The scope of --id: by default the id itself; for a key in a group, group-NAME
    #[arg(long, conflicts_with_all = ["key", "group", "model", "global"])]
    scope: Option<String>,
    /// Where the sidecar listens: http://host:port or unix:/path
    #[arg(long, env = "SIDECAR_URL", default_value = "http://127.0.0.1:8081")]
    url: String,
    /// The sidecar's AUTH_TOKEN
    #[arg(long, env = "AUTH_TOKEN", hide_env_values = true)]
    auth_token: Option<Secret>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Counters of one owner.
struct Owner {
    scope: String,
    identity: String,
}

impl Owner {
    /// Those that are alone in their scope.
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
            Access::Unlimited => Err(Failure("this key is unlimited: nothing of it is counted".to_owned())),
            Access::Rejected => Err(Failure("this key is not known: nothing of it is counted".to_owned())),
        }
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.url, self.auth_token.as_ref())
    }
}

/// Prints how the windows stand.
pub(super) fn show(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let Owner { scope, identity } = selection.owner()?;
    let usage: Usage = selection.client()?.usage(&scope, &identity)?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&usage)?)?;
    } else {
        print(&usage.windows, "nothing is counted", out)?;
    }
    Ok(true)
}

/// Starts the windows anew, and prints how they stood.
pub(super) fn reset(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let Owner { scope, identity } = selection.owner()?;
    let reset: Reset = selection.client()?.reset(&scope, &identity)?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reset)?)?;
    } else {
        if !reset.removed.is_empty() {
            writeln!(out, "these windows start anew; they stood so:")?;
        }
        print(&reset.removed, "nothing was counted", out)?;
    }
    Ok(true)
}

fn print(windows: &[WindowUsage], nothing: &str, out: &mut impl Write) -> Result<(), Failure> {
    if windows.is_empty() {
        return Ok(writeln!(out, "{nothing}")?);
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
