//! What becomes of reservations: they grow with their requests, end, or stay open for a usage that comes later.

use super::{Stores, open_responses};
use crate::quantity::Millis;
use crate::store::arrears::Owed;
use crate::store::charge::ScopeCharges;
use crate::store::local::{Receipt, SharedData};
use crate::store::responses::USAGE_WAITS;
use crate::store::shard::Step;
use crate::store::wire::{self, Background, IfAbsent, Settle};
use crate::store::{Extended, HeldIn, Met, OpenResponse, Settlement};
use std::sync::Arc;

/// What became of an open response or of a usage.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The two that have met, and must be settled.
    pub met: Option<Met>,
    /// Whether a call to the sidecar was queued.
    pub queued: bool,
}

impl<S: SharedData> Stores<S> {
    /// Charges what a running request has cost beyond its earlier charges: of the reservation with this id, of the
    /// request that Envoy knows by the other. The costs in `charges` are absolute, so that a second call with the same
    /// charges changes nothing.
    pub fn extend(
        &mut self,
        stream: u32,
        (id, request_id): (&str, Option<&Arc<str>>),
        mut charges: Vec<ScopeCharges>,
        held: &mut HeldIn,
        may_share: bool,
        now: Millis,
    ) -> Extended {
        self.calendars.keep_up(&mut charges, now);
        let is_share = matches!(held, HeldIn::LocalShare(_));
        match held {
            HeldIn::Local(receipt) | HeldIn::LocalShare(receipt) => {
                let extended = self.local.as_ref().map(|local| local.extend(&charges, receipt, now));
                let is_over = match extended {
                    Some(Ok(is_over)) => is_over,
                    Some(Err(error)) => {
                        log::error!("{error}");
                        false
                    }
                    None => false,
                };
                Extended {
                    is_over,
                    queued: is_share && self.extend_arrears(stream, id, &charges, may_share, now),
                }
            }
            HeldIn::Redis => {
                self.follow(id, Step::Runs, &charges, now);
                let request_id = request_id.cloned();
                let settle =
                    Settle { may_share, request_id, ..self.call(id.to_owned(), None, true, charges) };
                Extended { is_over: false, queued: self.send(Some(stream), settle) }
            }
            HeldIn::Uncounted | HeldIn::Nowhere => Extended::default(),
        }
    }

    /// Tells Redis of the growth of a request that this Envoy has admitted alone, if it has learned of the request.
    /// Where nothing else would show that Redis answers again, this does. Returns whether a call to the sidecar was
    /// queued.
    fn extend_arrears(
        &mut self,
        stream: u32,
        id: &str,
        charges: &[ScopeCharges],
        may_share: bool,
        now: Millis,
    ) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        let owed = sidecar.arrears.grown(id, charges, sidecar.settles.is_empty(), now);
        owed.is_some_and(|owed| self.send_arrears(Some(stream), id.to_owned(), owed, may_share))
    }

    /// Queues the charges of a running request that this Envoy has admitted alone.
    pub(super) fn send_arrears(
        &mut self,
        stream: Option<u32>,
        id: String,
        owed: Owed,
        may_share: bool,
    ) -> bool {
        let settle = Settle { may_share, ..self.call(id, Some(IfAbsent::Charge), true, owed.charges) };
        self.send_since(Some(owed.since), stream, settle)
    }

    /// Ends a reservation. Returns whether a call to the sidecar was queued.
    pub fn settle(&mut self, settlement: Settlement, now: Millis) -> bool {
        let Settlement { id, mut charges, held, is_unchanged, is_final, may_share, request_id, tokens } =
            settlement;
        self.calendars.keep_up(&mut charges, now);
        match held {
            HeldIn::Nowhere => false,
            HeldIn::Local(_) if is_unchanged => false,
            HeldIn::Local(receipt) => {
                self.settle_locally(&charges, receipt, now);
                false
            }
            HeldIn::Redis => {
                if is_unchanged {
                    self.mirror.iter_mut().for_each(|mirror| mirror.ended_unchanged(&id));
                } else {
                    self.follow(&id, Step::Ends, &charges, now);
                }
                // Redis forgets it by itself.
                if is_final && is_unchanged && !may_share {
                    return false;
                }
                let settle = self.call(id, None, false, charges);
                self.send(None, Settle { may_share, request_id, tokens, ..settle })
            }
            HeldIn::Uncounted => {
                let settle = self.call(id, Some(IfAbsent::Mark), false, charges);
                let settle = Settle { may_share, request_id, tokens, ..settle };
                let due = self.sidecar.as_mut().and_then(|sidecar| sidecar.reserves.settle_late(settle));
                due.is_some_and(|settle| self.send(None, settle))
            }
            // The fleet's counters miss what the share admitted, so Redis charges it now.
            HeldIn::LocalShare(receipt) => {
                let since = self.sidecar.as_mut().and_then(|it| it.arrears.ended(&id, &charges, now));
                self.settle_locally(&charges, receipt, now);
                let settle = self.call(id, Some(IfAbsent::Charge), false, charges);
                let settle = Settle { may_share, request_id, tokens, ..settle };
                self.send_since(since, None, settle)
            }
        }
    }

    fn settle_locally(&self, charges: &[ScopeCharges], receipt: Receipt, now: Millis) {
        if let Some(local) = &self.local
            && let Err(error) = local.settle(charges, receipt, now)
        {
            log::error!("{error}");
        }
    }

    /// Keeps a reservation open after its request, until [`Stores::report_usage`] has the usage of its response or
    /// `keep` has passed, and ends its leases. Where nobody can wait for the usage, settles it as it is charged so far.
    pub fn keep_open(&mut self, mut open: OpenResponse, now: Millis) -> Kept {
        self.calendars.keep_up(&mut open.charges, now);
        match (open.held, &self.local) {
            // With a sidecar, the usage goes there, and would never meet what is kept here.
            (HeldIn::Local(mut receipt), Some(local)) if self.sidecar.is_none() => {
                let kept = local.detach(&open.charges, &mut receipt, now).and_then(|()| {
                    open_responses(local).open(&open.response, &open.record, &receipt, open.keep, now)
                });
                let usage = kept.unwrap_or_else(|error| {
                    log::error!("{error}");
                    None
                });
                let met = usage.map(|usage| Met { record: open.record, usage, held: HeldIn::Local(receipt) });
                Kept { met, queued: false }
            }
            (HeldIn::Redis, _) => {
                self.follow(&open.id, Step::Leaves, &open.charges, now);
                let call = Background::Open(wire::OpenResponse {
                    response: open.response,
                    namespace: Arc::clone(&self.namespace),
                    id: open.id,
                    charges: open.charges,
                    record: open.record,
                    keep_ms: open.keep,
                });
                Kept { met: None, queued: self.send_background(call) }
            }
            (held, _) => {
                let OpenResponse { id, charges, .. } = open;
                let settlement = Settlement::without_request(id, charges, held);
                Kept { met: None, queued: self.settle(settlement, now) }
            }
        }
    }

    /// Takes the usage of a response, for the reservation that is or will be open for it.
    pub fn report_usage(&mut self, response: String, usage: String, now: Millis) -> Kept {
        if self.sidecar.is_some() {
            let namespace = Arc::clone(&self.namespace);
            let call = wire::ResponseUsage { response, namespace, usage, keep_ms: USAGE_WAITS };
            return Kept { met: None, queued: self.send_background(Background::Usage(call)) };
        }
        let Some(local) = &self.local else { return Kept::default() };
        let met = open_responses(local).report(&response, &usage, now).unwrap_or_else(|error| {
            log::error!("{error}");
            None
        });
        let met = met.map(|(record, receipt)| Met { record, usage, held: HeldIn::Local(receipt) });
        Kept { met, queued: false }
    }

    fn send_background(&mut self, call: Background) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        if let Some(settle) = sidecar.responses.push(call) {
            sidecar.settles.push(None, settle);
        }
        true
    }

    /// Undoes what Redis may have charged for a reservation, because its request is not forwarded. If the reservation
    /// arrives later than this, Redis charges nothing. Returns whether a call to the sidecar was queued.
    pub fn cancel(
        &mut self,
        (id, mut nothing): (String, Vec<ScopeCharges>),
        request_id: Option<Arc<str>>,
        may_share: bool,
        now: Millis,
    ) -> bool {
        self.calendars.keep_up(&mut nothing, now);
        self.follow(&id, Step::Ends, &nothing, now);
        let settle = self.call(id, Some(IfAbsent::Charge), false, nothing);
        self.send(None, Settle { may_share, request_id, ..settle })
    }

    fn call(
        &self,
        id: String,
        if_absent: Option<IfAbsent>,
        extend: bool,
        charges: Vec<ScopeCharges>,
    ) -> Settle {
        let namespace = Arc::clone(&self.namespace);
        Settle { id, namespace, if_absent, extend, charges, ..Settle::default() }
    }

    /// Queues a settlement, or an extension for `stream`. Returns whether there is a sidecar.
    fn send(&mut self, stream: Option<u32>, settle: Settle) -> bool {
        self.send_since(None, stream, settle)
    }

    /// Queues a settlement or an extension all of whose cost has counted `since` then, if that is known.
    fn send_since(&mut self, since: Option<Millis>, stream: Option<u32>, settle: Settle) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        let lesson = self.corrections.next_lesson();
        sidecar.settles.push_since(since, stream, Settle { lesson, ..settle });
        true
    }
}
