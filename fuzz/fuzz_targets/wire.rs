//! The wire between the filter and the sidecar: no answer and no call may cause a panic. An answer admits nobody whom
//! it does not say it admits, and the queues work again after it. A call that the sidecar reads says the same when it
//! is written again, and the error of one that it does not read names the place.
//!
//! The last byte chooses what waits for the answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::config::Config;
use llm_rate_limit::quantity::{Millis, NonZeroMillis, Units};
use llm_rate_limit::store::local::SharedData;
use llm_rate_limit::store::sidecar::{Callout, Kind};
use llm_rate_limit::store::wire::{Background, Charge, Reserve, ScopeCharges, Settle};
use llm_rate_limit::store::{Answer, Decision, Failure, HeldIn, OpenResponse, Settlement, Stores, Wanted};
use llm_rate_limit::telemetry::stats::Stats;
use llm_rate_limit::window::Window;
use llm_rate_limit_cli::serve::batch;
use llm_rate_limit_cli::serve::refusal::Refusal;
use llm_rate_limit_cli::store::call;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::LazyLock;

/// Shared data of an Envoy in which nothing is ever created.
#[derive(Clone, Debug)]
struct Nothing;

impl SharedData for Nothing {
    fn get(&self, _: &str) -> Option<(Vec<u8>, NonZeroU32)> {
        None
    }

    fn replace(&self, _: &str, _: &[u8], _: NonZeroU32) -> bool {
        false
    }

    fn create(&self, _: &str, _: &[u8]) {}
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::from_bytes(br#"{"store": {"type": "redis", "cluster": "sidecar", "on_error": "deny"}}"#).unwrap()
});

/// The charges of a request to this number of windows.
fn charges(windows: usize) -> Vec<ScopeCharges> {
    let charge = |n: usize| Charge {
        identity: "me".into(),
        name: n.to_string().into(),
        window: Window::sliding(NonZeroMillis::MINUTE),
        limit: Units::new(10),
        cost: Units::new(1),
        enforced: true,
        warn_at: None,
    };
    vec![ScopeCharges { scope: "me".into(), charges: (0..windows).map(charge).collect() }]
}

fn windows_of(stream: u32) -> usize {
    usize::try_from(stream % 3).unwrap()
}

fn reserve(stores: &mut Stores<Nothing>, streams: std::ops::Range<u32>, now: Millis) {
    for stream in streams {
        let wanted = Wanted {
            id: &stream.to_string(),
            charges: charges(windows_of(stream)),
            max_new_identities: None,
            is_final: false,
            request_id: None,
            refused_unasked: Vec::new(),
        };
        stores.reserve(stream, wanted, now);
    }
}

/// The number of elements of a callout.
fn elements(callout: &Callout) -> usize {
    serde_json::from_slice::<Vec<Value>>(&callout.body).unwrap().len()
}

/// The answer of a sidecar that does all it is asked.
fn good_answer(callout: &Callout) -> Vec<u8> {
    let calls: Vec<Value> = serde_json::from_slice(&callout.body).unwrap();
    let answer = |call: &Value| match callout.kind {
        Kind::Reserve(_) | Kind::Probe => {
            let windows = call["charges"].as_array().unwrap().iter();
            let window = serde_json::json!({"used": 1, "reset_ms": 1_000, "retry_after_ms": 0});
            serde_json::json!({"admitted": true, "windows": windows.map(|_| &window).collect::<Vec<_>>()})
        }
        Kind::Settle => serde_json::json!({"settled": true}),
        Kind::Background => serde_json::json!({}),
    };
    serde_json::to_vec(&calls.iter().map(answer).collect::<Vec<_>>()).unwrap()
}

/// Whether `body` says, as its element `at`, that a reservation of so many windows is made.
fn says_admitted(body: &[u8], at: usize, windows: usize) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = &body[at];
    said["admitted"] == true && said["windows"].as_array().is_some_and(|said| said.len() == windows)
}

/// Queues calls of each kind, gives `body` as the answer to all, and then good answers until nothing waits.
fn answer(body: &[u8], choice: u8) {
    let mut now = Millis::new(1_700_000_000_000);
    let mut stores = Stores::new(CONFIG.store(), "".into(), BTreeSet::new(), Nothing);
    let streams = u32::from(choice % 4) + 1;
    reserve(&mut stores, 0..streams, now);
    for settled in 0..choice / 4 % 4 {
        let held = if settled % 2 == 0 { HeldIn::Redis } else { HeldIn::Uncounted };
        let id = format!("settled-{settled}");
        stores.settle(
            Settlement {
                id,
                charges: charges(2),
                held,
                is_unchanged: false,
                is_final: false,
                may_share: false,
                request_id: None,
                tokens: None,
            },
            now,
        );
    }
    if choice & 16 != 0 {
        stores.extend(99, ("extended", None), charges(1), &mut HeldIn::Redis, false, now);
    }
    if choice & 32 != 0 {
        let (id, record) = ("open".into(), "record".into());
        let (response, charges, held) = ("ab".repeat(32), charges(1), HeldIn::Redis);
        stores.keep_open(OpenResponse { response, id, charges, record, keep: Millis::MINUTE, held }, now);
    }
    if choice & 64 != 0 {
        stores.report_usage("cd".repeat(32), "usage".into(), now);
    }
    let mut is_waiting: Vec<u32> = (0..streams).collect();
    let given_up = (choice & 128 != 0).then_some(0);
    for callout in stores.turn(now, &mut Stats::default()) {
        if let Some(stream) = given_up {
            stores.give_up(stream);
        }
        let sent = elements(&callout);
        let outcome = stores.callout_ended(callout.kind, Ok(body), now, &mut Stats::default());
        for (stream, answer) in outcome.answers {
            is_waiting.retain(|waiting| *waiting != stream);
            if let Answer::Decided(Decision { held, states }) = answer {
                let at = usize::try_from(stream).unwrap();
                assert_eq!(states.len(), windows_of(stream));
                assert!(held.is_none() || says_admitted(body, at, states.len()), "{held:?}");
            }
        }
        for stream in outcome.late {
            assert_eq!(given_up, Some(stream));
            assert!(says_admitted(body, 0, windows_of(stream)));
        }
        assert!(outcome.over.len() <= sent && outcome.met.len() <= sent);
    }
    is_waiting.retain(|stream| given_up != Some(*stream));
    assert!(is_waiting.is_empty(), "{is_waiting:?} got no answer");

    reserve(&mut stores, 100..103, now);
    let mut admitted = 0;
    for _ in 0..100 {
        for callout in stores.turn(now, &mut Stats::default()) {
            let outcome =
                stores.callout_ended(callout.kind, Ok(&good_answer(&callout)), now, &mut Stats::default());
            let is_admitted =
                |answer: &Answer| matches!(answer, Answer::Decided(Decision { held: Some(_), .. }));
            admitted += outcome.answers.iter().filter(|(_, answer)| is_admitted(answer)).count();
        }
        match stores.next_due() {
            Some(due) => now = now.max(due),
            None => break,
        }
    }
    assert!(stores.is_idle() && admitted == 3, "{stores:?}");
}

/// A refusal of a callout: any status, any body.
fn refuse(body: &[u8], choice: u8) {
    let status = 100 + u16::from(choice) * 2;
    let failure = Failure::of_status(Some(&status.to_string()), body);
    assert!(failure.why.len() <= 1_000 && (400..500).contains(&status) | !failure.is_refusal);
    assert!(!matches!(failure.answer(), Answer::Decided(_)));
}

/// Reads a call as the sidecar does.
fn call<T: DeserializeOwned + Serialize + PartialEq + Debug>(body: &[u8]) -> Vec<T> {
    match batch::read::<T>(body) {
        Ok(elements) => {
            let written = serde_json::to_vec(&elements).unwrap();
            assert_eq!(batch::read::<T>(&written).as_ref(), Ok(&elements));
            elements
        }
        Err(Refusal::Malformed(why)) => {
            assert!(why.contains(" at line "), "{why}");
            Vec::new()
        }
        Err(Refusal::TooMany(len)) => {
            assert!(len > 1_024);
            Vec::new()
        }
        Err(other) => panic!("{other}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_last() else { return };
    answer(body, *choice);
    refuse(body, *choice);
    for Reserve { id, namespace, charges, .. } in &call(body) {
        if let Ok(groups) = call::groups(namespace, id, charges) {
            let mut places: Vec<usize> = groups.iter().flat_map(call::Group::places).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..ScopeCharges::flat(charges).count()));
        }
    }
    for settle in &call::<Settle>(body) {
        if let Ok(groups) = call::groups(&settle.namespace, &settle.id, &settle.charges) {
            let calls: Vec<_> = groups.iter().map(|group| group.settle(settle, 0)).collect();
            assert!(calls.iter().all(|call| {
                call.record().is_some_and(|key| key.ends_with(&format!(":reservation:{}", settle.id)))
            }));
        }
    }
    for one in &call::<Background>(body) {
        let _ = call::background(one);
    }
});
