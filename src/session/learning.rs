//! What an answer teaches: about the length of later ones, for requests that set no maximum, and about the count of
//! later prompts.

use super::RequestFacts;
use super::context::Cx;
use super::reservation::{Estimate, PromptCount};
use crate::store::local::SharedData;
use crate::usage::learned_prompt::Lesson as PromptLesson;
use crate::usage::{EndReasons, Usage};

/// How much of a response has come when it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All that changes its cost.
    Enough,
    /// All of it.
    All,
    /// A part: the client or the upstream has left.
    Part,
}

/// An answer that may teach something, while it passes.
#[derive(Clone, Debug)]
pub(super) struct Lesson(Option<EndReasons>);

impl Lesson {
    /// A lesson, if one is `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(EndReasons::default))
    }

    /// Takes the next bytes of the answer, decoded.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Self(Some(ends)) = self {
            ends.push(bytes);
        }
    }

    /// Learns how long the answer was. One that a maximum cut short says nothing about that, whether the client, the
    /// upstream or the model's context has set it.
    pub(super) fn learn<S>(self, facts: &RequestFacts, usage: &Usage, seen: Seen, cx: &mut Cx<'_, S>) {
        if usage.reasoning_tokens.is_some_and(|tokens| tokens > 0) {
            cx.shared.learned.note_reasoning(facts.model());
        }
        if let Some(parts) = &mut cx.shared.learned_parts {
            parts.observe(&facts.sender, facts.model(), usage);
        }
        let Some(ends) = self.0.filter(|_| seen != Seen::Part) else { return };
        let reaches_cap = facts.output_cap.is_some_and(|cap| usage.output_tokens >= cap);
        // Some bodies report their usage before they say why they ended, and others never say it.
        let is_cut = ends.is_cut_short().unwrap_or(seen == Seen::Enough);
        if !reaches_cap && !is_cut {
            let length = usage.output_tokens / facts.answers.max(1);
            cx.shared.learned.observe(&facts.sender, facts.model(), length);
        }
    }
}

/// Learns how far the `estimate` of a prompt was off, from the usage that its answer has reported.
pub(super) fn learn_prompt<S: SharedData>(
    estimate: &Estimate,
    facts: &RequestFacts,
    usage: &Usage,
    cx: &mut Cx<'_, S>,
) {
    if let (Some(PromptCount { cell, tokens }), Some(reported)) = (estimate.counted, usage.input_tokens)
        && let Some(lesson) = PromptLesson::new(cell, &facts.sender.id, tokens, reported)
    {
        cx.stores.corrections_mut().teach(lesson);
    }
}
