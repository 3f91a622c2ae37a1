//! Reads requests: the endpoint from a path; the models, the prompt's tokens and the maximum of output tokens from a
//! body.
//!
//! Nothing here rejects a request: the upstream judges requests to its own API. Whatever some widespread reader of JSON
//! may read counts, and of several values the dearest; a body that none reads is a [`Fault`]. Each wire format
//! ([`Endpoint`]) has a module that counts its prompts as a `Tally`. This file reads the members that all formats
//! share. [`crate::models`] has the numbers that differ by model. `docs/counting.md` lists which counts are exact and
//! which are estimates.

mod action;
mod audio;
mod beside;
mod body;
mod body_edit;
mod cap;
mod chat;
mod cohere;
mod completions;
mod content;
mod conversation;
mod document;
mod effort;
mod embeddings;
mod endpoint;
mod format;
mod gemini;
mod image;
mod input;
mod messages;
mod model_edit;
mod names;
mod ollama;
pub mod path;
mod payload;
mod prompt;
mod responses;
mod shape;
mod shown;
pub mod steps;
mod stream_options;
mod tools;
mod upgrade;

pub use body::Body;
pub use body_edit::{BodyEdit, IncludeUsage, NewCap, NewMembers, Within, thinking_budget};
pub use cap::Cap;
pub use endpoint::{Api, Endpoint, deployment};
pub use model_edit::model_edit;
pub use stream_options::{mentions_stream_options, names_stream_options};
pub use upgrade::wants_websocket;

use crate::codec::lenient::{self, Accept};
use crate::codec::loose_json::Fault;
use crate::models::Family;
use crate::policy::Candidates;
use crate::quantity::{MAX_EXACT, Units};
use crate::tokens::{Meter, PromptKind, Tokenizer, Wants};
use body::Plainness;
use cap::Caps;
use names::Names;
pub use prompt::{Counted, TextTokens};
use prompt::{Prompt, Tally};
use serde::de::{MapAccess, SeqAccess};
use shape::Shape;
use shown::Shown;
use std::borrow::Cow;

/// A request. Borrows from its [`Body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// Whether the client wants the answer as a stream.
    pub stream: bool,
    /// Whether some reader makes a response that goes on in the background, whether or not the client stays.
    pub background: bool,
    /// Whether it has `stream_options`, of any type.
    pub has_stream_options: bool,
    /// Whether the client wants usage at the end of the stream (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Whether it has `data_sources`, of any type: Azure answers such requests in another way, and with other options.
    pub has_data_sources: bool,
    /// Why no reader reads the body. What comes before the fault was read.
    pub fault: Option<Fault>,
    plainness: Plainness<'b>,
    names: Names<'b>,
    /// `n`: the number of answers to send for each prompt.
    n: u64,
    /// `best_of`: the number of answers to make for each prompt, of which the upstream sends the best.
    best_of: u64,
    /// The body's size in bytes.
    size: u64,
    caps: Caps,
    prompt: Prompt<'b>,
    /// The objects in the body: every request has one.
    objects: u64,
}

/// The tokens of a prompt by its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The text of the system prompt.
    pub system: u64,
    /// All other text: of messages, of calls and results, of the answer's schema.
    pub messages: u64,
    /// Tools, with what their provider adds for them.
    pub tools: u64,
    /// Images.
    pub images: u64,
    /// Documents beside their texts, audio, and parts of unknown types.
    pub documents: u64,
    /// What the format adds to messages, calls and the reply.
    pub structure: u64,
}

/// The tokens of a prompt, and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedPrompt {
    /// The tokens.
    pub tokens: u64,
    /// The kind; none if the body has no prompt.
    pub kind: Option<PromptKind>,
    /// Whether the provider may add to it, or take from it, what the request does not show.
    pub hides: bool,
}

/// Whether a member with this name is one of those that make a request, in any format and in any case.
pub fn is_essential(name: &str) -> bool {
    matches!(&*lenient::folded(name), "model" | "models" | "messages" | "prompt" | "input" | "contents")
}

impl<'b> Request<'b> {
    /// Reads a request to `endpoint`.
    pub fn read(endpoint: Endpoint, body: &'b Body<'_>) -> Self {
        let mut request = Self::new(endpoint, body.size());
        // Most bodies are what every reader reads.
        let is_read = body.plain().is_some_and(|text| lenient::read(text, &mut request).is_ok());
        if !is_read {
            request = Self::new(endpoint, body.size());
            let rewritten = body.rewritten();
            request.fault.clone_from(&rewritten.fault);
            if lenient::read(&rewritten.json, &mut request).is_err() {
                request.fault.get_or_insert_with(|| Fault::whole("expected JSON"));
            }
        }
        request.plainness = body.plainness(is_read);
        request.complete(endpoint);
        request
    }

    /// Whether the body is one JSON object, in UTF-8, that every reader reads, so that it can be edited. A body that
    /// was read at once is searched for that.
    pub fn is_plain(&self) -> bool {
        self.plainness.is_plain()
    }

    /// All has been read.
    fn complete(&mut self, endpoint: Endpoint) {
        if self.objects == 0 {
            self.fault.get_or_insert_with(|| Fault::whole("expected a JSON object, found another value"));
        }
        self.stream &= endpoint.has_format();
        // The path says it.
        self.stream |= endpoint == Endpoint::Gemini;
        self.background &= endpoint == Endpoint::Responses;
    }

    fn new(endpoint: Endpoint, size: u64) -> Self {
        Self {
            stream: endpoint.streams_by_default(),
            background: false,
            has_stream_options: false,
            include_usage: false,
            has_data_sources: false,
            plainness: Plainness::Known(true),
            fault: None,
            names: Names::default(),
            n: 1,
            best_of: 1,
            size,
            caps: Caps::new(endpoint),
            prompt: Prompt::new(endpoint),
            objects: 0,
        }
    }

    /// The same without its texts, which `take` gets, and apart from the body.
    fn without_texts(self, take: &mut impl FnMut(Counted, Cow<'b, str>)) -> Request<'static> {
        Request {
            stream: self.stream,
            background: self.background,
            has_stream_options: self.has_stream_options,
            include_usage: self.include_usage,
            has_data_sources: self.has_data_sources,
            plainness: Plainness::Known(self.is_plain()),
            fault: self.fault,
            names: self.names.apart(),
            n: self.n,
            best_of: self.best_of,
            size: self.size,
            caps: self.caps,
            prompt: self.prompt.without_texts(take),
            objects: self.objects,
        }
    }

    /// The models that the request may be for: those that it names, and any if it may name none. Where the endpoint has
    /// no format, a body that names none needs none.
    pub fn models(&self) -> Candidates {
        let needs_none = !self.prompt.endpoint().has_format() && !self.names.is_given();
        match self.fault {
            Some(_) => Candidates::UNKNOWN,
            None if needs_none => Candidates::NONE,
            None => self.names.candidates(),
        }
    }

    /// Whether some reader finds a model or a prompt in the body.
    pub fn has_content(&self) -> bool {
        self.fault.is_none() && (self.names.first().is_some() || !self.prompt.is_empty())
    }

    /// The first model that the request names.
    pub fn first_model(&self) -> Option<&str> {
        self.names.first()
    }

    /// The body's size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tokens of the prompt's texts, before weights and a factor are applied, of whatever the tokenizer's model is
    /// shown. If `meter` has stopped, the result is no smaller than the count at which it stopped, and no larger than
    /// the count of all texts.
    pub fn text_tokens(&self, meter: &Meter<'_>) -> TextTokens {
        let mut tokens = TextTokens::default();
        let tokenizer = meter.tokenizer();
        let (weights, least) = (tokenizer.weights(), tokenizer.least());
        self.prompt.see_texts(&mut |counted, text| match shown::shown(counted, text, weights) {
            Shown::AsIs => tokens.add(counted, meter.count_weighed(text, counted.weight(least))),
            Shown::Otherwise { texts, tool } => {
                tokens.add_tool(tool);
                for (counted, text) in texts {
                    tokens.add(counted, meter.count_weighed(&text, counted.weight(least)));
                }
            }
        });
        tokens
    }

    /// The tokens of the prompt for `model`, with these tokens of text, corrected by the factor of its `tokenizer` if
    /// the model's own is not available. A body without a prompt counts at least one token for four bytes, rounded up,
    /// about as English and JSON do.
    pub fn input_tokens(&self, text: TextTokens, model: Option<&str>, tokenizer: Tokenizer) -> u64 {
        self.counted_prompt(text, model, tokenizer).tokens
    }

    /// The same, with the kind of the prompt.
    pub fn counted_prompt(
        &self,
        text: TextTokens,
        model: Option<&str>,
        tokenizer: Tokenizer,
    ) -> CountedPrompt {
        let Tally { structure, images, others } =
            self.prompt.beside_text(model.unwrap_or_default(), text.functions, tokenizer.unknown_document());
        let kind = match () {
            () if self.prompt.is_empty() => None,
            () if !others.is_zero() => Some(PromptKind::Documents),
            () if !images.is_zero() => Some(PromptKind::Images),
            () if text.functions > 0 || self.prompt.shape().is_some_and(Shape::has_calls) => {
                Some(PromptKind::Tools)
            }
            () => Some(PromptKind::Plain),
        };
        let provided = text.provided;
        let text = text.weighed(tokenizer.weights(), self.prompt.suffixes());
        let tokens = (Units::new(tokenizer.weigh(text.get())) + structure + images + others).get();
        let tokens = if kind.is_none() { tokens.max(self.size.div_ceil(4)) } else { tokens };
        CountedPrompt { tokens, kind, hides: provided > 0 || self.prompt.hides() }
    }

    /// The parts of [`Request::input_tokens`].
    pub fn parts(&self, text: TextTokens, model: Option<&str>, tokenizer: Tokenizer) -> Parts {
        let unknown = tokenizer.unknown_document();
        let beside = |functions| self.prompt.beside_text(model.unwrap_or_default(), functions, unknown);
        let Tally { structure, images, others } = beside(text.functions);
        let without_tools = beside(0).structure;
        let weighed = |kept: &[Counted]| {
            let tokens = text.only(kept).weighed(tokenizer.weights(), self.prompt.suffixes());
            tokenizer.weigh(tokens.get())
        };
        let [system, tools] = [
            weighed(&[Counted::System]),
            weighed(&[Counted::ToolTypes, Counted::ToolJson, Counted::LargeTool, Counted::ForcedName]),
        ];
        let tools = tools + (structure - without_tools).get();
        let all = self.input_tokens(text, model, tokenizer);
        let (images, documents) = (images.get(), others.get());
        let structure = structure.min(without_tools).get();
        let rest = [system, tools, images, documents, structure].into_iter().fold(0, u64::saturating_add);
        Parts { system, messages: all.saturating_sub(rest), tools, images, documents, structure }
    }

    /// What the client wants of the answer, with these tokens of text.
    pub fn wants(&self, text: &TextTokens) -> Wants {
        let functions = text.functions;
        self.prompt.shape().map_or(Wants::NOTHING, |shape| Wants {
            functions,
            has_schema: shape.has_schema,
            call: shape.choice.wanted(text.of(Counted::ForcedName).get()),
            effort: shape.efforts.effort(),
        })
    }

    /// The number of answers in the response: `n` for every prompt, at least one.
    pub fn choices(&self) -> u64 {
        self.n.saturating_mul(self.prompt.prompts())
    }

    /// The number of answers that the upstream makes and charges for: the larger of `n` and `best_of` for every prompt.
    pub fn answers(&self) -> u64 {
        self.n.max(self.best_of).saturating_mul(self.prompt.prompts())
    }

    /// The most output tokens that the request allows: its largest cap, times [`Request::answers`], at most
    /// [`MAX_EXACT`]. Zero for embeddings, and for an endpoint without a format.
    pub fn output_cap(&self) -> Cap {
        let none = Cap { tokens: Some(0), is_doubtful: false };
        self.answer_cap().map_or(none, |cap| Cap { tokens: cap.tokens.map(|it| self.of_all(it)), ..cap })
    }

    /// The most output tokens that the request allows for each answer. None for embeddings, which have no output
    /// whatever the request says, and for an endpoint without a format, since nobody knows what it says.
    pub fn answer_cap(&self) -> Option<Cap> {
        let cap = self.caps.cap();
        // A reader of one object of several may find none.
        self.prompt
            .endpoint()
            .has_output()
            .then_some(Cap { is_doubtful: cap.is_doubtful || self.objects > 1, ..cap })
    }

    /// So many tokens for each answer, of all answers together.
    pub fn of_all(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.answers()).min(MAX_EXACT)
    }

    /// The maximum `most` of output tokens for each answer, as the body is to have it for one of `models`.
    pub fn new_cap(&self, most: u64, models: &Candidates) -> NewCap {
        let is_openais = |model: &String| Family::of(model).is_reasoning_of_openai();
        // OpenAI's models that reason take no other, and other providers' not all this one.
        let takes_completion = self.prompt.endpoint() == Endpoint::ChatCompletions;
        let added = match models.names().iter().any(is_openais) && takes_completion {
            true => "max_completion_tokens",
            false => self.caps.names().first().copied().unwrap_or("max_tokens"),
        };
        let added = (!self.caps.has_common()).then_some(added);
        let (within, has_object) = self.caps.within();
        let within = within.first().map(|_| Within { names: within, is_given: has_object });
        NewCap { most, names: self.caps.names(), within, has_any: self.caps.are_given(), added }
    }

    /// Reads a member by its name in lower case, which is also its name as it is written if `is_exact`.
    fn take<A: MapAccess<'b>>(&mut self, name: &str, is_exact: bool, object: &mut A) -> Result<(), A::Error> {
        if let Some(position) = self.caps.position(name) {
            self.caps.take(position, is_exact, lenient::whole_number(object)?);
            return Ok(());
        }
        if self.caps.are_in(name) {
            self.caps.enter(name, is_exact);
            return lenient::offer(object, &mut Options(self));
        }
        match name {
            "model" => {
                let mut model = self.names.of_model(is_exact);
                lenient::offer(object, &mut model)?;
                model.end();
                Ok(())
            }
            "models" => lenient::offer(object, &mut self.names),
            "fallbacks" | "context_window_fallbacks" | "content_policy_fallbacks" => {
                lenient::offer(object, &mut self.names.fallbacks())
            }
            "n" => {
                self.n = self.n.max(lenient::number(object)?.unwrap_or(1));
                Ok(())
            }
            "best_of" => {
                self.best_of = self.best_of.max(lenient::number(object)?.unwrap_or(1));
                Ok(())
            }
            "stream" => {
                // Where it is none, it is as if it were left out.
                if let Some(stream) = lenient::given_flag(object)? {
                    self.stream = stream;
                }
                Ok(())
            }
            "background" => {
                self.background |= lenient::raw(object).map(is_true)?;
                Ok(())
            }
            "stream_options" => {
                self.has_stream_options = true;
                lenient::offer(object, &mut StreamOptions(&mut self.include_usage))
            }
            _ => self.prompt.member(name, object),
        }
    }
}

/// An object, or an array of them: of several documents, or around the one that some readers take out of it.
impl<'b> Accept<'b> for Request<'b> {
    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let folded = lenient::folded(name);
        self.has_data_sources |= matches!(&*folded, "data_sources" | "datasources");
        self.take(&folded, *folded == *name, object)
    }

    fn end(&mut self) {
        self.objects = self.objects.saturating_add(1);
        self.names.end_object();
    }
}

/// Whether some reader takes this value for true: those that coerce types take numbers and words.
fn is_true(value: &str) -> bool {
    let word = value.trim_matches('"').trim().to_ascii_lowercase();
    !matches!(&*word, "false" | "null" | "0" | "" | "f" | "n" | "no" | "off")
        && !value.starts_with(['{', '['])
}

/// The object of a request that has its maximum of output tokens, in formats that have one.
struct Options<'r, 'b>(&'r mut Request<'b>);

impl<'b> Accept<'b> for Options<'_, 'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let folded = lenient::folded(name);
        let Request { caps, prompt, n, .. } = &mut *self.0;
        if let Some(position) = caps.position_within(&folded) {
            let is_exact = caps.is_exact(name);
            caps.take(position, is_exact, lenient::whole_number(object)?);
            return Ok(());
        }
        if let Some(answers) = prompt.option(&folded, object)? {
            *n = answers.max(*n);
        }
        Ok(())
    }
}

struct StreamOptions<'r>(&'r mut bool);

impl<'b> Accept<'b> for StreamOptions<'_> {
    fn member<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        if name == "include_usage" {
            *self.0 = lenient::flag(object)?;
            return Ok(());
        }
        lenient::skip(object)
    }
}

#[cfg(test)]
mod tests;
