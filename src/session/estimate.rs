//! What a request is expected to cost: what it says, and the most that it could be where that is not known.

use super::context::{Cx, cost};
use super::output_cap::Output;
use super::reservation::{Certainty, Estimate, PromptCount};
use crate::config::{Accounting, Config, OutputMode};
use crate::models;
use crate::policy::limit::{Cost, Metric};
use crate::policy::{Applied, Candidates, Subject};
use crate::pricing::Tokens;
use crate::quantity::{MAX_EXACT, Units};
use crate::request::{CountedPrompt, Request, TextTokens};
use crate::store::local::SharedData;
use crate::tokens::{Meter, Tokenizer, Wants};
use crate::usage::learned_output::{Learned, Sender};
use crate::usage::learned_prompt::{Cell, Factor};

/// Counts the tokens of a request's text until the function is true of them, with the model's factor applied. Returns
/// the tokens before it is, and whether there may be more.
pub(super) type CountText<'c> = dyn Fn(Tokenizer, &dyn Fn(u64) -> bool) -> (TextTokens, bool) + 'c;

/// Counts the text of `request` at once.
pub(super) fn at_once(
    request: &Request<'_>,
) -> impl Fn(Tokenizer, &dyn Fn(u64) -> bool) -> (TextTokens, bool) {
    |tokenizer, is_enough| {
        let meter = Meter::new(tokenizer, is_enough);
        (request.text_tokens(&meter), meter.has_stopped())
    }
}

/// The tokenizers that [`of_request`] counts with, for one of `models`: one for each vocabulary.
pub(super) fn tokenizers<S: SharedData>(models: &Candidates, cx: &Cx<'_, S>) -> Vec<Tokenizer> {
    let mut tokenizers: Vec<Tokenizer> = Vec::new();
    if !cx.shared.counts_tokens {
        return tokenizers;
    }
    for model in each(models) {
        let tokenizer = cx.config.encodings().tokenizer(model);
        match tokenizers.iter_mut().find(|known| known.has_vocabulary_of(&tokenizer)) {
            Some(known) => *known = known.for_either(tokenizer),
            None => tokenizers.push(tokenizer),
        }
    }
    tokenizers
}

/// Each of `models`, and none if it may be another.
pub(super) fn each(models: &Candidates) -> impl Iterator<Item = Option<&str>> {
    let is_one = models.names().len() <= usize::from(models.one().is_some());
    let names = models.names().iter().map(|name| Some(name.as_str())).filter(move |_| !is_one);
    let other = (is_one || matches!(models, Candidates::Any(_))).then_some(models.one());
    names.chain(other)
}

/// Whether a prompt of `subject` for one of `models` with so many tokens is refused, however much more there is of it.
pub(super) fn is_enough<S: SharedData>(
    models: &Candidates,
    subject: &Subject,
    cx: &Cx<'_, S>,
) -> impl Fn(u64) -> bool {
    let most = most_input(subject, models);
    let weights = &cx.config.accounting().weights;
    let weighed = move |input| weights.dearest(models, &Tokens { input, ..Tokens::NONE }).input_tokens;
    let least = cx.stores.corrections().factors().least();
    move |input| most.is_some_and(|most| Units::from(weighed(least.of(input))) > most)
}

/// What the rules count of a prompt for `model`, if they are not exact and are to be corrected. A prompt that the
/// request does not show whole says nothing about how well the rules count.
pub(super) fn counted(prompt: &CountedPrompt, model: Option<&str>) -> Option<PromptCount> {
    let (kind, model) = (prompt.kind?, model?);
    let is_estimate = !models::counts_exactly(model, kind) && !prompt.hides;
    is_estimate.then(|| PromptCount { cell: Cell::new(model, kind), tokens: prompt.tokens })
}

/// The cost that is expected of a `request` of `subject` for one of `models`, with this `output`. `count` counts its
/// text.
pub(super) fn of_request<S: SharedData>(
    request: &Request<'_>,
    output: &Output,
    models: &Candidates,
    subject: &Subject,
    count: &CountText<'_>,
    cx: &Cx<'_, S>,
) -> Estimate {
    if !cx.shared.counts_tokens {
        return Estimate::REQUEST;
    }
    let (accounting, learned) = (cx.config.accounting(), &cx.shared.learned);
    let (declared, output, certainty) =
        expected_output(request, output, models, || subject.sender(), accounting, learned);
    let is_enough = is_enough(models, subject, cx);
    let of = |prompt: CountedPrompt, wants, models: &Candidates, name, is_partial| {
        let counted = counted(&prompt, name).filter(|_| cx.stores.corrections().is_on());
        let factor =
            counted.map_or(Factor::ONE, |counted| cx.stores.corrections().factors().of(counted.cell));
        let input = factor.of(prompt.tokens);
        let tokens = Tokens { input, may_reason: may_reason(name, &wants), ..Tokens::NONE };
        let certain = Tokens { input: input.min(prompt.tokens), output: declared, ..tokens };
        let estimate = Estimate {
            tokens,
            base: cx.cost(models, &certain),
            full: cx.cost(models, &Tokens { output, ..tokens }),
            certainty,
            is_partial,
            counted: counted.filter(|_| !is_partial),
            wants,
        };
        match (&cx.shared.learned_parts, accounting.output_mode) {
            (Some(parts), OutputMode::Learned) => {
                let sender = subject.sender();
                estimate.with_parts(cx.config, models, &Tokens { output, ..tokens }, |tokens| {
                    let uncached = parts.uncached(&sender, name, tokens.input);
                    (uncached, parts.reasoning(&sender, name, tokens.output))
                })
            }
            _ => estimate,
        }
    };
    // The text is counted once in each vocabulary, for all models that have it.
    let counters = tokenizers(models, cx);
    let mut counted: Vec<(Tokenizer, TextTokens, bool)> = Vec::new();
    let mut dearest: Option<Estimate> = None;
    for name in each(models) {
        let tokenizer = cx.config.encodings().tokenizer(name);
        let known = counted.iter().find(|(known, ..)| known.has_vocabulary_of(&tokenizer)).copied();
        let (_, text, is_partial) = known.unwrap_or_else(|| {
            let counter = counters.iter().find(|counter| counter.has_vocabulary_of(&tokenizer));
            let (text, is_partial) = count(counter.copied().unwrap_or(tokenizer), &is_enough);
            counted.push((tokenizer, text, is_partial));
            (tokenizer, text, is_partial)
        });
        let (counted, wants) = (request.counted_prompt(text, name, tokenizer), request.wants(&text));
        let next = match models.one() {
            Some(_) => of(counted, wants, models, name, is_partial),
            None => Estimate { counted: None, ..of(counted, wants, &name.into(), name, is_partial) },
        };
        dearest = Some(dearest.map_or(next, |dearest| dearest.max(next)));
    }
    dearest.unwrap_or(Estimate::REQUEST)
}

/// Whether an answer of `model` may hold reasoning, to a client that wants this of it.
pub(super) fn may_reason(model: Option<&str>, wants: &Wants) -> bool {
    let name = model.unwrap_or_default();
    !models::never_reasons(name) && models::reasons(name, wants.effort) != Some(false)
}

impl Estimate {
    /// The same estimate, of which the parts that only the answer reports are guesses: `expect` says how many of some
    /// tokens no cache has, and how many are reasoning. Like every guess, they give way to the limits on them.
    #[must_use]
    pub(super) fn with_parts(
        mut self,
        config: &Config,
        models: &Candidates,
        tokens: &Tokens,
        expect: impl FnOnce(&Tokens) -> (u64, u64),
    ) -> Self {
        let (uncached, reasoning) = expect(tokens);
        let cached_input = tokens.input.saturating_sub(uncached);
        let reasoning = if tokens.may_reason { reasoning } else { 0 };
        let expected =
            cost(config, models, &Tokens { cached_input, reasoning, may_reason: false, ..*tokens });
        self.full.uncached_input_tokens = expected.uncached_input_tokens;
        self.full.reasoning_tokens = expected.reasoning_tokens;
        self.base.uncached_input_tokens = Units::ZERO;
        self.base.reasoning_tokens = Units::ZERO;
        self
    }
}

/// The output that a request sets as its maximum, the output to reserve, and whether that maximum is certain.
pub(super) fn expected_output(
    request: &Request<'_>,
    output: &Output,
    models: &Candidates,
    sender: impl Fn() -> Sender,
    accounting: &Accounting,
    learned: &Learned,
) -> (u64, u64, Certainty) {
    let default = accounting.default_output_tokens;
    let from_others = || {
        let of_one = match accounting.output_mode {
            OutputMode::Declared => default,
            OutputMode::Learned => match models {
                Candidates::Any(_) => learned.longest(default),
                known => {
                    let sender = sender();
                    let expect = |name: &String| learned.expect(&sender, Some(name), default);
                    known.names().iter().map(expect).max().unwrap_or(default)
                }
            },
            OutputMode::None => 0,
        };
        of_one.saturating_mul(request.answers())
    };
    let reserves = accounting.output_mode != OutputMode::None;
    let guess = || output.otherwise.filter(|_| reserves).unwrap_or_else(from_others);
    let cap = output.cap;
    match cap.tokens.filter(|_| reserves) {
        Some(declared) if !cap.is_doubtful => (declared, declared, Certainty::Declared),
        Some(declared) => (declared, declared.max(guess()), Certainty::Guess),
        None => (0, guess(), Certainty::Guess),
    }
}

/// The most that a body of `size` bytes could cost a request of `subject`, if nobody can tell what it says; of any size
/// if that is not known either. A token has a byte at least. No more is charged than lets the request through if
/// nothing else is spent. `request` is what some upstream may take the body for.
pub(super) fn of_unreadable<S: SharedData>(
    size: Option<u64>,
    request: Option<(&Request<'_>, &CountText<'_>)>,
    models: &Candidates,
    subject: &Subject,
    cx: &Cx<'_, S>,
) -> Estimate {
    if !cx.shared.counts_tokens {
        return Estimate::REQUEST;
    }
    let unread = of_unread(size, models, subject, cx.config, &cx.shared.learned);
    let Some((request, count)) = request else { return unread };
    let output = Output::as_asked(request);
    let read = of_request(request, &output, &models_of(request, models), subject, count, cx);
    Estimate {
        certainty: Certainty::Unknown,
        is_partial: false,
        counted: None,
        wants: Wants::NOTHING,
        ..unread.max(read)
    }
}

/// The same, if no upstream takes it for anything.
pub(super) fn of_unread(
    size: Option<u64>,
    models: &Candidates,
    subject: &Subject,
    config: &Config,
    learned: &Learned,
) -> Estimate {
    let accounting = config.accounting();
    let default = accounting.default_output_tokens;
    let output = match accounting.output_mode {
        OutputMode::Declared => default,
        OutputMode::Learned => learned.longest(default),
        OutputMode::None => 0,
    };
    let nothing = Tokens { may_reason: true, ..Tokens::NONE };
    let of = |input| cost(config, models, &Tokens { input, ..nothing });
    let size = size.unwrap_or(MAX_EXACT).min(MAX_EXACT);
    let input = largest_that_fits(size, &bounds(subject, models), of);
    let tokens = Tokens { input, ..nothing };
    Estimate {
        tokens,
        base: of(input),
        full: cost(config, models, &Tokens { output, ..tokens }),
        certainty: Certainty::Unknown,
        is_partial: false,
        counted: None,
        wants: Wants::NOTHING,
    }
}

/// The models that a `request` may be for that some upstream may take a body for; `models` are those of the body.
pub(super) fn models_of(request: &Request<'_>, models: &Candidates) -> Candidates {
    if models.one().is_some() { models.clone() } else { Candidates::Any(request.models().names().to_vec()) }
}

/// The most tokens, up to `most`, that cost no more than any of `limits` ever admits: one, if there is none.
fn largest_that_fits(most: u64, limits: &[Applied], cost: impl Fn(u64) -> Cost) -> u64 {
    let fits = |tokens| {
        let cost = cost(tokens);
        limits.iter().all(|applied| cost.of(applied.limit.metric) <= capacity(applied))
    };
    if limits.is_empty() || fits(most) {
        return most;
    }
    // It fits at the first and does not at the second.
    let (mut fitting, mut exceeding) = (0, most);
    while exceeding - fitting > 1 {
        let middle = fitting + (exceeding - fitting) / 2;
        if fits(middle) { fitting = middle } else { exceeding = middle }
    }
    fitting.max(1)
}

/// The limits that bound a prompt: those that refuse, or the others if none does.
fn bounds(subject: &Subject, models: &Candidates) -> Vec<Applied> {
    let (refusing, others): (Vec<_>, Vec<_>) = subject
        .limits(models)
        .filter(|applied| applied.limit.metric.is_of_prompt())
        .partition(Applied::refuses);
    if refusing.is_empty() { others } else { refusing }
}

/// The most input that a request of `subject` for one of `models` is ever admitted with; none if nothing bounds it.
fn most_input(subject: &Subject, models: &Candidates) -> Option<Units> {
    let bounds = subject.limits(models).filter(|applied| {
        applied.refuses() && matches!(applied.limit.metric, Metric::InputTokens | Metric::TotalTokens)
    });
    bounds.map(|applied| capacity(&applied)).min()
}

fn capacity(applied: &Applied) -> Units {
    applied.limit.window.capacity(applied.limit.amount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_tokens_fit_than_are_found(most: u64, bound in 0..1_000_000_u64, price in 0..5_000_u64) {
            use crate::config::Config;
            use crate::policy::Access;
            let json = format!(r#"{{"default":{{"input_tpm":{bound}}}}}"#);
            let Access::Limited(subject) = Config::from_bytes(json.as_bytes()).unwrap().access(None) else {
                panic!("it is limited");
            };
            let limits = bounds(&subject, &Candidates::UNKNOWN);
            let cost = |tokens: u64| {
                Cost { input_tokens: Units::new(tokens) * price / 1_000, ..Cost::default() }
            };
            let found = largest_that_fits(most, &limits, cost);
            let fits = |tokens| cost(tokens).input_tokens <= Units::new(bound);
            prop_assert!(found <= most.max(1));
            prop_assert!(fits(found) || found <= 1);
            prop_assert!(found == most || !fits(found.saturating_add(1)) || found == 1);
        }
    }
}
