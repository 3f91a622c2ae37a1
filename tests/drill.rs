//! A drill: what operators see of each incident is what the table in `docs/operations.md` says. Each test brings about
//! one of its rows on a real Envoy, sidecar, Redis and Prometheus, and compares every cell.
//!
//! The cells are the expectations, so none goes without a check. Alerts are the expressions of
//! `deploy/observability/alerts.yaml`, without `for`, over a shorter time.
//!
//! `UPDATE_DOCS=1` takes the picture of the status page that stands below the table.

use llm_rate_limit_tests::chat::{CHAT, hello};
use llm_rate_limit_tests::chromium;
use llm_rate_limit_tests::clock::Clock;
use llm_rate_limit_tests::command::{Run, run_with};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::far::Far;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::prometheus::Prometheus;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

/// All incidents: the rows of the table, each with a test of its name.
const INCIDENTS: [&str; 10] = [
    "A key is over its limit",
    "A group is over its limit",
    "Redis is down",
    "Redis is slow",
    "The sidecar is gone",
    "The cluster has another name",
    "The token is wrong",
    "Clocks differ",
    "An unlimited key is misused",
    "A WebSocket is refused",
];

/// How long everything may take to show. A busy machine needs some of it.
const WITHIN: Duration = Duration::from_secs(60);

/// What stands for the time over which the page and the alerts take rates: some scrapes, of one a second.
const SPAN: &str = "[20s]";

/// The pause between two rounds of traffic and looking.
const PAUSE: Duration = Duration::from_millis(50);

/// The end of the condition of an alert that a busy machine meets, whatever the incident, and what stands in its place
/// where no alert may fire: a time that none takes.
const OF_A_BUSY_MACHINE: (&str, &str) = ("[20s]))) > 20", "[20s]))) > 5000");

/// The sidecar's token, and the filter's.
const TOKEN: &str = "token";

/// HTTP Basic with that: `printf operator:token | base64`
const PASSWORD: &str = "Basic b3BlcmF0b3I6dG9rZW4=";

/// `printf %s open-sesame | sha256sum`
const INSPECT_TOKEN_SHA256: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

/// What shows something, by the column of the table, or that there is nothing to see.
#[derive(Clone, Debug, PartialEq)]
enum Sign {
    /// A line of the access log has these fields.
    AccessLog(Vec<(String, String)>),
    /// Envoy's log has this text.
    EnvoyLog(String),
    /// The sidecar's log has this text.
    SidecarLog(String),
    /// Neither log has a warning.
    NoWarning,
    /// This query finds something.
    Metric(String),
    /// `doctor` ends with this status, and a line that is not well has this text.
    Doctor(i32, String),
    /// `doctor` finds nothing.
    Healthy,
    /// The condition of this alert is met.
    Alert(String),
    /// That of no alert is.
    NoAlert,
}

fn document(name: &str) -> String {
    fs::read_to_string(wasm::root().join(name)).unwrap()
}

/// The rows of the table, each of five cells.
fn rows() -> Vec<[String; 5]> {
    let page = document("docs/operations.md");
    let section = page.split("## What shows an incident\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = |row: &str| {
        let cells: Vec<String> =
            row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("expected five cells: {cells:?}"))
    };
    rows.map(cells).collect()
}

/// The pieces of `cell` in backticks. Between them is nothing but commas.
fn quoted(cell: &str) -> Vec<String> {
    let pieces: Vec<&str> = cell.trim().split('`').collect();
    assert!(pieces.len() > 2 && pieces.len() % 2 == 1, "{cell}");
    let between = pieces.iter().step_by(2);
    assert!(between.clone().all(|text| ["", ", "].contains(text)), "{cell}");
    pieces.into_iter().skip(1).step_by(2).map(str::to_owned).collect()
}

/// The signs in the cells of a row.
fn signs([_, log, metrics, doctor, alert]: &[String; 5]) -> Vec<Sign> {
    let mut signs = Vec::new();
    match log.as_str() {
        "–" => signs.push(Sign::NoWarning),
        _ => signs.extend(log.split("; ").flat_map(of_log)),
    }
    signs.extend(quoted(metrics).into_iter().map(Sign::Metric));
    match doctor.as_str() {
        "–" => signs.push(Sign::Healthy),
        _ => {
            let (status, texts) = doctor.strip_prefix("exit ").unwrap().split_once(": ").unwrap();
            let status = status.parse().unwrap();
            signs.extend(quoted(texts).into_iter().map(|text| Sign::Doctor(status, text)));
        }
    }
    match alert.as_str() {
        "–" => signs.push(Sign::NoAlert),
        _ => signs.extend(quoted(alert).into_iter().map(Sign::Alert)),
    }
    signs
}

/// The signs in a log.
fn of_log(part: &str) -> Vec<Sign> {
    let (log, texts) = part.split_once(": ").unwrap();
    let texts = quoted(texts).into_iter();
    let field = |text: String| {
        let (name, value) = text.split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    match log {
        "access log" => vec![Sign::AccessLog(texts.map(field).collect())],
        "Envoy" => texts.map(Sign::EnvoyLog).collect(),
        "sidecar" => texts.map(Sign::SidecarLog).collect(),
        _ => panic!("{part}"),
    }
}

/// The alerts: the name and the expression of each, over [`SPAN`].
fn alerts() -> Vec<(String, String)> {
    let alerts: Value = yaml_serde::from_str(&document("deploy/observability/alerts.yaml")).unwrap();
    let groups = alerts["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let text = |rule: &Value, member: &str| rule[member].as_str().unwrap().to_owned();
    rules.map(|rule| (text(rule, "alert"), sooner(&text(rule, "expr")))).collect()
}

/// `query` over [`SPAN`].
fn sooner(query: &str) -> String {
    ["[5m]", "[15m]", "[1h]"].iter().fold(query.to_owned(), |query, span| query.replace(span, SPAN))
}

/// Limits for all incidents. No busy machine takes as long as the timeout.
fn limits() -> Value {
    json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "auth_token": TOKEN, "timeout_ms": 20_000,
                  "on_error": "local", "replicas": 2},
        "inspect": {"path": "/inspect", "token_sha256": INSPECT_TOKEN_SHA256},
        "groups": {"team-a": {"rpm": 1}},
        "keys": [
            {"key": "little", "name": "trial", "rpm": 1},
            {"key": "much", "name": "batch", "rpm": 1_000_000},
            {"key": "steady", "name": "website", "rpm": 40, "tpm": 2_000},
            {"key": "member", "group": "team-a"},
            {"key": "free", "unlimited": true},
        ],
        "default": "reject",
    })
}

/// All that runs.
struct World {
    envoy: Envoy,
    sidecar: Sidecar,
    status_page: String,
    prometheus: Prometheus,
    alerts: Vec<(String, String)>,
    http: ureq::Agent,
    _upstream: MockLlm,
}

impl World {
    /// A world with these limits and a sidecar that has this token and looks for Redis at this place.
    fn start(redis_url: &str, token: &'static str, limits: &Value) -> Self {
        let status_page = format!("127.0.0.1:{}", free_port());
        let settings = [("AUTH_TOKEN", token), ("STATUS_LISTEN", &status_page)];
        let sidecar = Sidecar::start(redis_url, &settings);
        tokio::runtime::Runtime::new().unwrap().block_on(sidecar.wait_until_ready_is(200));
        let upstream = MockLlm::start();
        let place = sidecar.address().parse().unwrap();
        let mut setup = Setup::new(upstream.address()).concurrency(1).sidecar(place).filter(limits);
        setup.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
            ["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
        let envoy = setup.start();
        let prometheus = Prometheus::start(&[
            ("envoy", format!("{}/stats/prometheus", envoy.admin_address())),
            ("sidecar", format!("{}/metrics", sidecar.address())),
        ]);
        let http = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { envoy, sidecar, status_page, prometheus, alerts: alerts(), http, _upstream: upstream }
    }

    /// The world as it should be, with this Redis.
    fn healthy(redis: &Redis) -> Self {
        Self::start(&redis.url(), TOKEN, &limits())
    }

    /// Sends a chat with this key, and returns the status of the answer.
    fn chat(&self, key: &str) -> u16 {
        let request = self.http.post(self.envoy.url(CHAT)).header("authorization", key);
        // As many as the filter counts.
        let mut answer = request.header("x-mock-prompt-tokens", "9").send(hello().to_string()).unwrap();
        answer.body_mut().read_to_string().unwrap();
        answer.status().as_u16()
    }

    /// Asks for a WebSocket with this key, and returns the first line of the answer.
    fn websocket(&self, key: &str) -> String {
        let mut connection = TcpStream::connect(self.envoy.address()).unwrap();
        write!(
            connection,
            "GET /v1/responses HTTP/1.1\r\nhost: gateway\r\nauthorization: {key}\r\nconnection: Upgrade\r\nupgrade: \
             websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .unwrap();
        let mut status = [0; 12];
        connection.read_exact(&mut status).unwrap();
        String::from_utf8_lossy(&status).into_owned()
    }

    /// What `doctor` says with everything given, and the sidecar's `token`.
    fn doctor(&self, token: &str) -> Run {
        let (envoy, admin) = (self.envoy.url(""), self.envoy.admin_url(""));
        let sidecar = format!("http://{}", self.sidecar.address());
        let arguments =
            ["doctor", "--envoy", &envoy, "--inspect", "/inspect", "--admin", &admin, "--sidecar", &sidecar];
        run_with(&arguments, &[("AUTH_TOKEN", token), ("INSPECT_TOKEN", "open-sesame")], "")
    }

    /// The alerts whose conditions are met.
    fn raised(&self) -> Vec<&str> {
        let is_met = |(_, query): &&(String, String)| !self.prometheus.query(query).is_empty();
        self.alerts.iter().filter(is_met).map(|(name, _)| name.as_str()).collect()
    }

    fn shows(&self, sign: &Sign, token: &str) -> bool {
        match sign {
            Sign::AccessLog(fields) => {
                let has = |line: &Value| fields.iter().all(|(name, value)| line[name] == value.as_str());
                self.envoy.access_log().iter().any(has)
            }
            Sign::EnvoyLog(text) => self.envoy.log().contains(text),
            Sign::SidecarLog(text) => self.sidecar.log().contains(text),
            Sign::NoWarning => {
                !self.envoy.log().contains("the store d") && !self.sidecar.log().contains("WARN")
            }
            Sign::Metric(query) => !self.prometheus.query(&sooner(query)).is_empty(),
            Sign::Doctor(status, text) => {
                let run = self.doctor(token);
                let is_ill = |line: &&str| ["FINDING", "NO ANSWER"].iter().any(|mark| line.starts_with(mark));
                run.status == *status && run.out.lines().filter(is_ill).any(|line| line.contains(text))
            }
            Sign::Healthy => self.doctor(token).status == 0,
            Sign::Alert(name) => self.raised().contains(&name.as_str()),
            Sign::NoAlert => {
                let (busy, patient) = OF_A_BUSY_MACHINE;
                let mut queries = self.alerts.iter().map(|(_, query)| query.replace(busy, patient));
                queries.all(|query| self.prometheus.query(&query).is_empty())
            }
        }
    }

    /// Takes a picture of the status page: the documentation's, if `UPDATE_DOCS` says so.
    fn picture(&self) {
        let folder = tempfile::tempdir().unwrap();
        let file = if std::env::var_os("UPDATE_DOCS").is_some() {
            wasm::root().join("docs/group-over-its-limit.png")
        } else {
            folder.path().join("page.png")
        };
        let url = format!("http://{}/?refresh=off", self.status_page);
        let page = self.http.get(&url).header("authorization", PASSWORD).call().unwrap();
        let page = page.into_body().read_to_string().unwrap();
        assert!(page.contains("group-team-a") && page.contains("requests in 1m"), "{page}");
        let url = url.replace("//", &format!("//operator:{TOKEN}@"));
        let taken = chromium::picture(&url, "1000,1080", &[], &file);
        tokio::runtime::Runtime::new().unwrap().block_on(taken);
        assert!(fs::metadata(&file).unwrap().len() > 20_000, "an empty picture");
    }

    /// Waits until `query` finds something.
    fn await_metric(&self, query: &str) {
        let deadline = Instant::now() + WITHIN;
        while self.prometheus.query(query).is_empty() {
            assert!(Instant::now() < deadline, "{query} finds nothing");
            thread::sleep(PAUSE);
        }
    }

    /// Sends `traffic` until all signs of `incident` have shown; `doctor` is given `token`. Where there is to be
    /// nothing to see, there still is nothing after that.
    fn expect(&self, incident: &str, token: &str, traffic: impl Fn(&Self)) {
        let row = rows().into_iter().find(|row| row[0] == incident).unwrap();
        let (absent, mut open): (Vec<_>, Vec<_>) =
            signs(&row).into_iter().partition(|sign| [Sign::NoWarning, Sign::NoAlert].contains(sign));
        let deadline = Instant::now() + WITHIN;
        while !open.is_empty() {
            thread::sleep(PAUSE);
            traffic(self);
            open.retain(|sign| !self.shows(sign, token));
            if Instant::now() > deadline {
                let Run { status, out, err } = self.doctor(token);
                panic!(
                    "{incident} does not show: {open:?}\nraised: {:?}\n{status}: {out}{err}",
                    self.raised()
                );
            }
        }
        for sign in absent {
            assert!(
                self.shows(&sign, token),
                "{incident}: {sign:?}: {:?}\n{}",
                self.raised(),
                self.sidecar.log()
            );
        }
    }
}

#[test]
fn every_incident_has_its_row_and_its_test_and_shows_twice() {
    let rows = rows();
    assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), INCIDENTS);
    for row in &rows {
        let test = format!("#[test]\nfn {}() {{\n", row[0].to_lowercase().replace(' ', "_"));
        let source = include_str!("drill.rs");
        let body = source.split(&test).nth(1).unwrap_or_else(|| panic!("no test: {test}"));
        assert!(body.split("\n}\n").next().unwrap().contains(&format!(".expect(\"{}\"", row[0])), "{test}");
        let nothing = [Sign::NoWarning, Sign::Healthy, Sign::NoAlert];
        assert!(row.iter().skip(1).filter(|cell| *cell != "–").count() >= 2, "{row:?}");
        assert!(signs(row).iter().filter(|sign| !nothing.contains(sign)).count() >= 2, "{row:?}");
    }
    let alerts = alerts();
    assert_eq!(alerts.iter().filter(|(_, query)| query.contains(OF_A_BUSY_MACHINE.0)).count(), 1);
    let names: Vec<String> = alerts.into_iter().map(|(name, _)| name).collect();
    let named = rows.iter().flat_map(signs).filter_map(|sign| match sign {
        Sign::Alert(name) => Some(name),
        _ => None,
    });
    named.for_each(|name| assert!(names.contains(&name), "{name}"));
}

#[test]
fn a_key_is_over_its_limit() {
    let redis = Redis::start();
    let world = World::healthy(&redis);
    world.expect("A key is over its limit", TOKEN, |world| {
        (0..5).for_each(|_| assert!([200, 429].contains(&world.chat("little"))));
    });
}

#[test]
fn a_group_is_over_its_limit() {
    let redis = Redis::start();
    let world = World::healthy(&redis);
    world.expect("A group is over its limit", TOKEN, |world| {
        (0..5).for_each(|_| assert!([200, 429].contains(&world.chat("member"))));
    });
    (0..33).for_each(|_| assert_eq!(world.chat("steady"), 200));
    (0..3).for_each(|_| assert!([200, 429].contains(&world.chat("little"))));
    world.picture();
}

#[test]
fn redis_is_down() {
    let mut redis = Redis::start();
    let world = World::healthy(&redis);
    assert_eq!(world.chat("much"), 200);
    redis.kill();
    world.expect("Redis is down", TOKEN, |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn redis_is_slow() {
    let redis = Redis::start();
    let far = Far::from(redis.port(), Duration::from_millis(60));
    let world = World::start(&format!("redis://{}", far.address()), TOKEN, &limits());
    world.expect("Redis is slow", TOKEN, |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn the_sidecar_is_gone() {
    let redis = Redis::start();
    let mut world = World::healthy(&redis);
    assert_eq!(world.chat("much"), 200);
    // Of one that Prometheus has never seen, nobody knows that it is missing.
    world.await_metric("llm_rate_limit_sidecar_build_info");
    world.sidecar.process().kill();
    world.expect("The sidecar is gone", TOKEN, |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn the_cluster_has_another_name() {
    let redis = Redis::start();
    let mut limits = limits();
    limits["store"]["cluster"] = "no-such-cluster".into();
    let world = World::start(&redis.url(), TOKEN, &limits);
    world.expect("The cluster has another name", TOKEN, |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn the_token_is_wrong() {
    let redis = Redis::start();
    let world = World::start(&redis.url(), "another", &limits());
    world.expect("The token is wrong", "another", |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn clocks_differ() {
    let clock = Clock::new();
    let redis = Redis::start_in(clock.environment());
    let world = World::healthy(&redis);
    clock.set(-60_000);
    world.expect("Clocks differ", TOKEN, |world| assert_eq!(world.chat("much"), 200));
}

#[test]
fn an_unlimited_key_is_misused() {
    let redis = Redis::start();
    let world = World::healthy(&redis);
    world.expect("An unlimited key is misused", TOKEN, |world| {
        (0..20).for_each(|_| assert_eq!(world.chat("free"), 200));
    });
}

#[test]
fn a_websocket_is_refused() {
    let redis = Redis::start();
    let world = World::healthy(&redis);
    world.expect("A WebSocket is refused", TOKEN, |world| {
        assert_eq!(world.websocket("much"), "HTTP/1.1 426");
    });
}
