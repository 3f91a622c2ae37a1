//! `--watch`: a report that is printed again and again, until it is interrupted.

use super::Failure;
use clap::{Args, value_parser};
use std::io::{IsTerminal as _, Write, stdout};
use std::thread::sleep;
use std::time::Duration;

/// Clears a terminal, and goes to its beginning.
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";

/// Whether to print a report again.
#[derive(Clone, Debug, Args)]
pub struct Watch {
    /// Print again every so many seconds, 2 by default, until interrupted
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2",
        value_parser = value_parser!(u64).range(1..=3600)
    )]
    watch: Option<u64>,
}

/// Prints what `report` writes, once or as `watch` says. A report that fails later than the first is shown as its
/// error, and the next is tried.
pub(super) fn repeated<W: Write>(
    watch: &Watch,
    out: &mut W,
    report: impl Fn(&mut Vec<u8>) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let mut page = Vec::new();
    report(&mut page)?;
    out.write_all(&page)?;
    let Some(seconds) = watch.watch else { return Ok(true) };
    let clears = stdout().is_terminal();
    loop {
        out.flush()?;
        sleep(Duration::from_secs(seconds));
        page.clear();
        if let Err(why) = report(&mut page) {
            page.clear();
            writeln!(page, "error: {why}")?;
        }
        out.write_all(if clears { CLEAR } else { b"\n" })?;
        out.write_all(&page)?;
    }
}
