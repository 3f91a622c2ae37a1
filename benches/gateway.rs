//! `make bench`: measures everything, and writes `benches/results.md`, `docs/throughput.svg`, `docs/burst.svg` and the
//! tables of `docs/sizing.md`.
//!
//! An argument chooses the tables with that text in their titles, prints them and writes nothing but the picture of a
//! burst, which is the same on every machine. `QUICK=1` takes a quarter of the time for the results, and leaves growth
//! out.

use llm_rate_limit_bench::fleet::{self, Scripts};
use llm_rate_limit_bench::rounds::Effort;
use llm_rate_limit_bench::stacks::Stacks;
use llm_rate_limit_bench::upstream::Upstream;
use llm_rate_limit_bench::{
    beginnings, burst, cases, chart, goals, growth, host_calls, instructions, large_body, machine, peers,
    redis_alone, report, rounds,
};
use llm_rate_limit_tests::wasm;
use std::fs;

/// How often each gateway is started, and where time is short.
const STARTS: usize = 3;
const QUICK_STARTS: usize = 1;

/// The line of `docs/sizing.md` after which its tables follow.
const TABLES_FOLLOW: &str = "<!-- make bench writes what follows -->\n";

fn main() {
    if instructions::run_if_asked() {
        return;
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |title: &str| wanted.as_ref().is_none_or(|part| title.contains(part.as_str()));
    let is_quick = std::env::var("QUICK").is_ok_and(|quick| quick != "0");
    let effort = Effort::new(is_quick);
    let introduction = report::introduction(&machine::description(), effort);

    let upstream = Upstream::start();
    let mut stacks = Stacks::new(upstream.address());
    let tables = cases::tables().into_iter().filter(|table| is_wanted(table.title)).collect();
    let results = rounds::measure(&mut stacks, tables, effort);
    let mut sections: Vec<String> = results.iter().map(report::results).collect();
    sections.push(report::memory(&results));
    if is_wanted("Host calls") {
        sections.push(host_calls::measure(&mut stacks, &cases::tables()[0]));
    }
    if is_wanted("A burst") {
        let ours = burst::measure();
        fs::write(wasm::root().join("docs/burst.svg"), burst::svg(&ours)).unwrap();
        sections.push(burst::report(&ours));
    }
    if is_wanted("Peers") {
        sections.push(peers::measure(&mut stacks, upstream.address(), effort));
    }
    stacks.stop();
    let starts = if is_quick { QUICK_STARTS } else { STARTS };
    let beginnings =
        if is_wanted("Start and memory") { beginnings::measure(&stacks, starts) } else { Vec::new() };
    if !beginnings.is_empty() {
        sections.push(report::beginnings(&beginnings));
    }
    if is_wanted("Large bodies") {
        sections.push(large_body::measure(&stacks));
    }
    let grows = is_wanted("Growth") && (wanted.is_some() || !is_quick);
    let redis =
        if is_wanted("Redis") || grows { redis_alone::measure(stacks.fleet(), effort) } else { Vec::new() };
    if !redis.is_empty() {
        sections.push(redis_alone::report(&redis));
    }
    if is_wanted("Instructions") {
        sections.push(instructions::measure());
    }
    let goals = goals::of(&results, &beginnings, &wasm::filter());
    let page = format!("{introduction}\n{}\n{}", report::goals(&goals), sections.join("\n"));
    let page = report::wrapped(&page);
    println!("{page}");

    let growth = grows.then(|| {
        let [reserve, settle] = redis_alone::alone(&redis);
        let tables = growth::measure(&stacks, effort);
        report::wrapped(&format!("{tables}\n{}", fleet::report(Scripts { reserve, settle })))
    });
    if let Some(growth) = &growth {
        println!("{growth}");
    }
    if wanted.is_some() {
        return;
    }
    let path = |name: &str| wasm::root().join(name);
    fs::write(path("benches/results.md"), page).unwrap();
    let main = goals::table(&results, cases::MAIN).unwrap();
    fs::write(path("docs/throughput.svg"), chart::svg(main)).unwrap();
    if let Some(growth) = growth {
        let sizing = fs::read_to_string(path("docs/sizing.md")).unwrap();
        let (prose, _) = sizing.split_once(TABLES_FOLLOW).unwrap();
        fs::write(path("docs/sizing.md"), format!("{prose}{TABLES_FOLLOW}\n{growth}")).unwrap();
    }
}
