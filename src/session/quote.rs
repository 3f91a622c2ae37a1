//! What one request is charged by the rules: no store, no limits, and nothing learned from other requests, but for
//! factors that the caller has learned.
//!
//! The command `llm-rate-limit count` prints it. It reads, estimates and settles with what the filter reads, estimates
//! and settles with, so that a number here is the filter's.

use super::context::{cost, may_hide_reasoning};
use super::estimate;
use super::held::Held;
use super::incoming::Incoming;
use super::output_cap::{Objections, Output};
use super::reservation::{AtLimit, Certainty, Estimate, PromptCount, Reservation, Share};
use crate::answer::refusal::{BadBody, Refusal};
use crate::codec::loose_json::Fault;
use crate::config::{Config, OutputMode};
use crate::models::Family;
use crate::policy::endpoints::{Route, Treatment};
use crate::policy::limit::Metric;
use crate::policy::status::LimitStatus;
use crate::policy::{Applied, Candidates, ForbiddenModel, Subject};
use crate::pricing::Tokens;
use crate::request::{Body, Endpoint, Parts, Request};
use crate::store::wire::ScopeCharges;
use crate::telemetry::Basis;
use crate::tokens::{Encoding, Meter, Wants};
use crate::usage::learned_output::{Learned, Sender};
use crate::usage::learned_prompt::{Factor, Factors, Lesson};
use crate::usage::{EndedBy, Outcome, ResponseReader};
use crate::window::WindowState;

/// What a request is charged when it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The model that the request is for: the one that it names, or the first of several.
    pub model: Option<String>,
    /// The beginning of the model's name that decides how it counts; `other` if that is not known.
    pub family: &'static str,
    /// The encoding that its text is counted in.
    pub encoding: Encoding,
    /// Tokens of the prompt, corrected.
    pub input_tokens: u64,
    /// The parts of the prompt, by the rules.
    pub parts: Parts,
    /// Tokens that are reserved for the output.
    pub output_reserved: u64,
    /// Why nobody reads the body, if so: a token is a byte of it then.
    pub fault: Option<Fault>,
    route: Route,
    models: Candidates,
    choices: u64,
    answers: u64,
    estimate: Estimate,
}

/// What one request reserves under each limit that applies to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    reservation: Reservation,
}

impl Due {
    /// The limits that apply, in the order of the charges.
    pub fn limits(&self) -> impl Iterator<Item = &Applied> {
        self.reservation.lines.iter().map(|line| &line.applied)
    }

    /// The charges, by scope, as a store takes them.
    pub fn charges(&self) -> Vec<ScopeCharges> {
        self.reservation.charges(Share::Whole)
    }

    /// Each limit and what it does if the request does not fit, with the states of their counters in the order of the
    /// charges.
    pub fn statuses(&self, states: &[WindowState]) -> Vec<(LimitStatus, AtLimit)> {
        let lines = self.reservation.lines.iter().zip(states);
        lines.map(|(line, state)| (line.status(Share::Whole, *state), line.at_limit)).collect()
    }
}

/// What a request is charged once it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The tokens: all of the prompt and of the output, and their parts.
    pub tokens: Tokens,
    /// What the response has shown: `reported`, `counted`, `failed`, or `unknown`, which stays as reserved.
    pub outcome: &'static str,
    /// The tokens of the prompt that the response has reported.
    pub reported_input: Option<u64>,
}

/// The bytes of a request's `body` that the filter reads, by the headers `content-encoding` and `content-type`.
///
/// # Errors
/// Nobody can tell what it says.
pub fn decoded(content_encoding: &str, content_type: &str, body: &[u8]) -> Result<Vec<u8>, BadBody> {
    Incoming::new(content_encoding, content_type, &Held::default()).read(body)
}

impl Quote {
    /// What a POST with `body` to `path` is charged under `config`.
    pub fn new(config: &Config, path: &str, body: &[u8]) -> Self {
        Self::corrected(config, path, body, &Factors::default())
    }

    /// The same, with its prompt corrected by `factors`.
    pub fn corrected(config: &Config, path: &str, body: &[u8], factors: &Factors) -> Self {
        Self::read(config, path, body, factors, |request, _| Output::as_asked(request))
    }

    /// The same for a request of `subject`; and what that is refused for if its sender may not ask for it, each with
    /// whether that is in a dry run. `may_change`: the filter may change its body.
    pub fn of_sender(
        subject: &Subject,
        config: &Config,
        path: &str,
        body: &[u8],
        may_change: bool,
    ) -> (Self, Vec<(Refusal, bool)>) {
        let mut objections = Objections::default();
        let quote = Self::read(config, path, body, &Factors::default(), |request, models| {
            let output;
            let changeable = may_change.then_some(body);
            (output, objections) = Output::decide(subject, request, models, changeable);
            output
        });
        if quote.fault.is_some() {
            objections = Objections::to_unread(subject, quote.route.endpoint);
        }
        let Objections { enforced, in_dry_run } = objections;
        let of_output = [(enforced, false), (in_dry_run, true)];
        let of_output =
            of_output.into_iter().filter_map(|(bad, dry_run)| Some((Refusal::OutputCap(bad?), dry_run)));
        let refusals = quote.refusal_of_model(subject).into_iter().chain(of_output).collect();
        (quote, refusals)
    }

    /// What a request of `subject` is refused for if its model is forbidden, with whether that is in a dry run.
    pub fn refusal_of_model(&self, subject: &Subject) -> Option<(Refusal, bool)> {
        let ForbiddenModel { model, dry_run } = subject.forbidden(&self.models)?;
        Some((Refusal::ForbiddenModel(model), dry_run))
    }

    /// The quote of a request; `output` says what output it may have.
    fn read(
        config: &Config,
        path: &str,
        body: &[u8],
        factors: &Factors,
        output: impl FnOnce(&Request<'_>, &Candidates) -> Output,
    ) -> Self {
        let route = config.endpoints().route(path);
        let accounting = config.accounting();
        let body = Body::new(body);
        let request = Request::read(route.endpoint, &body);
        let models = route.deployment.clone().unwrap_or_else(|| request.models());
        let model = route.model().or(request.first_model());
        let spends_tokens = matches!(
            route.treatment,
            Treatment::Format | Treatment::Count | Treatment::Realtime | Treatment::Health
        );
        let default_output = accounting.default_output_tokens;
        let output = output(&request, &models);
        let nothing = Wants::NOTHING;
        let (input_tokens, parts, expected, counted, wants) = match &request.fault {
            _ if !spends_tokens => (0, Parts::default(), (0, 0, Certainty::Declared), None, nothing),
            Some(_) => {
                let expected = (0, default_output, Certainty::Unknown);
                (request.size(), Parts::default(), expected, None, nothing)
            }
            None => {
                let of = |name: Option<&str>| {
                    let tokenizer = config.encodings().tokenizer(name);
                    let text = request.text_tokens(&Meter::unlimited(tokenizer));
                    let prompt = request.counted_prompt(text, name, tokenizer);
                    let counted = estimate::counted(&prompt, name);
                    let factor = counted.map_or(Factor::ONE, |counted| factors.of(counted.cell));
                    let parts = request.parts(text, name, tokenizer);
                    (factor.of(prompt.tokens), parts, counted, request.wants(&text))
                };
                let dearest = estimate::each(&models).map(of).max_by_key(|(input, ..)| *input);
                let (input, parts, counted, wants) = dearest.unwrap_or_default();
                let nothing = Learned::default();
                let expected = estimate::expected_output(
                    &request,
                    &output,
                    &models,
                    Sender::default,
                    accounting,
                    &nothing,
                );
                let is_certain = models.one().is_some() && route.endpoint.has_format();
                (input, parts, expected, counted.filter(|_| is_certain), wants)
            }
        };
        let (declared, output_reserved, certainty) = expected;
        let may_reason = estimate::each(&models).any(|name| estimate::may_reason(name, &wants));
        let tokens = Tokens { input: input_tokens, may_reason, ..Tokens::NONE };
        let estimate = Estimate {
            tokens,
            base: cost(config, &models, &Tokens { output: declared, ..tokens }),
            full: cost(config, &models, &Tokens { output: output_reserved, ..tokens }),
            certainty,
            is_partial: false,
            counted,
            wants,
        };
        let whole = Tokens { output: output_reserved, ..tokens };
        let estimate = match accounting.output_mode {
            OutputMode::Learned if request.fault.is_none() => {
                estimate.with_parts(config, &models, &whole, |tokens| (tokens.input, tokens.output))
            }
            _ => estimate,
        };
        Self {
            model: model.map(ToOwned::to_owned),
            family: Family::of(model.unwrap_or_default()).name(),
            encoding: config.encodings().of(model).encoding,
            input_tokens,
            parts,
            output_reserved,
            fault: request.fault.clone(),
            choices: request.choices(),
            answers: request.answers(),
            models,
            route,
            estimate,
        }
    }

    /// What the request of the sender `id` teaches about the count of prompts, once it is settled.
    pub fn lesson(&self, id: &str, settled: &Settled) -> Option<Lesson> {
        let PromptCount { cell, tokens } = self.estimate.counted?;
        Lesson::new(cell, id, tokens, settled.reported_input?)
    }

    /// What a POST without a body to `path` is charged, for `model` or for any: a request, and no tokens.
    pub fn without_body(config: &Config, path: &str, model: Option<&str>) -> Self {
        let quote = Self::new(config, path, b"{}");
        let model = quote.route.model().or(model);
        Self {
            model: model.map(ToOwned::to_owned),
            family: Family::of(model.unwrap_or_default()).name(),
            encoding: config.encodings().of(model).encoding,
            input_tokens: 0,
            parts: Parts::default(),
            output_reserved: 0,
            fault: None,
            models: quote.route.deployment.clone().unwrap_or_else(|| model.into()),
            estimate: Estimate::REQUEST,
            ..quote
        }
    }

    /// What a WebSocket to the path reserves under the limits of `subject`: a request, whatever is sent in it.
    pub fn due_of_connection(&self, subject: &Subject) -> Due {
        let models = self.route.deployment.clone().unwrap_or(Candidates::UNKNOWN);
        Due { reservation: reservation(subject, subject.limits(&models), Estimate::REQUEST) }
    }

    /// What the request reserves under the limits of `subject` if `config` charges it although nobody reads it: the
    /// most that it could cost.
    pub fn due_unread(&self, config: &Config, subject: &Subject) -> Due {
        let models = self.route.deployment.clone().unwrap_or(Candidates::UNKNOWN);
        let size = Some(self.input_tokens);
        let estimate = estimate::of_unread(size, &models, subject, config, &Learned::default());
        Due { reservation: reservation(subject, subject.limits(&models), estimate) }
    }

    /// What the request reserves under the limits of `subject`: nothing where its path costs nothing, and no tokens
    /// where it takes none.
    pub fn due(&self, subject: &Subject) -> Due {
        let takes_tokens = match self.route.treatment {
            Treatment::Pass | Treatment::Free | Treatment::Reject => None,
            Treatment::WithoutTokens => Some(false),
            _ => Some(true),
        };
        let applies = |metric: Metric| takes_tokens.is_some_and(|takes| takes || !metric.needs_tokens());
        // Without a body and a model in the path, no limits of models apply.
        let names_none = takes_tokens == Some(false) && self.route.deployment.is_none();
        let models = if names_none { &Candidates::NONE } else { &self.models };
        self.due_where(subject, models, applies)
    }

    /// The same under all limits of `subject`, whatever the path.
    pub fn due_of_all(&self, subject: &Subject) -> Due {
        self.due_where(subject, &self.models, |_| true)
    }

    fn due_where(&self, subject: &Subject, models: &Candidates, applies: impl Fn(Metric) -> bool) -> Due {
        let limits = subject.limits(models).filter(|it| applies(it.limit.metric));
        Due { reservation: reservation(subject, limits, self.estimate) }
    }

    /// The tokens that are reserved.
    pub const fn reserved(&self) -> Tokens {
        Tokens { output: self.output_reserved, ..self.estimate.tokens }
    }

    /// What `tokens` cost, in micro-dollars; none if the configuration has no price for it.
    pub fn cost_micro_usd(&self, config: &Config, tokens: &Tokens) -> Option<u64> {
        config.price(self.model.as_deref())?;
        Some(config.accounting().prices.dearest_micro_usd(&self.models, tokens))
    }

    /// What the request is charged after a whole response with the status 200.
    pub fn settle(&self, config: &Config, content_type: Option<&str>, response: &[u8]) -> Settled {
        let model = self.model.as_deref();
        let endpoint: Endpoint = self.route.endpoint;
        let wants = self.estimate.wants;
        let tokenizer = config.encodings().tokenizer(model).wanting(wants);
        let mut reader = ResponseReader::new(endpoint, content_type, self.choices, tokenizer);
        let certain = reader.push(response);
        let outcome = certain.unwrap_or_else(|| reader.finish(EndedBy::Upstream));
        let reserved = self.reserved();
        let reported_input = match outcome {
            Outcome::Reported(usage) => usage.input_tokens,
            _ => None,
        };
        let (tokens, outcome) = match outcome {
            Outcome::Reported(usage) => (usage.tokens(&reserved), Basis::Reported),
            Outcome::Counted { usage, reasoning } if endpoint.has_format() => {
                let tokens = usage.tokens(&reserved);
                let nothing = Learned::default();
                let likely = if may_hide_reasoning(model, wants.effort, reasoning, &nothing) {
                    let median = nothing.median(model, config.accounting().default_output_tokens);
                    median.saturating_mul(self.answers).min(reserved.output)
                } else {
                    0
                };
                (Tokens { output: tokens.output.max(likely), ..tokens }, Basis::Counted)
            }
            Outcome::Failed => (Tokens::NONE, Basis::Failed),
            Outcome::Counted { .. } | Outcome::Unknown => (reserved, Basis::Unknown),
        };
        Settled { tokens, outcome: outcome.name(), reported_input }
    }
}

fn reservation(subject: &Subject, limits: impl Iterator<Item = Applied>, estimate: Estimate) -> Reservation {
    let reservation = Reservation::new("quote".to_owned(), subject.name(), limits, estimate);
    reservation.continuing(|_| AtLimit::Continue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::learned_prompt::Votes;
    use serde_json::json;

    fn config(json: &str) -> Config {
        Config::from_bytes(json.as_bytes()).unwrap()
    }

    const CHAT: &str = "/v1/chat/completions";

    #[test]
    fn a_request_is_charged_its_prompt_and_a_reservation() {
        let body =
            json!({"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hello world"}]});
        let quote = Quote::new(&config("{}"), CHAT, body.to_string().as_bytes());
        // 3 for the message, 1 for the role, 2 words, 3 for the reply.
        assert_eq!((quote.input_tokens, quote.output_reserved), (9, 512));
        assert_eq!((quote.family, quote.encoding), ("gpt-4o", Encoding::O200kBase));
        let priced = config(
            r#"{"output_reservation":{"default_tokens":10},"prices":{"openai/gpt-4o":{"input":1.0,"output":2.0}}}"#,
        );
        let quote = Quote::new(&priced, CHAT, body.to_string().as_bytes());
        assert_eq!(quote.cost_micro_usd(&priced, &quote.reserved()), Some(9 + 20));
        assert_eq!(quote.cost_micro_usd(&config("{}"), &quote.reserved()), None);
    }

    #[test]
    fn the_parts_of_a_prompt_add_up_to_it() {
        let tool = json!({"type": "function", "function": {"name": "f", "description": "Finds"}});
        let image =
            json!({"type": "image_url", "image_url": {"url": "https://example.com", "detail": "low"}});
        let body = json!({"model": "gpt-4o", "tools": [tool], "messages": [
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": [{"type": "text", "text": "hello world"}, image]}]});
        let Quote { parts, input_tokens, .. } = Quote::new(&config("{}"), CHAT, body.to_string().as_bytes());
        let Parts { system, messages, tools, images, documents, structure } = parts;
        assert_eq!((system, messages, images, documents, structure), (2, 2, 85, 0, 11));
        assert_eq!(system + messages + tools + images + documents + structure, input_tokens);
    }

    #[test]
    fn a_body_that_nobody_reads_costs_a_token_a_byte_and_a_path_without_tokens_none() {
        let quote = Quote::new(&config("{}"), CHAT, b"[[[");
        assert!(quote.fault.is_some());
        assert_eq!(quote.input_tokens, 3);
        let quote = Quote::new(&config("{}"), "/v1/messages/count_tokens", b"{\"messages\":[{}]}");
        assert_eq!((quote.input_tokens, quote.output_reserved), (0, 0));
    }

    #[test]
    fn responses_settle_to_what_they_report_or_show() {
        let (config, kind) = (config("{}"), Some("application/json"));
        let body =
            json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7});
        let quote = Quote::new(&config, CHAT, body.to_string().as_bytes());
        let settled = |response: &str| {
            let settled = quote.settle(&config, kind, response.as_bytes());
            (settled.tokens.input, settled.tokens.output, settled.outcome)
        };
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3}}"#;
        assert_eq!(settled(usage), (20, 3, "reported"));
        let text = r#"{"choices":[{"message":{"content":"hello world"}}]}"#;
        assert_eq!(settled(text), (quote.input_tokens, 2, "counted"));
        assert_eq!(settled(r#"{"error":{"message":"x"}}"#), (0, 0, "failed"));
        assert_eq!(settled("<html>"), (quote.input_tokens, 7, "unknown"));
    }

    #[test]
    fn a_prompt_is_corrected_by_what_answers_have_reported_unless_it_is_exact() {
        let (config, kind) = (config("{}"), Some("application/json"));
        let response = r#"{"choices":[],"usage":{"prompt_tokens":130,"completion_tokens":3}}"#;
        let body = |model: &str| {
            json!({"model": model, "messages": [{"role": "user", "content": " a".repeat(93)}]}).to_string()
        };
        for (model, learns) in [("my-model", true), ("gpt-4o", false)] {
            let mut votes = Votes::default();
            for _ in 0..20 {
                let quote = Quote::corrected(&config, CHAT, body(model).as_bytes(), &votes.factors());
                assert_eq!(quote.input_tokens, 100);
                let settled = quote.settle(&config, kind, response.as_bytes());
                quote.lesson("me", &settled).iter().for_each(|lesson| votes.teach(lesson));
            }
            let quote = Quote::corrected(&config, CHAT, body(model).as_bytes(), &votes.factors());
            assert_eq!(quote.input_tokens, if learns { 130 } else { 100 }, "{model}");
            let text = r#"{"choices":[{"message":{"content":"hello world"}}]}"#;
            let counted = quote.settle(&config, kind, text.as_bytes());
            assert_eq!(quote.lesson("me", &counted), None, "nothing was reported");
        }
    }

    #[test]
    fn the_part_of_an_answer_that_a_model_hides_is_completed() {
        let config = config("{}");
        let body = json!({"model": "o3", "messages": [{"role": "user", "content": "hi"}]});
        let quote = Quote::new(&config, CHAT, body.to_string().as_bytes());
        let text = r#"{"choices":[{"message":{"content":"hello world"}}]}"#;
        assert_eq!(quote.settle(&config, None, text.as_bytes()).tokens.output, 512);
    }
}
