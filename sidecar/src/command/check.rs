//! `check-config`: reads configurations with the filter's own parser, so that what passes here passes in Envoy.

use super::{Failure, contents};
use llm_rate_limit::config::Config;
use std::io::Write;
use std::path::PathBuf;

/// Checks each of `files`: a line for each problem, or one that says that there is none.
pub(super) fn check(files: &[PathBuf], out: &mut impl Write) -> Result<bool, Failure> {
    let mut all_well = true;
    for file in files {
        let name = file.display();
        match Config::from_bytes(&contents(file)?) {
            Ok(_) => writeln!(out, "{name}: ok")?,
            Err(error) => {
                all_well = false;
                for problem in error.problems() {
                    writeln!(out, "{name}: {problem}")?;
                }
            }
        }
    }
    Ok(all_well)
}
