//! Responses from the providers' documentation, replayed whole, byte by byte, and in two parts split at every place.
//!
//! `tests/data/transcripts` has them: a stream (`.sse`) or a body (`.body`), and beside it the expected outcome
//! (`.expected.json`).

use crate::tokens::{Counting, Encoding, Factor};
use crate::usage::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

struct Transcript {
    name: String,
    bytes: Vec<u8>,
    endpoint: Endpoint,
    content_type: String,
    choices: u64,
    outcome: Outcome,
    /// The beginning of the part that is unread when the outcome is certain, without white space, commas and brackets
    /// that end; none if the outcome is certain only at the end.
    left: Option<String>,
}

fn tokenizer() -> Tokenizer {
    let counting = Counting { encoding: Encoding::O200kBase, factor: Factor::ONE };
    Tokenizer::new(counting)
}

fn endpoint(name: &str) -> Endpoint {
    match name {
        "chat_completions" => Endpoint::ChatCompletions,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "messages" => Endpoint::Messages,
        "gemini" => Endpoint::Gemini,
        "gemini_embeddings" => Endpoint::GeminiEmbeddings,
        "cohere_chat" => Endpoint::CohereChat,
        "cohere_embed" => Endpoint::CohereEmbed,
        "rerank" => Endpoint::Rerank,
        "ollama_chat" => Endpoint::OllamaChat,
        "ollama_generate" => Endpoint::OllamaGenerate,
        _ => panic!("{name}"),
    }
}

fn outcome(expected: &Value) -> Outcome {
    let tokens = |texts: &Value| {
        let texts = texts.as_array().unwrap().iter();
        texts.map(|text| tokenizer().count(text.as_str().unwrap())).sum::<u64>()
    };
    if let Some(usage) = expected.get("reported") {
        let optional = |name: &str| usage.get(name).map(|tokens| tokens.as_u64().unwrap());
        return Outcome::Reported(Usage {
            input_tokens: optional("input_tokens"),
            output_tokens: optional("output_tokens").unwrap(),
            cached_tokens: optional("cached_tokens"),
            cache_creation_tokens: optional("cache_creation_tokens"),
            reasoning_tokens: optional("reasoning_tokens"),
        });
    }
    let reasoning = match expected.get("reasoning").and_then(Value::as_str) {
        Some("shown") => Reasoning::Shown,
        Some("none") => Reasoning::None,
        _ => Reasoning::Unknown,
    };
    if let Some(counted) = expected.get("counted") {
        let input_tokens = expected.get("input_tokens").map(|tokens| tokens.as_u64().unwrap());
        let least = expected.get("output_tokens").map_or(0, |tokens| tokens.as_u64().unwrap());
        let usage = Usage { input_tokens, output_tokens: tokens(counted).max(least), ..Usage::default() };
        return Outcome::Counted { usage, reasoning };
    }
    match expected.as_str().unwrap() {
        "failed" => Outcome::Failed,
        "unknown" => Outcome::Unknown,
        other => panic!("{other}"),
    }
}

fn transcripts() -> Vec<Transcript> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts");
    let list = |path: &Path| -> Vec<PathBuf> {
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let files = list(&root).into_iter().flat_map(|folder| list(&folder));
    let recorded = files.filter(|path| path.extension().is_some_and(|kind| kind == "sse" || kind == "body"));
    let read = |path: PathBuf| {
        let expected: Value =
            serde_json::from_slice(&fs::read(path.with_extension("expected.json")).unwrap()).unwrap();
        Transcript {
            name: path.strip_prefix(&root).unwrap().display().to_string(),
            bytes: fs::read(&path).unwrap(),
            endpoint: endpoint(expected["endpoint"].as_str().unwrap()),
            content_type: expected["content_type"].as_str().unwrap().to_owned(),
            choices: expected["choices"].as_u64().unwrap(),
            outcome: outcome(&expected["outcome"]),
            left: expected.get("left").map(|left| left.as_str().unwrap().to_owned()),
        }
    };
    recorded.map(read).collect()
}

impl Transcript {
    /// Replays it in `chunks`: the number of bytes that had been read when the outcome was certain, if that was before
    /// the end.
    fn replay<'t>(&self, chunks: impl Iterator<Item = &'t [u8]>) -> Option<usize> {
        let mut reader =
            ResponseReader::new(self.endpoint, Some(&self.content_type), self.choices, tokenizer());
        let (mut read, mut certain) = (0, None);
        for chunk in chunks {
            read += chunk.len();
            if let Some(outcome) = reader.push(chunk) {
                assert_eq!((certain, outcome), (None, self.outcome), "{}", self.name);
                certain = Some(read);
            }
        }
        assert_eq!(reader.finish(EndedBy::Other), self.outcome, "{}", self.name);
        certain
    }
}

#[test]
fn transcripts_are_read_and_settled_as_early_as_possible() {
    let transcripts = transcripts();
    assert!(transcripts.len() >= 30, "{}", transcripts.len());
    for transcript in transcripts {
        let whole = transcript.replay([transcript.bytes.as_slice()].into_iter());
        assert_eq!(whole.is_some(), transcript.left.is_some(), "{}", transcript.name);
        let certain = transcript.replay(transcript.bytes.chunks(1));
        let left = certain.map(|at| String::from_utf8_lossy(&transcript.bytes[at..]).into_owned());
        let begin = |left: &str| left.trim_start_matches([' ', '\r', '\n', ',', '}']).to_owned();
        match (left, &transcript.left) {
            (Some(left), Some(expected)) if expected.is_empty() => {
                assert_eq!(begin(&left), "", "{}", transcript.name)
            }
            (Some(left), Some(expected)) => {
                assert!(begin(&left).starts_with(expected), "{}: {left}", transcript.name)
            }
            (left, expected) => assert_eq!(left.as_ref(), expected.as_ref(), "{}", transcript.name),
        }
    }
}

#[test]
fn any_split_equals_the_whole() {
    for transcript in transcripts() {
        for at in 0..=transcript.bytes.len() {
            let (left, right) = transcript.bytes.split_at(at);
            let certain = transcript.replay([left, right].into_iter());
            assert_eq!(certain.is_some(), transcript.left.is_some(), "{} at {at}", transcript.name);
        }
    }
}
