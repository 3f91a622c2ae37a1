//! What a response has reported so far: several reports of usage, as one.
//!
//! A stream may report the prompt at its beginning and the answer at its end, or everything again and again. Some
//! reports are zeros, because the server does not know yet or does not know any more.

use super::Usage;
use super::bill::{Bill, Output, Prompt};
use crate::quantity::Units;
use std::collections::BTreeMap;

/// The most tokens that a request is taken to have used of a kind, whatever the upstream reports: no request comes near
/// it. Its product with the largest weight or price is a number that every store can hold.
pub(super) const MAX_TOKENS: u64 = u32::MAX as u64;

/// The choices that are told apart: OpenAI's largest `n`.
const MAX_CHOICES: u64 = 128;

/// The reports of one response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    bill: Bill,
    /// The outputs that were reported beside single choices.
    by_choice: BTreeMap<u64, Output>,
}

impl Reported {
    /// Takes a report about all choices, or about one. Returns whether it reports an output, and all of it.
    pub(super) fn update(&mut self, choice: Option<u64>, later: Bill) -> bool {
        // Of a prompt's numbers that break off, the missing ones may be the larger.
        self.update_prompt(later.prompt.filter(|_| !later.is_cut));
        let output = later.output.filter(|output| !output.tokens.is_zero());
        let Some(output) = output else { return false };
        match choice {
            None => replace_output(&mut self.bill.output, output),
            Some(choice) => {
                let mut of_choice = self.by_choice.get(&choice.min(MAX_CHOICES)).copied();
                replace_output(&mut of_choice, output);
                self.by_choice.extend(of_choice.map(|output| (choice.min(MAX_CHOICES), output)));
            }
        }
        !later.is_cut
    }

    /// A prompt's numbers belong together: a later report replaces them all, its zeros included, unless it has only
    /// zeros.
    fn update_prompt(&mut self, later: Option<Prompt>) {
        let Some(mut later) = later.filter(|later| !later.tokens().is_zero()) else { return };
        let earlier = self.bill.prompt.unwrap_or_default();
        if later.lacks_fresh {
            later.fresh = earlier.fresh;
        }
        if later.lacks_unmentioned {
            later.read = later.read.or(earlier.read);
            later.written = later.written.or(earlier.written);
        }
        self.bill.prompt = Some(later);
    }

    /// Whether the output is reported of so many choices at least.
    pub(super) fn covers(&self, choices: usize) -> bool {
        self.bill.output.is_some() || self.by_choice.len() >= choices
    }

    /// Whether anything but zeros has been reported.
    pub(super) fn has_any(&self) -> bool {
        self.bill.prompt.is_some() || self.output().is_some()
    }

    /// The tokens of the output that have been reported.
    pub(super) fn output_tokens(&self) -> u64 {
        self.output().map_or(0, |output| output.tokens.get().min(MAX_TOKENS))
    }

    fn output(&self) -> Option<Output> {
        let choices = self.by_choice.values().copied().reduce(Output::plus);
        Bill { output: self.bill.output, ..Bill::default() }
            .or_more(Bill { output: choices, ..Bill::default() })
            .output
    }

    /// The usage, as far as it has been reported: with zero for an output that has not been.
    pub(super) fn usage(&self) -> Usage {
        self.usage_with(Units::ZERO)
    }

    /// The same if at least `counted` tokens of output have come.
    pub(super) fn usage_with(&self, counted: Units) -> Usage {
        // The one place where an upstream's numbers become the filter's.
        let tokens = |units: Units| units.get().min(MAX_TOKENS);
        let output = self.output().unwrap_or_default();
        let output_tokens = output.tokens.max(counted);
        let prompt = self.bill.prompt;
        let input_tokens = prompt.map(|prompt| {
            let included = if prompt.includes_output { output_tokens } else { Units::ZERO };
            tokens(prompt.tokens() - included)
        });
        Usage {
            input_tokens,
            output_tokens: tokens(output_tokens),
            cached_tokens: prompt.and_then(|prompt| prompt.read).map(tokens),
            cache_creation_tokens: prompt.and_then(|prompt| prompt.written).map(tokens),
            reasoning_tokens: output.reasoning.map(tokens),
        }
    }
}

/// An output replaces an earlier one, but for a part that it does not mention.
fn replace_output(earlier: &mut Option<Output>, later: Output) {
    let reasoning = later.reasoning.or_else(|| earlier.and_then(|earlier| earlier.reasoning));
    *earlier = Some(Output { reasoning, ..later });
}
