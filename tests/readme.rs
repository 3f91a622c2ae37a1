//! README's claims hold: Envoy enforces its limits, its commands exist, and its links lead somewhere.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::collections::BTreeSet;
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

#[test]
fn every_make_target_exists() {
    let makefile = document("Makefile");
    for name in ["README.md", "CONTRIBUTING.md"] {
        let text = document(name);
        let targets: Vec<&str> = text
            .split("make ")
            .skip(1)
            .zip(text.split("make "))
            .filter(|(_, before)| before.ends_with('`') || before.ends_with("    "))
            .map(|(after, _)| after.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap())
            .collect();
        assert!(!targets.is_empty(), "{name} names no target");
        for target in targets {
            assert!(makefile.contains(&format!("\n{target}: ")), "{name}: make {target}");
        }
    }
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    headings
        .map(|line| {
            line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>()
        })
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// Fails if `link` in the file `name` leads nowhere.
fn assert_leads_somewhere(name: &str, link: &str) {
    if link.starts_with("https://") {
        return;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let here = wasm::root().join(name);
    let place = if path.is_empty() { here } else { here.parent().unwrap().join(path) };
    assert!(place.exists(), "{name}: {link}");
    if !anchor.is_empty() {
        let page = fs::read_to_string(&place).unwrap();
        assert!(anchors(&page).iter().any(|known| known == anchor), "{name}: {link}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/compatibility.md",
        "docs/configuration.md",
        "docs/containers.md",
        "docs/counting.md",
        "docs/design.md",
        "deploy/helm/llm-rate-limit/README.md",
        "docs/envoy-gateway.md",
        "docs/envoy.md",
        "docs/faults.md",
        "docs/istio.md",
        "docs/kubernetes.md",
        "docs/metrics.md",
        "docs/migration.md",
        "docs/migration/apisix.md",
        "docs/migration/kong.md",
        "docs/migration/kuadrant.md",
        "docs/migration/litellm.md",
        "docs/migration/providers.md",
        "docs/migration/ratelimit.md",
        "docs/observability.md",
        "docs/operations.md",
        "docs/recipes.md",
        "docs/releases.md",
        "docs/security.md",
        "docs/sizing.md",
        "envoy/examples/README.md",
    ] {
        for link in document(name).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            assert_leads_somewhere(name, link);
        }
    }
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

/// Comments link to the facts about Envoy that they rely on, as `docs/envoy.md#local-replies`. Each link leads to a
/// fact, and each fact has a link, but for the title.
#[test]
fn comments_and_facts_about_envoy_are_linked() {
    const PAGE: &str = "docs/envoy.md";
    let mut unlinked: BTreeSet<String> = anchors(&document(PAGE)).into_iter().collect();
    let known = unlinked.clone();
    let mut folders = vec![wasm::root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for rest in text.split(&format!("{PAGE}#")).skip(1) {
                let anchor = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap();
                assert!(known.contains(anchor), "{}: {anchor}", path.display());
                unlinked.remove(anchor);
            }
        }
    }
    assert_eq!(Vec::from_iter(unlinked), ["what-envoy-does"]);
}
