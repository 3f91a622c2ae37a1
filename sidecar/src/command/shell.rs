//! `completions` and `man`: what shells and `man` show of the command line, made from it.

use super::{CommandLine, Failure};
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::Write;

/// Prints the completions of `shell`.
pub(super) fn completions(shell: Shell, out: &mut impl Write) -> Result<bool, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "llm-rate-limit", &mut script);
    out.write_all(&script)?;
    Ok(true)
}

/// Prints the manual page: the command, and each of its commands with their options.
pub(super) fn man(out: &mut impl Write) -> Result<bool, Failure> {
    let mut command = CommandLine::command();
    command.build();
    let mut page = Vec::new();
    let whole = Man::new(command.clone());
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        writeln!(page, ".SH {}", sub.get_name().to_uppercase())?;
        let man = Man::new(sub.clone());
        let mut part = Vec::new();
        man.render_synopsis_section(&mut part)?;
        man.render_description_section(&mut part)?;
        man.render_options_section(&mut part)?;
        // Its sections are parts of this one.
        let part = String::from_utf8_lossy(&part).replace("\n.SH ", "\n.SS ");
        let part = part.strip_prefix(".SH ").map_or_else(|| part.clone(), |rest| format!(".SS {rest}"));
        page.extend_from_slice(part.as_bytes());
    }
    whole.render_version_section(&mut page)?;
    out.write_all(&page)?;
    Ok(true)
}
