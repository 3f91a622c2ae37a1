//! `check`: reads configurations with the filter's own parser, so that a file that passes here passes in Envoy.
//!
//! It needs no Envoy, no sidecar and no Redis.

use super::Failure;
use super::input::contents;
use llm_rate_limit::config::Config;
use std::io::Write;
use std::path::PathBuf;

/// The hint about keys in plain text.
const KEYS_ARE_SHOWN: &str = "Envoy's config_dump shows the keys: write each as \"key_sha256\", which \
                              `printf %s KEY | sha256sum` prints";
/// The hint about requests that call no LLM.
const OTHERS_COUNT: &str = "requests to endpoints that are no LLM's count too: on a gateway that serves other things, \
                            put the filter on the routes to LLMs, or set \"*\" in \"endpoints\" to \"pass\"";

/// Checks each of `files` and prints a line for each problem, or `ok` and a line for each hint. Returns whether all of
/// them are ok.
pub(super) fn check(files: &[PathBuf], out: &mut impl Write) -> Result<bool, Failure> {
    let mut all_ok = true;
    for file in files {
        let name = file.display();
        match Config::from_bytes(&contents(file)?) {
            Ok(config) => {
                writeln!(out, "{name}: ok")?;
                if config.plain_keys() > 0 {
                    writeln!(out, "{name}: hint: {KEYS_ARE_SHOWN}")?;
                }
                if config.counts_others_by_default() {
                    writeln!(out, "{name}: hint: {OTHERS_COUNT}")?;
                }
            }
            Err(error) => {
                all_ok = false;
                for problem in error.problems() {
                    writeln!(out, "{name}: {problem}")?;
                }
            }
        }
    }
    Ok(all_ok)
}
