//! `usage` and `reset`: show counters and reset them, by asking a running sidecar. [`super::grants`] changes their
//! limits.
//!
//! An owner's identity and scope find its counters. The identity of a key is its digest. The filter configuration says
//! whether a secret goes into that digest, which scope the key is in and which namespace its counters have, so it is
//! needed where any of these is used. [`super::nothing_found`] says what may be why there are none.

use super::Failure;
use super::client::{Address, Client};
use super::input::{configuration, key as presented};
use super::nothing_found::{self, Asked};
use super::table::{self, Align};
use super::watch::{Watch, repeated};
use crate::store::usage::{Reset, Usage, WindowUsage};
use clap::{ArgGroup, Args};
use llm_rate_limit::answer::{amount_of_limit, date, go_duration};
use llm_rate_limit::config::Config;
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::{self, Access, Applied, Candidates, GLOBAL, Subject, group_scope, model_scope};
use llm_rate_limit::store::wire::path;
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
    /// The counters that the keys of this group share; for a group in another, --config names that
    #[arg(long)]
    group: Option<String>,
    /// The counters that all requests for the models of this pattern share, as the configuration writes it
    #[arg(long, value_name = "PATTERN")]
    model: Option<String>,
    /// The counters that all requests share
    #[arg(long)]
    global: bool,
    /// The filter configuration: it says which group a key is in, whether a secret goes into its id, and the namespace
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The scope of --id: by default that of the key in --config, or the id itself; for a key in a group, group-NAME
    #[arg(long, conflicts_with_all = ["key", "group", "model", "global"])]
    scope: Option<String>,
    /// The namespace of the counters: by default that of --config, else none
    #[arg(long)]
    namespace: Option<String>,
    #[command(flatten)]
    pub(super) sidecar: Address,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The usage to show.
#[derive(Clone, Debug, Args)]
pub struct Shown {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    watch: Watch,
}

/// The owner of counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) scope: String,
    pub(super) identity: String,
    pub(super) namespace: String,
}

impl Owner {
    /// The query that selects it.
    pub(super) fn query(&self) -> Vec<(&str, &str)> {
        let mut query = vec![("identity", self.identity.as_str()), ("scope", self.scope.as_str())];
        if !self.namespace.is_empty() {
            query.push(("namespace", &self.namespace));
        }
        query
    }
}

/// What a selection asks for, and the configuration that it goes by.
pub(super) struct Selected {
    pub(super) asked: Asked,
    pub(super) owner: Owner,
    pub(super) config: Option<Config>,
}

impl Selection {
    pub(super) fn select(&self) -> Result<Selected, Failure> {
        let config = self.config.as_deref().map(configuration).transpose()?;
        let asked = self.asked()?;
        let (scope, identity) = match &asked {
            Asked::Key(key) => of_key(key, config.as_ref())?,
            Asked::Id(id) => (self.scope_of(id, config.as_ref()), id.clone()),
            Asked::Group(name) => (scope_of_group(name, config.as_ref()), group_scope(name)),
            Asked::Model(pattern) => (model_scope(pattern), model_scope(pattern)),
            Asked::Global => (GLOBAL.to_owned(), GLOBAL.to_owned()),
        };
        let configured = config.as_ref().map(|config| config.namespace().to_string());
        let namespace = self.namespace.clone().or(configured).unwrap_or_default();
        Ok(Selected { asked, owner: Owner { scope, identity, namespace }, config })
    }

    fn asked(&self) -> Result<Asked, Failure> {
        Ok(match (&self.key, &self.id, &self.group, &self.model) {
            (Some(key), ..) => Asked::Key(presented(key)?),
            (_, Some(id), ..) => Asked::Id(id.clone()),
            (_, _, Some(group), _) => Asked::Group(group.clone()),
            (_, _, _, Some(model)) => Asked::Model(model.clone()),
            (None, None, None, None) => Asked::Global,
        })
    }

    fn scope_of(&self, id: &str, config: Option<&Config>) -> String {
        let configured =
            || config?.subjects().find(|subject| subject.id() == id).map(|it| it.scope().to_owned());
        self.scope.clone().or_else(configured).unwrap_or_else(|| id.to_owned())
    }
}

impl Selected {
    /// Says what may be why there are no counters.
    pub(super) fn explain_nothing(&self, client: &Client, out: &mut impl Write) -> Result<(), Failure> {
        for hint in nothing_found::hints(&self.asked, &self.owner, self.config.as_ref(), client) {
            writeln!(out, "hint: {hint}")?;
        }
        Ok(())
    }
}

/// The scope of the counters of the group `name`: its own, unless the configuration has it in another group.
fn scope_of_group(name: &str, config: Option<&Config>) -> String {
    let is_it = |applied: &Applied| applied.owner == policy::Owner::Group(name.into());
    let of =
        |subject: Subject| subject.limits(&Candidates::UNKNOWN).find(is_it).map(|it| it.scope.to_string());
    config.and_then(|config| config.subjects().find_map(of)).unwrap_or_else(|| group_scope(name))
}

/// The scope and the identity of the counters of `key`.
fn of_key(key: &str, config: Option<&Config>) -> Result<(String, String), Failure> {
    let identity = Identity::of_key(key);
    let Some(config) = config else {
        let id = identity.id().to_string();
        return Ok((id.clone(), id));
    };
    match config.access(Some(&identity)) {
        Access::Limited(subject) => Ok((subject.scope().to_owned(), subject.id().to_owned())),
        Access::Unlimited | Access::Rejected => Err(Failure(nothing_found::uncounted_key(&identity, config))),
    }
}

/// Prints the usage of the windows.
pub(super) fn show(shown: &Shown, out: &mut impl Write) -> Result<bool, Failure> {
    let selection = &shown.selection;
    let selected = selection.select()?;
    let client = selection.sidecar.client()?;
    repeated(&shown.watch, out, |out| {
        let usage: Usage = client.get(path::USAGE, &selected.owner.query())?;
        if selection.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&usage)?)?);
        }
        print(&usage.windows, "no usage", out)?;
        if usage.windows.is_empty() { selected.explain_nothing(&client, out) } else { Ok(()) }
    })
}

/// Resets the windows, and prints their usage before.
pub(super) fn reset(selection: &Selection, out: &mut impl Write) -> Result<bool, Failure> {
    let selected = selection.select()?;
    let client = selection.sidecar.client()?;
    let reset: Reset = client.delete(path::USAGE, &selected.owner.query())?;
    if selection.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&reset)?)?;
        return Ok(true);
    }
    if !reset.removed.is_empty() {
        writeln!(out, "reset; usage before the reset:")?;
    }
    print(&reset.removed, "nothing to reset", out)?;
    if reset.removed.is_empty() {
        selected.explain_nothing(&client, out)?;
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
    table::write(out, columns, &rows)?;
    for window in windows {
        for grant in &window.grants {
            let units = amount_of_limit(&window.name, grant.units);
            let (name, label, until) = (&window.name, &window.window, date(grant.until));
            writeln!(out, "granted: {units} more of {name}/{label} until {until}")?;
        }
    }
    Ok(())
}

fn row(window: &WindowUsage) -> [String; 6] {
    let units = |units| amount_of_limit(&window.name, units);
    [
        window.name.clone(),
        window.window.clone(),
        units(window.used),
        units(window.limit),
        units(window.remaining),
        go_duration(window.reset_ms),
    ]
}
