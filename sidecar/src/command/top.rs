//! `top`: the busiest identities and those closest to a limit, as a running sidecar has seen them lately.

use super::Failure;
use super::client::Address;
use super::input::configuration;
use super::table::{self, Align};
use super::watch::{Watch, repeated};
use crate::top::{Busy, Near, Owner, Ranking};
use clap::{Args, value_parser};
use llm_rate_limit::answer::{amount_of_limit, go_duration};
use llm_rate_limit::store::wire::path;
use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

/// The ranking to show.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    /// The most identities to show in each list
    #[arg(long, value_name = "NUMBER", default_value = "10", value_parser = value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// The filter configuration, to show the names of its keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    sidecar: Address,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The names of keys, by their ids in the store.
type Names = HashMap<String, String>;

/// Prints the ranking.
pub(super) fn top(asked: &Asked, out: &mut impl Write) -> Result<bool, Failure> {
    let config = asked.config.as_deref().map(configuration).transpose()?;
    let subjects = config.iter().flat_map(|config| config.subjects());
    let names: Names = subjects.filter_map(|it| Some((it.id().to_owned(), it.name()?.to_owned()))).collect();
    let client = asked.sidecar.client()?;
    let limit = asked.limit.to_string();
    repeated(&asked.watch, out, |out| {
        let ranking: Ranking = client.get(path::TOP, &[("limit", &limit)])?;
        if asked.json {
            return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&ranking)?)?);
        }
        write(&ranking, &names, out)
    })
}

fn write(ranking: &Ranking, names: &Names, out: &mut impl Write) -> Result<(), Failure> {
    let over = go_duration(ranking.over_ms);
    if ranking.busiest.is_empty() && ranking.nearest.is_empty() {
        return Ok(writeln!(out, "this sidecar has decided no request in the last {over}")?);
    }
    writeln!(out, "busiest in the last {over}, by requests that came to this sidecar:")?;
    let columns = [
        ("WHO", Align::Left),
        ("REQUESTS", Align::Right),
        ("REFUSED", Align::Right),
        ("TOKENS", Align::Right),
    ];
    let rows: Vec<_> = ranking.busiest.iter().map(|it| busy(it, names)).collect();
    table::write(out, columns, &rows)?;
    if ranking.missing > 0 {
        writeln!(out, "many have come: each number may lack up to {}", ranking.missing)?;
    }
    writeln!(out, "\nclosest to a limit:")?;
    let columns = [
        ("WHO", Align::Left),
        ("LIMIT ON", Align::Left),
        ("WINDOW", Align::Left),
        ("USED", Align::Right),
        ("LIMIT", Align::Right),
        ("SHARE", Align::Right),
        ("RESET", Align::Right),
    ];
    let rows: Vec<_> = ranking.nearest.iter().map(|it| near(it, names)).collect();
    Ok(table::write(out, columns, &rows)?)
}

fn busy(busy: &Busy, names: &Names) -> [String; 4] {
    let tokens = busy.tokens.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
    [who(&busy.owner, names), busy.requests.to_string(), busy.refused.to_string(), tokens]
}

fn near(near: &Near, names: &Names) -> [String; 7] {
    let units = |units| amount_of_limit(&near.name, units);
    let percent = u128::from(near.used.get()) * 100 / u128::from(near.limit.get().max(1));
    [
        who(&near.owner, names),
        near.name.clone(),
        near.window.clone(),
        units(near.used),
        units(near.limit),
        format!("{percent}%"),
        go_duration(near.reset_ms),
    ]
}

/// An owner: its name or its id, with the scope and the namespace if it has others than its own.
fn who(owner: &Owner, names: &Names) -> String {
    let mut text = match names.get(&*owner.identity) {
        Some(name) => format!("{name:?} {}", owner.identity),
        None => owner.identity.to_string(),
    };
    if owner.scope != owner.identity {
        text.push_str(&format!(" in {}", owner.scope));
    }
    if !owner.namespace.is_empty() {
        text.push_str(&format!(" ({})", owner.namespace));
    }
    text
}
