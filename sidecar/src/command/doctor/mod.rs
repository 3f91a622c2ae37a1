//! `doctor`: whether the filter of a running Envoy limits as it should, in plain words.
//!
//! It asks whatever it is given: the filter itself, where `inspect` is set; Envoy's admin interface; a sidecar, which
//! asks Redis. It changes nothing, charges nothing, and says what it cannot see. [`envoy`], [`admin`] and [`sidecar`]
//! ask; [`outage`] and [`clocks`] say what follows from the answers together.

mod admin;
mod clocks;
mod envoy;
mod findings;
mod outage;
mod sidecar;
mod site;

use super::{Failure, Verdict};
use crate::store::report::Report;
use clap::Args;
use clocks::Clocks;
use findings::Findings;
use llm_rate_limit::config::{Config, Secret};
use llm_rate_limit::session::inspection::Inspection;
use site::Site;
use std::io::Write;

/// What to ask.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Asked {
    /// Where clients reach Envoy: http://host:port
    #[arg(long, value_name = "URL")]
    envoy: Option<String>,
    /// The path of "inspect" in the filter's configuration, at which the filter answers about itself
    #[arg(long, value_name = "PATH", requires = "envoy")]
    inspect: Option<String>,
    /// The token whose SHA-256 that has
    #[arg(long, value_name = "TOKEN", env = "INSPECT_TOKEN", hide_env_values = true)]
    inspect_token: Option<Secret>,
    /// Envoy's admin interface: http://host:port
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// The sidecar: http://host:port or unix:/path
    #[arg(long, value_name = "URL", env = "SIDECAR_URL")]
    sidecar: Option<String>,
    /// The sidecar's AUTH_TOKEN
    #[arg(long, value_name = "TOKEN", env = "AUTH_TOKEN", hide_env_values = true)]
    auth_token: Option<Secret>,
}

/// What is known, from whoever has said it.
#[derive(Default)]
struct Facts {
    /// What the filter says of itself.
    inspection: Option<Inspection>,
    /// The filter's configuration, as Envoy's admin interface shows it.
    config: Option<Config>,
    /// The port at which clients reach Envoy.
    port: Option<u16>,
    /// Whether the filter has another token than the sidecar's, as far as that is known.
    has_another_token: bool,
    /// What Redis says of itself, by a sidecar that took the token given here.
    report: Option<Report>,
    clocks: Clocks,
}

/// Asks, and prints what it finds.
pub(super) fn doctor(asked: &Asked, out: &mut impl Write) -> Result<Verdict, Failure> {
    let [envoy, admin, sidecar] = [&asked.envoy, &asked.admin, &asked.sidecar]
        .map(|url| url.as_deref().filter(|url| !url.is_empty()).map(Site::new).transpose());
    let (envoy, admin, sidecar) = (envoy?, admin?, sidecar?);
    if envoy.is_none() && admin.is_none() && sidecar.is_none() {
        return Err(Failure("nothing to ask: give --envoy, --admin or --sidecar".to_owned()));
    }
    let mut findings = Findings::default();
    let mut facts = Facts { port: envoy.as_ref().and_then(Site::port), ..Facts::default() };
    if let Some(site) = &envoy {
        let inspect = asked.inspect.as_deref().map(|path| (path, asked.inspect_token.as_ref()));
        envoy::ask(site, inspect, &mut facts, &mut findings);
    }
    match &admin {
        Some(site) => admin::ask(site, asked.auth_token.as_ref(), &mut facts, &mut findings),
        None if facts.inspection.is_some() => {
            findings.unseen("what stands around the filter in Envoy's configuration: give --admin");
        }
        None => findings.unseen(
            "whether the filter is active, and with which configuration: give --admin, or set \"inspect\" in the \
             filter's configuration and give --inspect",
        ),
    }
    match &sidecar {
        Some(site) => sidecar::ask(site, asked.auth_token.as_ref(), &mut facts, &mut findings),
        None if facts.uses_local_store() => {}
        None => findings.unseen("whether Redis answers, and may lose counters: give --sidecar"),
    }
    outage::foresee(&facts, &mut findings);
    facts.clocks.compare(&mut findings);
    findings.write(out)?;
    Ok(findings.verdict())
}
