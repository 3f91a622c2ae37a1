//! The rules on what requests cost, checked: reservation, streams, errors, weights and prices.

use super::document::Number;
use super::error::{Path, Problems};
use super::pattern;
use super::raw::{self, AcceptEncoding, OnStreamOver, OutputMode, StreamUsage};
use crate::policy::pattern::ByPattern;
use crate::pricing::{Price, Prices, Weights};
use crate::quantity::{MAX_EXACT, MILLION};
use std::collections::BTreeMap;

/// The default number of tokens to reserve for the output of a request that sets no maximum.
const DEFAULT_OUTPUT_TOKENS: u64 = 512;
/// The largest factor of a model, in millionths.
const MAX_MODEL_FACTOR: u64 = 1_000 * MILLION;
/// The largest factor of reasoning, in millionths.
const MAX_REASONING_FACTOR: u64 = 10 * MILLION;
/// A million dollars for a million tokens, in micro-dollars: more than any model costs.
const MAX_PRICE: u64 = 1_000_000 * MILLION;

/// The rules on what requests cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// The tokens to reserve for the output of a request that sets no maximum. Zero reserves nothing.
    pub default_output_tokens: u64,
    /// The mode that chooses the reservation of output.
    pub output_mode: OutputMode,
    /// The source of a stream's usage if the client did not request it. None is [`StreamUsage::Inject`] where tokens or
    /// dollars are limited, and not only in a dry run.
    pub stream_usage: Option<StreamUsage>,
    /// The treatment of a stream that passes a limit on tokens while it runs.
    pub on_stream_over: OnStreamOver,
    /// Whether limits on requests refund a request that the upstream answers with an error.
    pub refund_requests_on_error: bool,
    /// The treatment of a request's `accept-encoding` if tokens are limited.
    pub accept_encoding: AcceptEncoding,
    /// The weight of each token under limits on tokens.
    pub weights: Weights,
    /// The prices of models.
    pub prices: Prices,
}

impl Accounting {
    /// Checks the fields of `raw`.
    #[inline(never)]
    pub(super) fn new(raw: &raw::Root, root: &Path<'_>, problems: &mut Problems) -> Option<Self> {
        let default_output_tokens = problems.whole_or(
            &root.member("output_reservation").member("default_tokens"),
            raw.output_reservation.default_tokens,
            0..=MAX_EXACT,
            DEFAULT_OUTPUT_TOKENS,
        );
        let weights = weights(&raw.weights, &root.member("weights"), problems);
        let own = prices(&raw.prices, &root.member("prices"), problems);
        let prices = Prices { own, unpriced: raw.unpriced };
        Some(Self {
            default_output_tokens: default_output_tokens?,
            output_mode: raw.output_reservation.mode,
            stream_usage: raw.stream_usage,
            on_stream_over: raw.on_stream_over,
            refund_requests_on_error: raw.refund_requests_on_error,
            accept_encoding: raw.accept_encoding,
            weights: weights?,
            prices,
        })
    }
}

fn weights(raw: &raw::Weights, path: &Path<'_>, problems: &mut Problems) -> Option<Weights> {
    let mut factor = |name, given, most| problems.millionths_or(&path.member(name), given, 0..=most, MILLION);
    let cached_input = factor("cached_input_factor", raw.cached_input_factor, MILLION);
    let reasoning = factor("reasoning_factor", raw.reasoning_factor, MAX_REASONING_FACTOR);
    let models_path = path.member("models");
    let models = ByPattern::new(raw.models.iter().filter_map(|(text, factor)| {
        let path = models_path.member(text);
        let pattern = pattern::of_models(text, &path, problems);
        Some((pattern, problems.millionths(&path, *factor, 0..=MAX_MODEL_FACTOR)?))
    }));
    Some(Weights { cached_input: cached_input?, reasoning: reasoning?, models })
}

fn prices(raw: &BTreeMap<String, raw::Price>, path: &Path<'_>, problems: &mut Problems) -> ByPattern<Price> {
    ByPattern::new(raw.iter().filter_map(|(text, given)| {
        let path = path.member(text);
        let pattern = pattern::of_models(text, &path, problems);
        Some((pattern, price(given, &path, problems)?))
    }))
}

fn price(raw: &raw::Price, path: &Path<'_>, problems: &mut Problems) -> Option<Price> {
    let mut dollars = |name, number: Number| problems.millionths(&path.member(name), number, 0..=MAX_PRICE);
    let input = dollars("input", raw.input);
    let cached_input = raw.cached_input.map_or(input, |number| dollars("cached_input", number));
    let cache_write = raw.cache_write.map_or(input, |number| dollars("cache_write", number));
    let output = dollars("output", raw.output);
    Some(Price { input: input?, cached_input: cached_input?, cache_write: cache_write?, output: output? })
}
