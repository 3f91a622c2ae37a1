//! What the numbers of one `usage` object add up to.
//!
//! Providers do not agree on which number includes which. What the other numbers leave out shows in the total, or,
//! where there is none, in a part that is larger than its whole. Where nothing shows it, the names decide.

use crate::quantity::Units;

/// The numbers of a `usage` object, by their meanings; none where it has no such number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    /// OpenAI's `prompt_tokens`: the whole prompt, including its parts.
    pub(super) prompt: Option<u64>,
    /// `input_tokens`: the same in OpenAI's Responses API; Anthropic's leaves out what has to do with a cache.
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) total: Option<u64>,
    /// Anthropic's part of the prompt that was read from a cache: beside `input`, but within `prompt`.
    pub(super) cache_read: Option<u64>,
    /// The same of the part that was written to a cache.
    pub(super) cache_creation: Option<u64>,
    /// The same by lifetimes, added up.
    pub(super) written_by_lifetime: Option<u64>,
    /// A part of the prompt that was read from a cache, by the names of OpenAI and others.
    pub(super) cached: Option<u64>,
    /// The rest of the prompt, by DeepSeek's name.
    pub(super) not_cached: Option<u64>,
    /// A part of the prompt that was written to a cache.
    pub(super) written: Option<u64>,
    /// A part of the prompt that is sound.
    pub(super) audio: Option<u64>,
    /// What tools of the provider have put into the prompt: Gemini's, beside it.
    pub(super) tool_use: Option<u64>,
    /// Billed beside the prompt, whatever it reports.
    pub(super) beside_prompt: Option<u64>,
    /// A part of the output.
    pub(super) reasoning: Option<u64>,
}

/// What one or several reports add up to; none where nothing is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    pub(super) prompt: Option<Prompt>,
    pub(super) output: Option<Output>,
    /// The report breaks off: what it has is not all.
    pub(super) is_cut: bool,
}

/// The tokens of a prompt, in parts that add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prompt {
    /// Neither read from nor written to a cache.
    pub(super) fresh: Units,
    /// Read from a cache.
    pub(super) read: Option<Units>,
    /// Written to a cache.
    pub(super) written: Option<Units>,
    /// The report leaves out parts that it does not mention: Anthropic's.
    pub(super) lacks_unmentioned: bool,
    /// The report has only the parts that have to do with a cache.
    pub(super) lacks_fresh: bool,
    /// The report has but one number, which includes the output.
    pub(super) includes_output: bool,
}

/// The tokens of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    /// All of them.
    pub(super) tokens: Units,
    /// Those of reasoning.
    pub(super) reasoning: Option<Units>,
}

impl Numbers {
    /// What they add up to.
    pub(super) fn bill(&self) -> Bill {
        let units = |number: Option<u64>| number.map(Units::new);
        let (mut prompt, mut output) = (self.prompt(), self.output.map(|tokens| Output::new(tokens.into())));
        let is_in_total = self.has_tool_use_in_total();
        if let Some(prompt) = prompt.as_mut().filter(|_| is_in_total) {
            prompt.fresh += units(self.tool_use).unwrap_or_default();
        }
        match (&mut prompt, &mut output, units(self.total)) {
            (Some(prompt), Some(output), Some(total)) => {
                // Mistral's Voxtral leaves sound out of the prompt; xAI and Gemini leave reasoning out of the output.
                let missing = total - (prompt.tokens() + output.tokens);
                if prompt.lacks_fresh || missing == units(self.audio).unwrap_or_default() {
                    prompt.fresh += missing;
                    prompt.lacks_fresh &= missing.is_zero();
                } else {
                    output.tokens += missing;
                }
            }
            (Some(prompt), None, Some(total)) => output = Some(Output::new(total - prompt.tokens())),
            (None, Some(output), Some(total)) => {
                let fresh = total - output.tokens;
                prompt = (!fresh.is_zero()).then_some(Prompt { fresh, ..Prompt::default() });
            }
            (None, None, Some(fresh)) => {
                prompt = Some(Prompt { fresh, includes_output: true, ..Prompt::default() });
            }
            (_, _, None) => {}
        }
        if let Some(output) = &mut output {
            output.reasoning = units(self.reasoning);
            if self.total.is_none() {
                // A part larger than the whole is not in it. Where there is a total, what it has is billed.
                let beside = output.reasoning.filter(|reasoning| *reasoning > output.tokens);
                output.tokens += beside.unwrap_or_default();
            }
        }
        if let Some(prompt) = &mut prompt {
            prompt.fresh += units(self.beside_prompt).unwrap_or_default();
            if !is_in_total {
                prompt.fresh += units(self.tool_use).unwrap_or_default();
            }
        }
        Bill { prompt, output, is_cut: false }
    }

    /// Whether the total has what tools have put into the prompt: it does on Vertex AI, and the Gemini API's page
    /// leaves it out.
    fn has_tool_use_in_total(&self) -> bool {
        let parts = [self.prompt, self.output, self.reasoning, self.tool_use];
        let all = parts.into_iter().map(|part| part.unwrap_or(0)).fold(0, u64::saturating_add);
        self.total.is_some_and(|total| total >= all)
    }

    /// The prompt's tokens, by its own numbers.
    fn prompt(&self) -> Option<Prompt> {
        let units = |number: Option<u64>| number.map(Units::new);
        let (cached, written) = (units(self.cached), units(self.written));
        let (cache_read, creation) =
            (units(self.cache_read), units(self.cache_creation).max(units(self.written_by_lifetime)));
        let (whole, read, written, lacks_unmentioned) = match (units(self.prompt), units(self.input)) {
            (Some(prompt), _) => {
                let prompt =
                    prompt.max(units(self.not_cached).map_or(prompt, |rest| rest + sum(cached, None)));
                (prompt, cached.or(cache_read), written.or(creation), false)
            }
            (None, Some(input)) => {
                // Anthropic's parts are beside it, OpenAI's within.
                let whole = input + sum(cache_read, creation);
                let read = cached.is_some().then(|| sum(cached, cache_read)).or(cache_read);
                let written = written.is_some().then(|| sum(written, creation)).or(creation);
                (whole, read, written, true)
            }
            (None, None) => return self.prompt_by_parts(),
        };
        let prompt = Prompt { lacks_unmentioned, ..Prompt::default() };
        let parts = sum(read, written);
        let all = whole + parts + sum(units(self.output), None);
        if parts > whole && units(self.total).is_none_or(|total| total >= all) {
            // Parts larger than the whole are not in it.
            return Some(Prompt { fresh: whole, read, written, ..prompt });
        }
        let read = read.map(|read| read.min(whole));
        let written = written.map(|written| written.min(whole - sum(read, None)));
        Some(Prompt { fresh: whole - sum(read, written), read, written, ..prompt })
    }

    /// The prompt's tokens, where only its parts have numbers.
    fn prompt_by_parts(&self) -> Option<Prompt> {
        let units = |number: Option<u64>| number.map(Units::new);
        let prompt = Prompt {
            fresh: sum(units(self.not_cached), None),
            read: units(self.cached.or(self.cache_read)),
            written: units(self.written).or(units(self.cache_creation).max(units(self.written_by_lifetime))),
            lacks_unmentioned: true,
            lacks_fresh: self.not_cached.is_none(),
            includes_output: false,
        };
        (!prompt.tokens().is_zero()).then_some(prompt)
    }
}

impl Prompt {
    /// All of them.
    pub(super) fn tokens(&self) -> Units {
        self.fresh + sum(self.read, self.written)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            fresh: self.fresh + other.fresh,
            lacks_fresh: self.lacks_fresh && other.lacks_fresh,
            read: plus(self.read, other.read),
            written: plus(self.written, other.written),
            ..self
        }
    }
}

impl Output {
    const fn new(tokens: Units) -> Self {
        Self { tokens, reasoning: None }
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { tokens: self.tokens + other.tokens, reasoning: plus(self.reasoning, other.reasoning) }
    }
}

impl Bill {
    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        let both = |one: Option<Prompt>, other: Option<Prompt>| match (one, other) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.or(other),
        };
        let output = match (self.output, other.output) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.or(other),
        };
        Self { prompt: both(self.prompt, other.prompt), output, is_cut: self.is_cut || other.is_cut }
    }

    /// The larger prompt and the larger output.
    pub(super) fn or_more(self, other: Self) -> Self {
        let tokens = |prompt: &Option<Prompt>| prompt.map(|prompt| prompt.tokens());
        let prompt = if tokens(&other.prompt) > tokens(&self.prompt) { other.prompt } else { self.prompt };
        let output = match (self.output, other.output) {
            (Some(one), Some(other)) if other.tokens > one.tokens => {
                Some(Output { reasoning: other.reasoning.or(one.reasoning), ..other })
            }
            (one, other) => one.or(other),
        };
        Self { prompt, output, is_cut: self.is_cut || other.is_cut }
    }
}

fn sum(one: Option<Units>, other: Option<Units>) -> Units {
    one.unwrap_or_default() + other.unwrap_or_default()
}

fn plus(one: Option<Units>, other: Option<Units>) -> Option<Units> {
    (one.is_some() || other.is_some()).then(|| sum(one, other))
}
