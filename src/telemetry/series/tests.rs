use super::*;
use std::fmt::Write as _;

fn sender() -> SenderLabels {
    let some = |text: &str| Some(Arc::from(text));
    SenderLabels { plan: some("free"), group: some("team-a"), key_name: some("Ann;=\n") }
}

/// A time series of each family with all its labels, and its name.
fn examples() -> Vec<(&'static Family, String)> {
    let (kind, family) = (TokenKind::CachedInput, "gpt-4o");
    let counts = [
        Count::Requests { sender: sender(), decision: Verdict::OverLimit },
        Count::DryRunRequests { sender: sender(), decision: Verdict::Refused },
        Count::Refusals { owner: "group", metric: Metric::Requests, window: "1m".to_owned() },
        Count::Continued { owner: "model", metric: Metric::Requests, window: "1h".to_owned() },
        Count::Warnings { owner: "global", metric: Metric::TotalTokens, window: "1d".to_owned() },
        Count::Refused { reason: "upgrade" },
        Count::NotLimited { reason: Unlimited::Path },
        Count::Unreadable,
        Count::StreamUsageRefused,
        Count::DecidedLocally,
        Count::StoreErrors,
        Count::Settled { outcome: Basis::Reported },
        Count::SettlementsDropped,
        Count::SettlementsRefused,
        Count::Tokens { kind, family },
        Count::EstimatedTokens { kind, family },
        Count::EstimateErrorTokens { direction: Direction::Over, family },
    ];
    let distributions = [
        Distribution::CalloutMs { call: "reserve" },
        Distribution::BatchSize { call: "settle" },
        Distribution::WaitMs,
        Distribution::RequestTokens { kind },
        Distribution::RetryAfterMs,
    ];
    let gauges = [Gauge::ConfigInfo { hash: Fingerprint::of(b"{}") }];
    let counts = counts.iter().map(|it| (it.family(), it.name()));
    let distributions = distributions.iter().map(|it| (it.family(), it.name()));
    let gauges = gauges.into_iter().chain(Gauge::AT_START).map(|it| (it.family(), it.name()));
    counts.chain(distributions).chain(gauges).collect()
}

#[test]
fn names_have_the_form_of_istio() {
    let name = |count: Count| count.name();
    let free = SenderLabels { plan: Some("free".into()), ..SenderLabels::default() };
    assert_eq!(
        name(Count::Requests { sender: free, decision: Verdict::OverLimit }),
        "llm_rate_limit.plan=.=free;.;decision=.=over_limit;.;requests"
    );
    assert_eq!(
        name(Count::Tokens { kind: TokenKind::Input, family: "gpt-4o" }),
        "llm_rate_limit.kind=.=input;.;family=.=gpt-4o;.;tokens"
    );
    assert_eq!(
        name(Count::Requests { sender: sender(), decision: Verdict::Admitted }),
        "llm_rate_limit.plan=.=free;.;group=.=team-a;.;key_name=.=Ann___;.;decision=.=admitted;.;requests"
    );
    assert_eq!(name(Count::Unreadable), "llm_rate_limit.unreadable");
    let long = SenderLabels { plan: Some("p".repeat(1_000).into()), ..SenderLabels::default() };
    assert!(name(Count::Requests { sender: long, decision: Verdict::Admitted }).len() < 250);
}

#[test]
fn every_family_has_just_the_labels_that_it_lists() {
    let examples = examples();
    for family in FAMILIES {
        let (_, name) = examples.iter().find(|(of, _)| *of == family).unwrap();
        let mut rest = name.strip_prefix(PREFIX).unwrap();
        for label in family.labels {
            let (found, after) = rest.split_once("=.=").unwrap();
            assert_eq!(found, *label, "{name}");
            rest = after.split_once(";.;").unwrap().1;
        }
        assert_eq!(rest, family.name);
    }
    assert_eq!(examples.len(), FAMILIES.len());
}

/// Envoy searches for a tag anywhere in a name, so one that ends in another's name would be taken for it. The same
/// holds for the tags of others in the same Envoy, such as Istio's.
#[test]
fn no_tag_ends_in_another() {
    const ISTIO: &str = "reporter source_namespace source_principal source_app source_version source_cluster \
        source_workload source_workload_namespace source_canonical_service source_canonical_revision \
        destination_namespace destination_principal destination_app destination_version destination_cluster \
        destination_service destination_service_name destination_service_namespace destination_port \
        destination_workload destination_workload_namespace destination_canonical_service \
        destination_canonical_revision request_protocol request_operation request_host response_flags \
        grpc_response_status connection_security_policy response_code cache component tag wasm_filter";
    let own = tags();
    let all: Vec<&str> = own.iter().copied().chain(ISTIO.split_whitespace()).collect();
    for tag in &all {
        let ends: Vec<_> = all.iter().filter(|other| *other != tag && other.ends_with(tag)).collect();
        assert!(ends.is_empty() || !own.contains(tag), "{ends:?} end in {tag}");
    }
}

#[test]
fn what_is_there_from_the_start_has_no_label_of_the_configuration() {
    for count in Count::at_start() {
        assert!(!count.name().contains("plan=") && !count.name().contains("family="), "{count:?}");
    }
}

/// The page's table of the filter's metrics. `UPDATE_DOCS=1 cargo test -p llm-rate-limit metrics_page` writes it.
#[test]
fn the_metrics_page_lists_every_family() {
    let mut table = "| metric | kind | labels | what it counts |\n|---|---|---|---|\n".to_owned();
    for Family { name, kind, labels, help } in FAMILIES {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let kind: &str = kind.into();
        writeln!(table, "| `llm_rate_limit_{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- filter -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of filter -->").unwrap();
    let generated = format!("{before}<!-- filter -->\n{table}<!-- end of filter -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &generated).unwrap();
        return;
    }
    assert_eq!(
        page, generated,
        "UPDATE_DOCS=1 cargo test -p llm-rate-limit metrics_page writes docs/metrics.md"
    );
}
