//! The law of bodies: transcoding, compressing or re-spelling a body never makes it cost less, under fewer limits.
//!
//! The last byte chooses the endpoint, the one before it the spelling, and the one before that the form on its way.

#![no_main]

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;
use llm_rate_limit::codec::content_encoding::{Bounds, Codings, Decoder};
use llm_rate_limit::models::Encodings;
use llm_rate_limit::policy::Candidates;
use llm_rate_limit::request::{Body, Endpoint, Request};
use llm_rate_limit::tokens::Meter;
use std::io::Write;

const ENDPOINTS: [Endpoint; 12] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::Gemini,
    Endpoint::GeminiEmbeddings,
    Endpoint::OllamaChat,
    Endpoint::OllamaGenerate,
    Endpoint::CohereChat,
    Endpoint::CohereEmbed,
    Endpoint::Rerank,
];

/// Members with cheap values.
const CHEAP: [(&str, &str); 7] = [
    ("model", "\"cheap\""),
    ("max_tokens", "1"),
    ("max_output_tokens", "1"),
    ("n", "1"),
    ("messages", "[]"),
    ("input", "\"\""),
    ("prompt", "\"\""),
];

/// Cheap values of members that an object has: a reader that takes them does not see the others.
fn cheap(members: &serde_json::Map<String, serde_json::Value>) -> String {
    let known = CHEAP.iter().filter(|(name, _)| members.contains_key(*name));
    let cheap: Vec<_> = known.map(|(name, value)| format!("\"{name}\":{value}")).collect();
    if cheap.is_empty() { "\"a\":1".to_owned() } else { cheap.join(",") }
}

/// The text of an object, whose members are `inside`, as some readers take it for the same.
fn spelled(choice: u8, text: &str, inside: &str, cheap: &str) -> String {
    match choice % 9 {
        0 => text.to_owned(),
        1 => format!(r#"{{"temperature":NaN,"top_p":-Infinity,{inside}}}"#),
        2 => format!("{{{cheap},{inside}}}"),
        3 => format!("{{{inside},{cheap}}}"),
        4 => format!("/* {{ */ {{{inside},}} // }}"),
        5 => format!("[{text}]"),
        6 => format!("{text}{{{cheap}}}"),
        7 => format!("{text} and more"),
        _ => format!(")]}}'\n{{'a':.5;{inside}}}"),
    }
}

/// The body as it is sent, and the codings that it is in.
fn on_its_way(choice: u8, text: &str) -> (&'static str, Vec<u8>) {
    let bytes = text.as_bytes();
    let level = Compression::fast();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    match choice % 8 {
        0 => ("", bytes.to_vec()),
        1 => ("", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        2 => ("", "\u{FEFF}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect()),
        3 => ("", text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect()),
        4 => ("", [b"\xEF\xBB\xBF", bytes].concat()),
        5 => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            ("x-gzip", [gzip(first), gzip(second)].concat())
        }
        6 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            ("Deflate,identity", encoder.finish().unwrap())
        }
        _ => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(&gzip(bytes)).unwrap();
            ("gzip, deflate", encoder.finish().unwrap())
        }
    }
}

fn decoded(codings: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::new(&Codings::parse(codings).unwrap(), Bounds::REQUEST);
    let mut text = Vec::new();
    decoder.push(bytes, |piece| {
        text.extend_from_slice(piece);
        false
    });
    decoder.finish(|piece| {
        text.extend_from_slice(piece);
        false
    });
    assert_eq!(decoder.fault(), None);
    text
}

fn tokens(request: &Request<'_>, model: Option<&str>) -> u64 {
    let tokenizer = Encodings::default().tokenizer(model);
    request.input_tokens(request.text_tokens(&Meter::unlimited(tokenizer)), model, tokenizer)
}

fuzz_target!(|data: &[u8]| {
    let [bytes @ .., form, spelling, endpoint] = data else { return };
    // White space around it is no spelling, and where a prompt is charged by size it counts.
    let Ok(text) = std::str::from_utf8(bytes).map(str::trim) else { return };
    // What strict readers take for an object.
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(text) else { return };
    let inside = text.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')).unwrap_or_default();
    if members.is_empty() {
        return;
    }
    let endpoint = ENDPOINTS[usize::from(*endpoint) % ENDPOINTS.len()];
    let body = Body::new(text.as_bytes());
    let plain = Request::read(endpoint, &body);
    let (codings, sent) = on_its_way(*form, &spelled(*spelling, text, inside, &cheap(&members)));
    let sent = decoded(codings, &sent);
    let body = Body::new(&sent);
    let other = Request::read(endpoint, &body);
    assert_eq!(other.fault, None);
    let (models, others) = (plain.models(), other.models());
    for name in models.names() {
        let is_candidate = matches!(others, Candidates::Any(_)) || others.names().contains(name);
        assert!(is_candidate, "{others:?} lacks {name:?}");
        assert!(tokens(&other, Some(name)) >= tokens(&plain, Some(name)));
    }
    if let Candidates::Any(_) = models {
        assert!(matches!(others, Candidates::Any(_)), "{others:?}");
        assert!(tokens(&other, None) >= tokens(&plain, None));
    }
    assert!(other.answers() >= plain.answers());
    let (cap, other) = (plain.output_cap(), other.output_cap());
    assert!(other.tokens >= cap.tokens);
    // Where one may find no cap, so may the other.
    assert!(other.tokens.is_none() || other.is_doubtful || cap.tokens.is_some() && !cap.is_doubtful);
});
