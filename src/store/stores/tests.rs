use super::*;
use crate::config::Config;
use crate::store::charge::tests::charge;
use crate::store::local::Receipt;
use crate::store::local::tests::Memory;
use crate::store::sidecar::{Callout, Kind};
use crate::store::wire::{IfAbsent, Settle};
use crate::store::{Extended, Failure, Settlement};
use crate::telemetry::stats::Stats;

/// Both stores, as `on_error: local` needs them.
fn stores(memory: &Memory) -> Stores<&Memory> {
    let config = br#"{"store": {"type": "redis", "cluster": "s", "on_error": "local"}}"#;
    Stores::new(Config::from_bytes(config).unwrap().store(), "".into(), BTreeSet::new(), memory)
}

fn charges(cost: u64) -> Vec<ScopeCharges> {
    vec![ScopeCharges { scope: "scope".into(), charges: vec![charge("me", 100, cost)] }]
}

/// The local store's count after a settlement of 40, and the settlement that the sidecar gets.
fn settled(held: fn(Receipt) -> HeldIn, is_unchanged: bool) -> (u64, Option<Settle>) {
    let memory = Memory::default();
    let mut stores = stores(&memory);
    let mut local =
        LocalStore::new(&memory, "".into(), std::num::NonZeroU32::new(65_536).unwrap(), Arc::default());
    local.prepare();
    let receipt = local.reserve(&charges(5), Millis::ZERO).unwrap().held.unwrap();
    let (id, held) = ("id".into(), held(receipt));
    let dearer = charges(40);
    let settlement = Settlement {
        id,
        charges: dearer,
        held,
        is_unchanged,
        is_final: false,
        may_share: false,
        request_id: Some("r-1".into()),
        tokens: Some(7),
    };
    let queued = stores.settle(settlement, Millis::ZERO);
    let used = local.reserve(&charges(0), Millis::ZERO).unwrap().states[0].used.get();
    let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop();
    assert_eq!(queued, callout.is_some());
    let sent = callout.map(|callout| serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0));
    (used, sent)
}

#[test]
fn a_settlement_goes_to_the_store_that_has_the_reservation() {
    assert_eq!(settled(HeldIn::Local, true), (5, None), "the charges are final already");
    assert_eq!(settled(HeldIn::Local, false), (40, None));
    let (used, redis) = settled(|_| HeldIn::Redis, false);
    let redis = redis.unwrap();
    assert_eq!((used, &redis.charges), (5, &charges(40)));
    assert_eq!(redis.if_absent, None, "settling a reservation again must change nothing");
    assert_eq!((redis.request_id.as_deref(), redis.tokens), (Some("r-1"), Some(7)));
    let (used, instead) = settled(HeldIn::LocalShare, false);
    assert_eq!((used, instead.unwrap().if_absent), (40, Some(IfAbsent::Charge)));
    assert_eq!(settled(|_| HeldIn::Uncounted, false).1.unwrap().if_absent, Some(IfAbsent::Mark));
}

#[test]
fn a_cancellation_keeps_a_late_reservation_from_charging() {
    let memory = Memory::default();
    let mut stores = stores(&memory);
    assert!(stores.cancel(("id".into(), charges(0)), None, false, Millis::ZERO));
    let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop().unwrap();
    let cancel = serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0);
    assert_eq!((cancel.charges, cancel.if_absent), (charges(0), Some(IfAbsent::Charge)));
}

#[test]
fn a_probe_that_is_answered_lets_redis_learn_what_it_missed() {
    let memory = Memory::default();
    let mut stores = stores(&memory);
    let answer = stores.reserve_share("id", charges(5), || charges(9), Millis::ZERO);
    assert!(answer.is_admission());
    stores.look_after(false, Millis::ZERO);
    let mut sent = |now, answer: Result<&[u8], Failure>| {
        let now = Millis::new(now);
        let kinds = |callouts: &[Callout]| callouts.iter().map(|it| it.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&stores.turn(now, &mut Stats::default())), [Kind::Probe]);
        stores.callout_ended(Kind::Probe, answer, now, &mut Stats::default());
        let callout = stores.turn(now, &mut Stats::default()).pop()?;
        Some(serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap())
    };
    assert_eq!(sent(0, Err("no answer".into())), None);
    assert_eq!(sent(100, Ok(br#"[{"error":"Redis takes no writes","unavailable":true}]"#)), None);
    let settle = sent(300, Ok(br#"[{"admitted":true,"windows":[]}]"#)).unwrap().remove(0);
    assert_eq!((settle.charges, settle.if_absent), (charges(9), Some(IfAbsent::Charge)));
    assert!(settle.extend, "the request still runs");
}

#[test]
fn an_extension_sends_redis_the_whole_cost_so_far() {
    let memory = Memory::default();
    let mut stores = stores(&memory);
    let extended = stores.extend(1, ("id", None), charges(9), &mut HeldIn::Redis, false, Millis::ZERO);
    assert_eq!(extended, Extended { is_over: false, queued: true });
    let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop().unwrap();
    let settle = serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0);
    assert_eq!((settle.charges, settle.extend), (charges(9), true));
}
