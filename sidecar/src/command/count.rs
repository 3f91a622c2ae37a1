//! `count`: prints what requests would be charged, and what their responses settle them to, with the filter's own code.
//!
//! It needs no Envoy, no sidecar and no Redis. Without a configuration, nothing has a price, and 512 tokens are
//! reserved for the output of a request that sets no maximum.

use super::Failure;
use super::input::{configuration, contents};
use super::table::{self, Align};
use clap::Args;
use llm_rate_limit::config::Config;
use llm_rate_limit::pricing::Tokens;
use llm_rate_limit::session::quote::{Quote, Settled};
use llm_rate_limit::usage::learned_prompt::{Factors, Votes};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write, stdin};
use std::path::{Path, PathBuf};

/// The requests to count.
#[derive(Clone, Debug, Args)]
pub struct Requests {
    /// The body of the request; - is standard input
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl", requires = "path")]
    body: Option<PathBuf>,
    /// The path of the request, such as /v1/chat/completions
    #[arg(long, conflicts_with = "jsonl")]
    path: Option<String>,
    /// The response, whose usage the request is settled to: JSON or a stream
    #[arg(long, conflicts_with = "jsonl")]
    response: Option<PathBuf>,
    /// A filter configuration, JSON or YAML, with encodings, reservation and prices
    #[arg(long)]
    config: Option<PathBuf>,
    /// Lines {"path", "request", "content_type", "response"}, with texts as request and response; - is standard input
    #[arg(long)]
    jsonl: Option<PathBuf>,
    /// Correct each prompt by what the responses of the lines before it report, as `prompt_estimates: learned` does;
    /// lines may name an {"identity"}
    #[arg(long, requires = "jsonl")]
    learn: bool,
}

/// A line of input: a request, and the response with its content type.
#[derive(Deserialize)]
struct Line {
    path: String,
    request: String,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    response: Option<String>,
    /// Whose request it is, for what is learned of it.
    #[serde(default)]
    identity: String,
}

/// A line of output.
#[derive(Serialize)]
struct Charge<'q> {
    model: Option<&'q str>,
    family: &'static str,
    input_tokens: u64,
    output_reserved: u64,
    settled: Option<SettledCharge>,
}

#[derive(Serialize)]
struct SettledCharge {
    input_tokens: u64,
    output_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    reasoning_tokens: u64,
    outcome: &'static str,
}

#[derive(Serialize)]
struct Fault {
    error: String,
}

impl From<Settled> for SettledCharge {
    fn from(Settled { tokens, outcome, .. }: Settled) -> Self {
        let Tokens { input, cached_input, cache_write, output, reasoning, may_reason: _ } = tokens;
        Self {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached_input,
            cache_write_tokens: cache_write,
            reasoning_tokens: reasoning,
            outcome,
        }
    }
}

pub(super) fn count(requests: &Requests, out: &mut impl Write) -> Result<bool, Failure> {
    let config = match &requests.config {
        Some(file) => configuration(file)?,
        None => Config::from_bytes(b"{}").map_err(|error| Failure(error.to_string()))?,
    };
    match (&requests.jsonl, &requests.path, &requests.body) {
        (Some(file), ..) if file == Path::new("-") => lines(&config, requests.learn, stdin().lock(), out),
        (Some(file), ..) => {
            let opened = File::open(file).map_err(|why| Failure(format!("{}: {why}", file.display())))?;
            lines(&config, requests.learn, BufReader::with_capacity(1 << 20, opened), out)
        }
        (None, Some(path), Some(body)) => {
            let response = requests.response.as_deref().map(contents).transpose()?;
            one(&config, path, &contents(body)?, response.as_deref(), out)
        }
        _ => Err(Failure("expected --path and a body".to_owned())),
    }
}

/// Answers each line of `input` with a line, in order. Each `learns` from those before it, or none does.
fn lines(
    config: &Config,
    learns: bool,
    mut input: impl BufRead,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let (mut line, mut all_ok) = (Vec::new(), true);
    let (mut votes, mut factors) = (Votes::default(), Factors::default());
    while input.read_until(b'\n', &mut line)? > 0 {
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) => {
                let quote = Quote::corrected(config, &line.path, line.request.as_bytes(), &factors);
                let settled = line
                    .response
                    .as_ref()
                    .map(|response| quote.settle(config, line.content_type.as_deref(), response.as_bytes()));
                let lesson = settled.and_then(|settled| quote.lesson(&line.identity, &settled));
                if let Some(lesson) = lesson.filter(|_| learns) {
                    votes.teach(&lesson);
                    factors = votes.factors();
                }
                let charge = Charge {
                    model: quote.model.as_deref(),
                    family: quote.family,
                    input_tokens: quote.input_tokens,
                    output_reserved: quote.output_reserved,
                    settled: settled.map(SettledCharge::from),
                };
                serde_json::to_writer(&mut out, &charge)?;
            }
            Err(why) => {
                all_ok = false;
                serde_json::to_writer(&mut out, &Fault { error: why.to_string() })?;
            }
        }
        out.write_all(b"\n")?;
        line.clear();
    }
    out.flush()?;
    Ok(all_ok)
}

/// Prints one request as a table.
fn one(
    config: &Config,
    path: &str,
    body: &[u8],
    response: Option<&[u8]>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let quote = Quote::new(config, path, body);
    let model = quote.model.as_deref().unwrap_or("any model");
    let encoding = serde_json::to_value(quote.encoding)?;
    writeln!(out, "{model}, family {}, {}", quote.family, encoding.as_str().unwrap_or_default())?;
    if let Some(fault) = &quote.fault {
        writeln!(out, "nobody reads the body, so each byte is charged as a token: {fault}")?;
    }
    let parts = &quote.parts;
    let mut rows: Vec<[String; 2]> = [
        ("prompt", quote.input_tokens),
        ("  system", parts.system),
        ("  messages", parts.messages),
        ("  tools", parts.tools),
        ("  images", parts.images),
        ("  documents", parts.documents),
        ("  structure", parts.structure),
        ("output reserved", quote.output_reserved),
    ]
    .map(|(part, tokens)| [part.to_owned(), tokens.to_string()])
    .into();
    let price = |what: &str, tokens: &Tokens| {
        let cost = quote.cost_micro_usd(config, tokens);
        cost.map(|cost| [what.to_owned(), format!("${}.{:06}", cost / 1_000_000, cost % 1_000_000)])
    };
    rows.extend(price("price", &quote.reserved()));
    if let Some(response) = response {
        let settled = quote.settle(config, None, response);
        let tokens = settled.tokens;
        rows.push(["settled".to_owned(), settled.outcome.to_owned()]);
        for (what, tokens) in [
            ("  input", tokens.input),
            ("  read from a cache", tokens.cached_input),
            ("  written to a cache", tokens.cache_write),
            ("  output", tokens.output),
            ("  reasoning", tokens.reasoning),
        ] {
            rows.push([what.to_owned(), tokens.to_string()]);
        }
        rows.extend(price("  price", &tokens));
    }
    table::write(out, [("PART", Align::Left), ("TOKENS", Align::Right)], &rows)?;
    Ok(true)
}
