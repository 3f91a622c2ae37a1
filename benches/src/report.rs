//! `benches/results.md`: the figures as tables.

use crate::beginnings::{self, Beginning};
use crate::cases::Table;
use crate::goals::Goal;
use crate::rounds::{Effort, Results, Turn};
use crate::stacks::Kind;
use crate::statistics::Spread;
use std::fmt::Write as _;

/// The heading of the page, and how its figures come about.
pub fn introduction(machine: &str, effort: Effort) -> String {
    format!(
        "# What the filter costs\n\n`make bench` writes this page.\n\n{machine}\n\
         Each figure is the median of {} rounds, and what stands in brackets the smallest and the largest. A round \
         gives every gateway one turn: {:.1} s with 32 connections that send one request after the other, then a \
         quarter of that with one. Ratios are to the first row of their table in the same round. Clients and upstream \
         run on the same machine, as threads of the benchmark, which send and answer prepared bytes. All Envoys have \
         the shipped configuration, without its access log unless the table says otherwise.\n\n\
         | gateway | before Envoy's router |\n|---|---|\n\
         | bare Envoy | nothing |\n\
         | local_ratelimit | Envoy's own filter for requests of one process, with one bucket |\n\
         | empty wasm filter | a wasm filter that does nothing |\n\
         | the floor | a wasm filter that reads the request's headers and body and the response's headers and body, \
         adds nine headers, sets one property, and decides nothing ([benches/floor](floor/src/filter.rs)) |\n\
         | wasm filter that refuses | one that reads the request's headers and answers the same 429 |\n\
         | local | this filter, which counts in Envoy |\n\
         | redis | this filter, which counts in Redis through the sidecar, on TCP or a unix socket |\n",
        effort.rounds,
        effort.turn.as_secs_f64()
    )
}

/// The goals beside what was found.
pub fn goals(goals: &[Goal]) -> String {
    let mut text = String::from("## Goals\n\n| figure | wanted | found | met |\n|---|---|---|---|\n");
    for Goal { what, wanted, found, is_met } in goals {
        let _ = writeln!(text, "| {what} | {wanted} | {found} | {} |", if *is_met { "yes" } else { "no" });
    }
    text
}

/// One table's figures.
pub fn results(results: &Results) -> String {
    let Table { title, cases, .. } = &results.table;
    let mut text = format!("## {title}\n\n{}\n\n", about(results));
    text.push_str(
        "| | requests/s | ratio | lone p50, µs | p50, µs | p99, µs | processor, µs: Envoy | sidecar | Redis | \
         clients and upstream | whole stack, ratio |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (at, case) in cases.iter().enumerate() {
        let median = |figure: fn(&Turn) -> f64| results.figure(at, figure).median;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} | {} |",
            case.name(),
            median(|turn| turn.rate),
            spread(results.ratio(at, |turn| turn.rate)),
            median(|turn| turn.lone),
            median(|turn| turn.median),
            median(|turn| turn.p99),
            micros(median(|turn| turn.cpu[0])),
            micros(median(|turn| turn.cpu[1])),
            micros(median(|turn| turn.cpu[2])),
            micros(median(|turn| turn.driver)),
            spread(results.ratio(at, Turn::whole_cpu)),
        );
    }
    for (at, case) in cases.iter().enumerate() {
        let [per_script, scripts] =
            [results.figure(at, |turn| turn.scripts[0]), results.figure(at, |turn| turn.scripts[1])];
        if scripts.most > 0.0 {
            let _ = write!(
                text,
                "\n{}: Redis takes {:.1} µs for a script, and {:.2} scripts a request.",
                case.name(),
                per_script.median,
                scripts.median
            );
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// The load of a table, in a sentence.
fn about(results: &Results) -> String {
    let Table { shape, cases, .. } = &results.table;
    let answer = if shape.streams { "a stream of events" } else { "JSON" };
    let workers = cases[0].workers;
    let identities = cases[0].identities;
    format!(
        "A prompt of {} bytes, answered with {answer}; {workers} {} of Envoy; {identities} {}.",
        shape.prompt,
        if workers == 1 { "worker" } else { "workers" },
        if identities == 1 { "identity" } else { "identities in turn" },
    )
}

/// How gateways begin.
pub fn beginnings(all: &[Beginning]) -> String {
    let mut text = String::from(
        "## Start and memory\n\nFrom the start of the process until it is ready, and its memory a second later. What a \
         filter adds is beyond bare Envoy with as many workers.\n\n\
         | | workers | ready after, s | memory, MB | beyond bare Envoy, MB |\n|---|---|---|---|---|\n",
    );
    for Beginning { kind, workers, seconds, memory } in all {
        let bare = beginnings::find(all, Kind::Bare, *workers);
        let beyond = bare.map_or(0.0, |bare| memory.median - bare.memory.median);
        let _ = writeln!(
            text,
            "| {} | {workers} | {} | {:.0} | {:.0} |",
            kind.name(),
            spread(*seconds),
            memory.median / 1e6,
            beyond / 1e6
        );
    }
    text
}

/// The memory after load of each process in the tables, in MB.
pub fn memory(all: &[Results]) -> String {
    let mut text = String::from(
        "## Memory under load\n\nResident after the last turn of each gateway.\n\n\
         | table | gateway | Envoy, MB | sidecar, MB | Redis, MB |\n|---|---|---|---|---|\n",
    );
    for results in all {
        for (case, turns) in results.table.cases.iter().zip(&results.turns) {
            let Some(last) = turns.last() else { continue };
            let [envoy, sidecar, redis] = last
                .memory
                .map(|bytes| if bytes == 0.0 { String::new() } else { format!("{:.0}", bytes / 1e6) });
            let title = results.table.title;
            let _ = writeln!(text, "| {title} | {} | {envoy} | {sidecar} | {redis} |", case.name());
        }
    }
    text
}

/// `text` with its paragraphs in lines of at most 120 columns; rows of tables and code stay as they are.
pub fn wrapped(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + text.len() / 50);
    for line in text.lines() {
        if line.starts_with('|') || line.starts_with("    ") {
            result.push_str(line);
        } else {
            let mut column = 0;
            for word in line.split(' ') {
                let width = word.chars().count();
                if column > 0 && column + 1 + width > 120 {
                    result.push('\n');
                    column = 0;
                } else if column > 0 {
                    result.push(' ');
                    column += 1;
                }
                result.push_str(word);
                column += width;
            }
        }
        result.push('\n');
    }
    result
}

/// A ratio with its spread.
pub fn spread(spread: Spread) -> String {
    format!("{:.2} ({:.2} to {:.2})", spread.median, spread.least, spread.most)
}

/// Microseconds; nothing for none.
fn micros(micros: f64) -> String {
    if micros == 0.0 { String::new() } else { format!("{micros:.1}") }
}
