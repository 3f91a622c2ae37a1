//! README's claims hold: Envoy enforces its limits and changes them, and its numbers are those that were measured.
//! Threats and faults have the tests that their pages name.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

fn document(name: &str) -> String {
    fs::read_to_string(wasm::root().join(name)).unwrap()
}

/// The only block of JSON in README.
fn limits() -> Value {
    let readme = document("README.md");
    let blocks: Vec<&str> = readme.split("```json\n").skip(1).collect();
    let [block] = blocks[..] else { panic!("README has {} blocks of JSON", blocks.len()) };
    serde_json::from_str(block.split("```").next().unwrap()).unwrap()
}

#[test]
fn envoy_enforces_the_limits() {
    let upstream = MockLlm::start();
    let limits = limits();
    let allowed = limits["plans"]["free"]["rpm"].as_u64().unwrap();
    let envoy = Setup::new(upstream.address()).concurrency(1).filter(&limits).start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = json!({"model": "gpt-4o", "max_tokens": 1, "messages": []}).to_string();
    let ask = || {
        let request =
            agent.post(envoy.url("/v1/chat/completions")).header("authorization", "Bearer an-api-key");
        request.send(&body).unwrap().status().as_u16()
    };
    for sent in 0..allowed {
        assert_eq!(ask(), 200, "request {sent} of {allowed}");
    }
    assert_eq!(ask(), 429);
}

#[test]
fn limits_change_while_envoy_runs() {
    let directory = tempfile::tempdir().unwrap();
    let readme = document("README.md");
    let entry = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let entry = entry.replace("/etc/envoy/reload", directory.path().to_str().unwrap());
    let built = wasm::filter();
    let filter = document("envoy/reload/filter.yaml")
        .replace("target/wasm32-wasip1/release/llm_rate_limit.wasm", built.to_str().unwrap());
    let put = |rpm: u64| {
        let draft = directory.path().join("filter.new");
        fs::write(&draft, filter.replace("\"rpm\": 3}", &format!("\"rpm\": {rpm}}}"))).unwrap();
        fs::rename(draft, directory.path().join("filter.yaml")).unwrap();
    };
    put(3);
    let upstream = MockLlm::start();
    let mut setup = Setup::new(upstream.address()).concurrency(1);
    *setup.http_filter() = yaml_serde::from_str(&entry).unwrap();
    let envoy = setup.start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = json!({"model": "gpt-4o", "max_tokens": 1, "messages": []}).to_string();
    let ask = || {
        let request =
            agent.post(envoy.url("/v1/chat/completions")).header("authorization", "Bearer demo-key");
        request.send(&body).unwrap().status().as_u16()
    };
    assert_eq!([ask(), ask(), ask(), ask()], [200, 200, 200, 429]);
    put(5);
    let deadline = Instant::now() + Duration::from_secs(20);
    while ask() != 200 {
        assert!(Instant::now() < deadline, "the new limit is not in force:\n{}", envoy.log());
    }
    assert_eq!([ask(), ask()], [200, 429], "the usage before the change counts");
}

/// The source of each test that a row of a table on a page in `docs/` names, with its attributes. Fails if a file has
/// no such test, or the row names none.
fn tests_of(row: &str) -> Vec<String> {
    let links = row.split("[`").skip(1).filter_map(|rest| rest.split_once("`](../"));
    let source = |(name, rest): (&str, &str)| {
        let file = rest.split(')').next().unwrap();
        let text = document(file);
        let at = text.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{file}: {name}"));
        let begin = text[..at].rfind("\n\n").unwrap_or(0);
        let length = text[at..].find("\n}\n").unwrap_or(text.len() - at);
        text[begin..at + length].to_owned()
    };
    let tests: Vec<String> = links.map(source).collect();
    assert!(!tests.is_empty(), "{row}");
    tests
}

/// Every test that the page of threats names is in the file that it links to.
#[test]
fn every_threat_has_its_test() {
    let page = document("docs/security.md");
    let threats = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    for threat in threats {
        tests_of(threat);
    }
}

/// Every fault has a row for each `on_error`, or one for any, and each names a test in which that `on_error` is set.
#[test]
fn every_fault_has_its_test_under_every_on_error() {
    const FAULTS: [&str; 23] = [
        "The sidecar is gone",
        "The sidecar's cluster has another name",
        "The sidecar answers 5xx, garbage, or too little",
        "The sidecar refuses a call",
        "The sidecar speaks another version of the wire",
        "The sidecar is slower than the timeout",
        "Redis is down",
        "Redis does not answer",
        "Redis is far away",
        "Redis is full",
        "Redis is a replica, or fails over",
        "Redis is busy",
        "Redis has lost its data",
        "A request that never fits, during an outage",
        "The store's clock steps back",
        "The store's clock steps forward",
        "A client leaves",
        "The upstream breaks off, is late, or reports nothing",
        "A VM of the filter dies",
        "Envoy is stopped, drained or replaced",
        "The configuration is reloaded",
        "More settlements wait than fit",
        "More waits or arrives than fits",
    ];
    let page = document("docs/faults.md");
    let sections: Vec<&str> = page.split("\n## ").skip(1).collect();
    let names: Vec<&str> = sections.iter().map(|section| section.lines().next().unwrap()).collect();
    assert_eq!(names, FAULTS);
    for section in sections {
        let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| `on_error`");
        let rows: Vec<&str> = section.lines().filter(is_row).collect();
        for row in &rows {
            assert_eq!(row.split(" | ").filter(|cell| !cell.trim().is_empty()).count(), 4, "{row}");
            tests_of(row);
        }
        for on_error in ["allow", "deny", "local"] {
            let mut of = rows.iter().filter(|row| row.starts_with(&format!("| `{on_error}` |"))).peekable();
            let any = rows.iter().any(|row| row.starts_with("| any |"));
            assert!(any || of.peek().is_some(), "no row for {on_error}: {section}");
            let is_set = |test: &String| test.contains(&format!("\"{on_error}\""));
            assert!(of.all(|row| tests_of(row).iter().any(is_set)), "{on_error}: {section}");
        }
    }
}

/// README's figures of throughput and latency are those of the results, and provisional if those are. `UPDATE_DOCS=1`
/// writes them.
#[test]
fn its_numbers_are_those_of_the_results() {
    let results = document("benches/results.md");
    let (_, main) = results.split_once("\n## A small chat\n").unwrap();
    let cells = |name: &str| {
        let row = main.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        row.split('|').map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let [bare, requests, all] =
        ["bare Envoy", "local, limited requests", "local, all token limits, settled"].map(cells);
    let ratio = |cells: &[String]| cells[3].split(' ').next().unwrap().to_owned();
    let caution = results.lines().find(|line| line.starts_with("Provisional: "));
    let caution = caution.map(|line| format!("\n  {line}")).unwrap_or_default();
    let expected = format!(
        "- **{}** of bare Envoy's requests a second is what one worker does with a limit on requests, and {} with all \
         limits\n  on tokens. By itself a request takes {} and {} µs, where bare Envoy takes {} µs.{caution} \
         `make bench` measures it:",
        ratio(&requests),
        ratio(&all),
        requests[4],
        all[4],
        bare[4]
    );
    let readme = document("README.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let (before, rest) = readme.split_once("admitted at once").unwrap();
        let (between, rest) = rest.split_once("\n- **0.").unwrap();
        let (counted, rest) = rest.split_once("\n- **").unwrap();
        let (_, after) = rest.split_once("`make bench` measures it:").unwrap();
        let written = format!("{before}admitted at once{between}\n- **0.{counted}\n{expected}{after}");
        // Other tests read the page meanwhile.
        if written != readme {
            fs::write(wasm::root().join("README.md"), written).unwrap();
        }
        return;
    }
    assert!(readme.contains(&expected), "UPDATE_DOCS=1 writes README's: {expected}");
}

/// What README says of counts is what the page of counting found.
#[test]
fn its_error_is_that_of_the_table() {
    let page = document("docs/counting.md");
    let row =
        |family: &str| page.lines().find(|line| line.starts_with(&format!("| {family}"))).unwrap().to_owned();
    let rows = [row("GPT-4o, 4.1 and before: text"), row("GPT-5, o1, o3, o4: text")];
    let cells =
        |row: &String| row.split('|').skip(2).take(2).map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let text: Vec<_> = rows.iter().map(cells).collect();
    assert_eq!(text, [["81", "0.0"], ["50", "0.0"]], "README says 0.0 % in 131 requests");
    assert!(document("README.md").contains("median error of the counted prompt in 131 recorded requests"));
}
