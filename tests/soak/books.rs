//! The books of a soak, compared after each era, when nothing is under way:
//!
//! - Each request by itself: its client has an answer that it may have, and the charge in the access log is what the
//!   request owes, by what its client saw and the upstream reported.
//! - All together: each counter in Redis has grown by exactly the charges in the access logs. Where Redis has lost its
//!   data, it has at least the charges of what began afterwards, and at most those of what ended afterwards. Where an
//!   Envoy has forwarded without the store's answer, it has at least what was admitted, and at most that and what was
//!   forwarded.
//! - No reservation is open, no slot is taken, and no settlement was dropped.
//! - No tight limit admitted more than it may, in any window; twice as much around the loss of Redis's data.

use crate::act::Ending;
use crate::clients::{Run, Runs};
use crate::errand::{Errand, LARGE_WORDS, SLOTS, TIGHT, TIGHT_TOKENS};
use crate::faults::{CALM, Faults, Loss};
use crate::fleet::{BOOKED, Fleet, OnError};
use crate::log::{Line, Log};
use llm_rate_limit::identity::Identity;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::trailing::{Admission, most_at_once, most_within};
use mock_llm::journal::{Ended, Usage};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long counts may take to become final.
const PATIENCE: Duration = Duration::from_secs(120);

/// The window of the tight limits.
const TIGHT_WINDOW: Duration = Duration::from_secs(2);

/// The mismatches of an era that are shown.
const SHOWN: usize = 8;

/// A counter in Redis: its scope, its identity and its limit's name.
type Counter = (String, String, &'static str);

/// Units by counter.
type Charges = BTreeMap<Counter, u64>;

/// The books of all eras.
pub struct Books {
    logs: [Log; 2],
    /// What each counter had at the end of the last era.
    counted: Charges,
    /// Reservations that nobody will end, because their requests were forwarded without an answer.
    forsaken: BTreeSet<String>,
    /// What does not balance.
    pub wrong: Vec<String>,
    /// Requests by errand and outcome.
    pub outcomes: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Sums, by name.
    pub sums: BTreeMap<&'static str, u64>,
}

/// An era that is over.
pub struct Era {
    /// Its number.
    pub number: usize,
    /// What the second Envoy did without the store's answer.
    pub on_error: OnError,
    /// What its clients have seen.
    pub runs: Runs,
    /// What went wrong.
    pub faults: Faults,
}

impl Books {
    /// New books about the Envoys of `fleet`.
    pub fn open(fleet: &Fleet) -> Self {
        let logs = [0, 1].map(|which| Log::new(fleet.proxies[which].envoy.log_path()));
        Self {
            logs,
            counted: Charges::new(),
            forsaken: BTreeSet::new(),
            wrong: Vec::new(),
            outcomes: BTreeMap::new(),
            sums: BTreeMap::new(),
        }
    }

    /// Compares the books of an era. The connections of its clients must be closed.
    pub fn close(&mut self, mut era: Era, fleet: &Fleet) {
        let before = self.wrong.len();
        let lines = self.wait_for_lines(fleet);
        era.runs.read_journal(&fleet.mock);
        let name = format!("era {} ({})", era.number, era.on_error.name());
        println!(
            "{name}: {} requests, {} faults",
            era.runs.runs.len(),
            era.faults.counts.values().sum::<u64>()
        );
        for (number, run) in &era.runs.runs {
            let lines: Vec<&Line> = lines.get(number).map(|lines| lines.iter().collect()).unwrap_or_default();
            self.tally(run);
            let upstream = era.runs.upstream.get(number).copied().flatten();
            if let Err(why) = check(run, &lines, upstream, era.on_error) {
                self.wrong.push(format!("{name}: request {number}: {why}: {run:?}, {lines:?}, {upstream:?}"));
            }
        }
        self.check_counters(&name, &era, lines.values().flatten(), fleet);
        self.check_limits(&name, &era);
        for (which, log) in self.logs.iter_mut().enumerate() {
            for alarm in log.alarms.drain(..) {
                self.wrong.push(format!("{name}: in the log of Envoy {which}: {alarm}"));
            }
        }
        for stat in ["settlements_dropped", "settlements_refused"] {
            for proxy in &fleet.proxies {
                let dropped = proxy.envoy.stat(&format!("wasmcustom.llm_rate_limit.{stat}")).unwrap_or(0);
                if dropped > 0 {
                    self.wrong.push(format!("{name}: {dropped} {stat}"));
                }
            }
        }
        for wrong in self.wrong.iter().skip(before).take(SHOWN) {
            println!("{wrong}");
        }
    }

    fn add(&mut self, name: &'static str, units: u64) {
        *self.sums.entry(name).or_default() += units;
    }

    fn tally(&mut self, run: &Run) {
        let outcome = match run.seen.status {
            _ if run.hung => "no answer".to_owned(),
            Some(status) => status.to_string(),
            None => "left".to_owned(),
        };
        *self.outcomes.entry(run.errand.name()).or_default().entry(outcome).or_default() += 1;
    }

    /// Waits until all requests have ended, and returns their lines of the logs by number.
    fn wait_for_lines(&mut self, fleet: &Fleet) -> HashMap<usize, Vec<Line>> {
        let mut lines: HashMap<usize, Vec<Line>> = HashMap::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut at_rest = fleet.mock.report().in_flight == 0;
            for (proxy, log) in fleet.proxies.iter().zip(&mut self.logs) {
                let connections = proxy.envoy.connections();
                let stat = |name: &str| proxy.envoy.stat(&format!("http.llm.downstream_rq_{name}")).unwrap();
                let (active, total) = (stat("active"), stat("total"));
                for line in log.read() {
                    if let Some(number) = line.number {
                        lines.entry(number).or_default().push(line);
                    }
                }
                at_rest &= connections == 0 && active == 0 && log.lines == total;
            }
            if at_rest {
                return lines;
            }
            assert!(Instant::now() < deadline, "requests are under way long after their clients have gone");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn check_counters<'a>(
        &mut self,
        name: &str,
        era: &Era,
        lines: impl Iterator<Item = &'a Line> + Clone,
        fleet: &Fleet,
    ) {
        let admitted = lines.clone().filter(|line| line.decision == "admitted");
        let uncounted = lines.filter(|line| line.decision == "uncounted");
        let count = |lines: &mut dyn Iterator<Item = &Line>| lines.count() as u64;
        let (forwarded, unanswered) = (count(&mut admitted.clone()), count(&mut uncounted.clone()));
        self.add("admitted", forwarded);
        self.add("forwarded uncounted", unanswered);
        let (mut least, mut most) =
            (charges(admitted.clone()), charges(admitted.clone().chain(uncounted.clone())));
        // What an uncounted request had reserved may stay.
        for line in uncounted.clone() {
            let reserved = Line { charge: line.estimate, ..line.clone() };
            let (more, charged) = (charges([&reserved].into_iter()), charges([line].into_iter()));
            for (counter, units) in more {
                let beyond = units.saturating_sub(charged.get(&counter).copied().unwrap_or(0));
                *most.entry(counter).or_default() += beyond;
            }
        }
        let mut base = self.counted.clone();
        if let Some(Loss { from_ms, to_ms, .. }) = era.faults.loss {
            let late = u64::try_from(CALM.as_millis()).unwrap();
            least = charges(admitted.clone().filter(|line| line.start_ms >= to_ms));
            most = charges(admitted.chain(uncounted).filter(|line| line.end_ms + late >= from_ms));
            base.clear();
            self.forsaken.clear();
        }
        let of = |charges: &Charges, counter: &Counter| charges.get(counter).copied().unwrap_or(0);
        let deadline = Instant::now() + PATIENCE;
        let (counted, wrong) = loop {
            let mut wrong = Vec::new();
            let counted = counters(fleet).unwrap_or_else(|why| {
                wrong.push(format!("{name}: {why}"));
                Charges::new()
            });
            for counter in booked_counters() {
                let has = of(&counted, &counter);
                let allowed =
                    of(&base, &counter) + of(&least, &counter)..=of(&base, &counter) + of(&most, &counter);
                if !allowed.contains(&has) {
                    wrong.push(format!("{name}: {counter:?} in Redis is {has}, the logs say {allowed:?}"));
                }
            }
            let open = open_reservations(&fleet.redis);
            let new: BTreeSet<_> = open.difference(&self.forsaken).cloned().collect();
            if new.len() as u64 > unanswered {
                wrong.push(format!("{name}: {} reservations are open, such as {:?}", new.len(), new.first()));
            }
            match usage(fleet, "slots", None) {
                Ok(windows) => {
                    let slots = windows.into_iter().filter(|window| window["algorithm"] == "concurrency");
                    for slot in slots.filter(|window| window["used"] != 0) {
                        wrong.push(format!("{name}: slots are taken: {slot}"));
                    }
                }
                Err(why) => wrong.push(format!("{name}: {why}")),
            }
            if wrong.is_empty() || Instant::now() > deadline {
                self.forsaken.extend(new);
                break (counted, wrong);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        self.wrong.extend(wrong);
        let global: Counter = ("global".to_owned(), "global".to_owned(), "total_tokens");
        let (before, now) = (of(&self.counted, &global), of(&counted, &global));
        self.add("tokens in the logs", of(&most, &global).max(of(&least, &global)));
        if era.faults.loss.is_some() {
            self.add("tokens that Redis lost", before);
            self.add("tokens in Redis", now);
        } else {
            self.add("tokens in Redis", now.saturating_sub(before));
        }
        self.counted = counted;
    }

    fn check_limits(&mut self, name: &str, era: &Era) {
        let tight = |key: &str, cost: u64| -> Vec<Admission> {
            let runs = era.runs.runs.values().filter(|run| run.errand.key() == key);
            let admitted = runs.filter(|run| run.seen.status == Some(200));
            admitted.map(|run| Admission { sent: run.sent, answered: run.ended, cost }).collect()
        };
        for (key, cost) in [("tight-requests", 1), ("tight-tokens", TIGHT_TOKENS)] {
            let admitted = tight(key, cost);
            self.add("admitted under tight limits", admitted.len() as u64);
            let once = TIGHT * cost;
            let parts: Vec<(Vec<Admission>, u64)> = match era.faults.loss {
                None => vec![(admitted, once)],
                Some(loss) => vec![
                    (admitted.iter().copied().filter(|one| one.answered < loss.from).collect(), once),
                    (admitted.iter().copied().filter(|one| one.sent > loss.to).collect(), once),
                    (admitted, 2 * once),
                ],
            };
            for (admitted, limit) in parts {
                let most = most_within(TIGHT_WINDOW, &admitted);
                if most > limit {
                    self.wrong.push(format!("{name}: {key} had {most} in a window, of {limit}"));
                }
            }
        }
        let held: Vec<_> = era.runs.runs.values().filter_map(|run| run.held).collect();
        self.add("slots held", held.len() as u64);
        let limit = if era.faults.loss.is_some() { 2 * SLOTS } else { SLOTS };
        let most = most_at_once(&held);
        if most > limit {
            self.wrong.push(format!("{name}: {most} slots were held at once, of {limit}"));
        }
    }
}

/// Whether a request has ended as it may: its answer, its line in the log, and its charge.
fn check(run: &Run, lines: &[&Line], upstream: Option<Ended>, on_error: OnError) -> Result<(), String> {
    let ensure = |is_so: bool, why: &str| if is_so { Ok(()) } else { Err(why.to_owned()) };
    ensure(!run.hung, "no answer")?;
    let leaves = matches!(&run.errand, Errand::Booked(_, act) if act.leaves());
    let denies = run.proxy == 0 || on_error == OnError::Deny;
    match run.seen.status {
        Some(status) => ensure(run.errand.may_be_answered(status, denies), "an answer that it may not have")?,
        None => ensure(leaves, "the connection broke")?,
    }
    let line = match lines {
        [line] => line,
        [] if leaves => return Ok(()),
        _ => return Err("not one line in the log".to_owned()),
    };
    let decision = line.decision.as_str();
    match (decision, run.seen.status) {
        (_, None) => {}
        ("over_limit", status) => ensure(status == Some(429), "refused without a 429")?,
        ("no_store", status) => ensure(status == Some(503) && denies, "denied")?,
        ("uncounted", _) => ensure(run.proxy == 1 && on_error == OnError::Allow, "forwarded uncounted")?,
        ("refused", status) => ensure(status == Some(400) || status == Some(403), "refused")?,
        ("admitted", _) => {}
        _ => return Err("no decision".to_owned()),
    }
    let is_forwarded = matches!(decision, "admitted" | "uncounted");
    ensure(line.charge.is_some() == is_forwarded, "charged if forwarded")?;
    let Some((input, output)) = line.charge else {
        return match &run.errand {
            Errand::Booked(_, act) if act.is_admitted() == Some(true) => {
                ensure(decision == "no_store", "refused")
            }
            _ => Ok(()),
        };
    };
    let Errand::Booked(_, act) = &run.errand else {
        let expected = match run.errand {
            Errand::TightTokens => Some((9, TIGHT_TOKENS - 9)),
            Errand::Large(_) => None,
            _ => return Ok(()),
        };
        if let Errand::Large(_) = run.errand {
            ensure(
                line.estimate.is_some_and(|(input, _)| input > LARGE_WORDS as u64),
                "the prompt was not counted",
            )?;
        }
        return ensure(expected.is_none_or(|expected| expected == (input, output)), "the charge");
    };
    ensure(act.is_admitted() != Some(false), "it must be refused")?;
    ensure(line.estimate == Some((act.api.hello_tokens(), act.reserves())), "the reservation")?;
    let (owed_input, owed_output) = act.owes(run.seen.words);
    ensure(input == owed_input && owed_output.contains(&output), "the charge is not what it owes")?;
    if act.is_reported() && !matches!(act.ending, Ending::Refused) {
        let usage = Usage { prompt_tokens: input, completion_tokens: output };
        ensure(upstream == Some(Ended::Answered { usage, reported: true }), "the upstream says otherwise")?;
    }
    Ok(())
}

/// What these requests were charged, by counter.
fn charges<'a>(lines: impl Iterator<Item = &'a Line>) -> Charges {
    let mut charges = Charges::new();
    for line in lines {
        let Some((input, output)) = line.charge else { continue };
        let costs = [
            ("requests", 1),
            ("input_tokens", input),
            ("output_tokens", output),
            ("total_tokens", input + output),
        ];
        for (scope, identity) in owners(&line.name, &line.model) {
            for (metric, cost) in costs {
                *charges.entry((scope.clone(), identity.clone(), metric)).or_default() += cost;
            }
        }
    }
    charges
}

/// The owners of the limits for a request, each with its scope.
fn owners(name: &str, model: &str) -> Vec<(String, String)> {
    let shared = |name: &str| (name.to_owned(), name.to_owned());
    let mut owners = vec![shared("global")];
    if model.starts_with("gpt-4") {
        owners.push(shared("model-gpt-4*"));
    }
    if let Some((_, group)) = BOOKED.iter().find(|(key, _)| *key == name) {
        let id = Identity::of_key(name).id().to_string();
        owners.push((scope_of(&id, *group), id));
        owners.extend(group.map(|group| shared(&format!("group-{group}"))));
    }
    owners
}

fn scope_of(id: &str, group: Option<&str>) -> String {
    group.map_or_else(|| id.to_owned(), |group| format!("group-{group}"))
}

/// All counters that are compared.
fn booked_counters() -> Vec<Counter> {
    const ALL: [&str; 4] = ["requests", "input_tokens", "output_tokens", "total_tokens"];
    let shared = |name: &str, metrics: &[&'static str]| -> Vec<Counter> {
        metrics.iter().map(|metric| (name.to_owned(), name.to_owned(), *metric)).collect()
    };
    let mut counters = shared("global", &ALL);
    counters.extend(shared("model-gpt-4*", &["requests", "output_tokens"]));
    counters.extend(shared("group-red", &["requests", "total_tokens"]));
    counters.extend(shared("group-blue", &["requests", "input_tokens"]));
    for (key, group) in BOOKED {
        let id = Identity::of_key(key).id().to_string();
        counters.extend(ALL.map(|metric| (scope_of(&id, group), id.clone(), metric)));
    }
    counters
}

/// What each of them has in Redis.
fn counters(fleet: &Fleet) -> Result<Charges, String> {
    let owners: BTreeSet<(String, String)> =
        booked_counters().into_iter().map(|(scope, identity, _)| (scope, identity)).collect();
    let mut counted = Charges::new();
    for (scope, identity) in owners {
        for window in usage_of(fleet, &scope, &identity)?.iter().filter(|window| window["window"] == "1d") {
            let metric = booked_counters()
                .into_iter()
                .map(|(_, _, metric)| metric)
                .find(|metric| window["name"] == **metric);
            let Some(metric) = metric else { continue };
            counted.insert((scope.clone(), identity.clone(), metric), window["used"].as_u64().unwrap());
        }
    }
    Ok(counted)
}

fn usage(fleet: &Fleet, key: &str, group: Option<&str>) -> Result<Vec<Value>, String> {
    let id = Identity::of_key(key).id().to_string();
    usage_of(fleet, &scope_of(&id, group), &id)
}

/// The windows of `identity`; none if nothing counts. The error says that nobody knows.
fn usage_of(fleet: &Fleet, scope: &str, identity: &str) -> Result<Vec<Value>, String> {
    let address = &fleet.proxies[0].address;
    let url = format!("http://{address}/v1/usage?identity={identity}&scope={scope}");
    let unknown = |why: String| format!("the usage of {identity} is unknown: {why}");
    let mut answer = ureq::get(url).call().map_err(|why| unknown(why.to_string()))?;
    let text = answer.body_mut().read_to_string().map_err(|why| unknown(why.to_string()))?;
    let usage: Value = serde_json::from_str(&text).map_err(|why| unknown(why.to_string()))?;
    usage["windows"].as_array().cloned().ok_or_else(|| unknown(text))
}

/// Nothing settles a reservation that is final: its record lives as long.
const FINAL_LASTS_MS: i64 = 60_000;

/// The records of reservations that have not ended. A settlement that may have come first leaves a mark in their place.
fn open_reservations(redis: &Redis) -> BTreeSet<String> {
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("llmrl:*:reservation:*").query(&mut connection).unwrap();
    let mut is_open = |key: &String| {
        let value: Option<String> = redis::cmd("GET").arg(key).query(&mut connection).unwrap();
        let left: i64 = redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
        left > FINAL_LASTS_MS && value.is_some_and(|record| record != "settled")
    };
    keys.into_iter().filter(|key| is_open(key)).collect()
}
