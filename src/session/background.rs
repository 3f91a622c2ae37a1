//! Responses that go on in the background (`background: true`) after their request is over: the client has left, or the
//! answer only says that the response is queued.
//!
//! Nobody knows the cost then. The reservation stays open, without its slot, until the usage of the response passes by
//! in the answer to another request ([`super::following`]). Where none does, it stays as reserved.

use super::RequestFacts;
use super::charged::{Charged, count_estimate, count_tokens};
use super::context::{Cx, cost};
use super::reservation::OpenReservation;
use crate::config::Config;
use crate::models::Family;
use crate::policy::Candidates;
use crate::policy::limit::{Cost, Metric};
use crate::pricing::Tokens;
use crate::quantity::{Millis, Units};
use crate::store::local::SharedData;
use crate::store::wire::{Charge, ScopeCharges};
use crate::store::{HeldIn, Kept, Met, OpenResponse, Settlement, Stores};
use crate::telemetry::Basis;
use crate::telemetry::access_log::Field;
use crate::telemetry::series::Count;
use crate::telemetry::stats::Stats;
use crate::usage::{Outcome, ResponseState, Usage};
use crate::window::{Algorithm, Window};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::sync::Arc;

/// The longest time for which a reservation is kept open: Redis remembers no reservation for longer.
const MAX_KEEP: Millis = Millis::DAY;

/// The largest record, in bytes. A reservation that does not fit is settled as reserved.
const MAX_RECORD_BYTES: usize = 8 * 1024;

/// Whatever is needed to settle a reservation without the request that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The reservation's id.
    pub(super) id: String,
    /// The models that the request may be for: their names, and whether it may be for any.
    pub(super) models: (Vec<String>, bool),
    /// The tokens that were reserved.
    pub(super) reserved: u64,
    /// The limits.
    pub(super) lines: Vec<RecordLine>,
    /// See [`Settlement::may_share`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) may_share: bool,
}

/// A limit under which units are charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordLine {
    pub(super) scope: Arc<str>,
    pub(super) identity: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) window: Window,
    pub(super) limit: Units,
    pub(super) enforced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warn_at: Option<Units>,
    pub(super) metric: Metric,
    /// The limit is that of another model, and gets everything back.
    pub(super) is_of_another: bool,
}

impl Record {
    pub(super) fn models(models: &Candidates) -> (Vec<String>, bool) {
        match models {
            Candidates::One(name) => (vec![name.clone()], false),
            Candidates::Several(names) => (names.clone(), false),
            Candidates::Any(names) => (names.clone(), true),
        }
    }

    fn candidates(&self) -> Candidates {
        match &self.models {
            (names, true) => Candidates::Any(names.clone()),
            (names, false) => match names.as_slice() {
                [name] => Candidates::One(name.clone()),
                _ => Candidates::Several(names.clone()),
            },
        }
    }

    /// The charges that settle the reservation to `cost`.
    fn charges(self, cost: &Cost) -> Vec<ScopeCharges> {
        ScopeCharges::group(self.lines.into_iter().map(|line| {
            let cost = if line.is_of_another { Units::ZERO } else { cost.of(line.metric) };
            let charge = Charge {
                identity: line.identity,
                name: line.name,
                window: line.window,
                limit: line.limit,
                cost,
                enforced: line.enforced,
                warn_at: line.warn_at,
            };
            (line.scope, charge)
        }))
    }

    /// Whether the cost of its tokens matters.
    fn counts_tokens(&self) -> bool {
        self.lines.iter().any(|line| line.metric.needs_tokens())
    }

    /// How long to keep the reservation open: as long as the longest window in which its tokens count.
    fn keep(&self) -> Millis {
        let counts = |line: &&RecordLine| line.window.algorithm != Algorithm::Concurrency;
        let longest = self.lines.iter().filter(counts).map(|line| line.window.length.get()).max();
        longest.unwrap_or_default().min(MAX_KEEP)
    }
}

/// Whether a response that ended with this `outcome` for its client may go on: nothing has said that it is over, and
/// its usage has not come.
pub(super) fn may_go_on(state: &ResponseState, outcome: Outcome) -> bool {
    match state.is_running {
        Some(is_running) => is_running,
        None => !matches!(outcome, Outcome::Reported(_) | Outcome::Failed),
    }
}

/// Ends a request whose response may go on. Its reservation stays open if the response has an id.
pub(super) fn leave_open<S: SharedData>(
    open: OpenReservation,
    facts: &RequestFacts,
    state: &ResponseState,
    outcome: Outcome,
    cx: &mut Cx<'_, S>,
) {
    let record = open.record(&facts.models);
    let text = serde_json::to_string(&record).ok().filter(|text| text.len() <= MAX_RECORD_BYTES);
    let (Some(id), Some(text), true) = (&state.id, text, record.counts_tokens() && open.can_stay_open())
    else {
        cx.settle(open, facts, Charged::AS_RESERVED);
        return;
    };
    let estimate = open.estimate();
    let (tokens, shown) = (estimate.tokens, estimate.shown());
    cx.log(Field::Outcome, Basis::Unknown.name());
    if !estimate.is_of_any_size() {
        cx.log(Field::InputTokens, shown.input_tokens);
    }
    cx.log(Field::OutputTokens, shown.output_tokens);
    let family = Family::of(facts.model().unwrap_or_default()).name();
    count_estimate(family, &shown, &mut cx.effects.metrics);
    // What has arrived is the least that it will cost.
    let so_far = match outcome {
        Outcome::Counted { usage, .. } => cx.cost(&facts.models, &usage.tokens(&tokens)),
        Outcome::Reported(_) | Outcome::Failed | Outcome::Unknown => Cost::default(),
    };
    let keep = record.keep();
    let (charges, held) = open.leave(&so_far);
    let open = OpenResponse { response: hash(id), id: record.id, charges, record: text, keep, held };
    let kept = cx.stores.keep_open(open, cx.now);
    finish(kept, cx);
}

/// Takes the `usage` of the response with this `id`, to settle the reservation that is open for it.
pub(super) fn report<S: SharedData>(id: &str, usage: &Usage, cx: &mut Cx<'_, S>) {
    // Without the prompt's tokens, nobody knows the cost.
    if usage.input_tokens.is_none() {
        return;
    }
    let tokens = usage.tokens(&Tokens { may_reason: true, ..Tokens::NONE });
    let Ok(usage) = serde_json::to_string(&tokens.numbers()) else { return };
    let kept = cx.stores.report_usage(hash(id), usage, cx.now);
    finish(kept, cx);
}

fn finish<S: SharedData>(kept: Kept, cx: &mut Cx<'_, S>) {
    cx.effects.wake |= kept.queued;
    if let Some(met) = kept.met {
        cx.effects.wake |= settle_met(met, cx.config, cx.stores, &mut cx.effects.metrics, cx.now);
    }
}

/// Settles an open response to its usage. Returns whether a call to the sidecar was queued.
pub(crate) fn settle_met<S: SharedData>(
    met: Met,
    config: &Config,
    stores: &mut Stores<S>,
    stats: &mut Stats,
    now: Millis,
) -> bool {
    let Met { record, usage, held } = met;
    let (record, usage) = match (serde_json::from_str(&record), serde_json::from_str(&usage)) {
        (Ok(record), Ok(usage)) => (record, usage),
        (Err(error), _) | (_, Err(error)) => {
            log::error!("cannot read an open response, which stays as reserved: {error}");
            return false;
        }
    };
    let (settlement, model, cost) = settlement(record, usage, held, config);
    stats.add(Count::Settled { outcome: Basis::Reported }, 1);
    let family = Family::of(model.as_deref().unwrap_or_default()).name();
    count_tokens(family, &cost, None, stats);
    stores.settle(settlement, now)
}

fn settlement(
    record: Record,
    tokens: Vec<u64>,
    held: HeldIn,
    config: &Config,
) -> (Settlement, Option<String>, Cost) {
    let models = record.candidates();
    let cost = cost(config, &models, &Tokens::from_numbers(&tokens));
    let model = models.names().first().cloned();
    let (id, may_share) = (record.id.clone(), record.may_share);
    let charges = record.charges(&cost);
    // The request that brings the usage is another.
    let settlement = Settlement { may_share, ..Settlement::without_request(id, charges, held) };
    (settlement, model, cost)
}

/// The SHA-256 of a response's id, in hexadecimal: the stores do not see the id.
fn hash(id: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(id.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
