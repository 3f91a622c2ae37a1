//! The calls between Envoy and a filter for a request of the main table. Their number is the same on any machine.

use crate::cases::Table;
use crate::stacks::{Kind, Stacks};
use llm_rate_limit_tests::calls::Calls;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Requests on each connection, after one that has left nothing to do.
const REQUESTS: usize = 10;

/// How long Envoy may take to write them down.
const WITHIN: Duration = Duration::from_secs(20);

/// A table of the calls for a request of each filter in `table`.
pub fn measure(stacks: &mut Stacks, table: &Table) -> String {
    let mut text = String::from(
        "## Host calls\n\nCalls for a request, 32 at a time. A call that returns bytes makes Envoy enter the VM once \
         more.\n\n| | calls | of which fields of the log | of which return bytes | entries into the VM |\n\
         |---|---|---|---|---|\n",
    );
    for case in &table.cases {
        if matches!(case.kind, Kind::Bare | Kind::LocalRateLimit) {
            continue;
        }
        let envoy = &stacks.get(case.kind, case.workers, case.logs).envoy;
        let load = table.load(case);
        load.send(envoy.address(), 1);
        std::thread::sleep(Duration::from_millis(500));
        envoy.post("/logging?wasm=trace");
        let begin = envoy.log().len();
        load.send(envoy.address(), REQUESTS);
        let requests = load.connections * REQUESTS;
        let deadline = Instant::now() + WITHIN;
        let log = || envoy.log().get(begin..).unwrap_or_default().to_owned();
        while log().matches("[host->vm] proxy_on_delete(").count() < requests {
            assert!(Instant::now() < deadline, "requests have not ended in Envoy's log");
            std::thread::sleep(Duration::from_millis(50));
        }
        // Settlements follow.
        std::thread::sleep(Duration::from_millis(200));
        envoy.post("/logging?wasm=info");
        let calls = Calls::of(&log());
        let a_request = |count: usize| count as f64 / requests as f64;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            case.name(),
            a_request(calls.without_log_fields() + calls.of_log_fields()),
            a_request(calls.of_log_fields()),
            a_request(calls.allocations),
            a_request(calls.all_entries()),
        );
    }
    text
}
