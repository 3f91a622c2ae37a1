//! Ways to write a body, and forms of it on its way, that some reader takes for the same.

use serde_json::{Value, json};
use std::io::Write as _;

/// A way to write a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spelling {
    Upper,
    LongS,
    Escapes,
    Pretty,
    Loose,
    CheapFirst,
    CheapLast,
    NotANumber,
    Array,
    Followed,
    AnotherDocument,
    Numbers,
    Fallbacks,
    Padded,
}

pub(super) const SPELLINGS: [Spelling; 14] = [
    Spelling::Upper,
    Spelling::LongS,
    Spelling::Escapes,
    Spelling::Pretty,
    Spelling::Loose,
    Spelling::CheapFirst,
    Spelling::CheapLast,
    Spelling::NotANumber,
    Spelling::Array,
    Spelling::Followed,
    Spelling::AnotherDocument,
    Spelling::Numbers,
    Spelling::Fallbacks,
    Spelling::Padded,
];

/// Members of `body` with cheap values: a reader that takes them does not see the others.
fn cheap(body: &Value) -> String {
    let all = json!({"model": "cheap", "messages": [], "input": "", "prompt": "", "max_tokens": 1,
        "max_completion_tokens": 1, "max_output_tokens": 1, "n": 1, "best_of": 1, "tools": [], "documents": []});
    let members = all.as_object().unwrap().iter().filter(|(name, _)| body.get(name).is_some());
    members.map(|(name, value)| format!("\"{name}\":{value}")).collect::<Vec<_>>().join(",")
}

impl Spelling {
    pub(super) fn write(self, body: &Value) -> String {
        let plain = body.to_string();
        let inside = plain.strip_prefix('{').and_then(|inside| inside.strip_suffix('}')).unwrap();
        match self {
            Self::Upper => renamed(body, &str::to_uppercase).to_string(),
            Self::LongS => renamed(body, &|name| name.replace('s', "ſ").replace('k', "\u{212A}")).to_string(),
            Self::Escapes => escaped(&plain),
            Self::Pretty => format!("\n{body:#}\t"),
            Self::Loose => loose(&plain),
            Self::CheapFirst => format!("{{{},{inside}}}", cheap(body)),
            Self::CheapLast => format!("{{{inside},{}}}", cheap(body)),
            Self::NotANumber => format!(r#"{{"temperature":NaN,{inside},"top_p":-Infinity}}"#),
            Self::Array => format!("[{plain}]"),
            Self::Followed => format!("{plain} and more }} ]"),
            Self::AnotherDocument => format!("{plain}{{\"max_tokens\":1,{}}}", cheap(body)),
            Self::Numbers => numbers_in_strings(body).to_string(),
            Self::Fallbacks => format!("{{{inside},\"fallbacks\":[\"cheap\",{{\"model\":\"cheap\"}}]}}"),
            Self::Padded => padded(body).to_string(),
        }
    }
}

/// The body with other names for its own members, and those of its messages and their parts.
fn renamed(value: &Value, name: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::Object(members) => {
            let renamed = |(member, value): (&String, &Value)| {
                let is_text =
                    matches!(member.as_str(), "tools" | "functions" | "input" | "arguments" | "variables");
                let known = ["messages", "content", "source", "image_url", "file", "input_audio"];
                let deeper = known.contains(&member.as_str()) && !is_text;
                (name(member), if deeper { self::renamed(value, name) } else { value.clone() })
            };
            Value::Object(members.iter().map(renamed).collect())
        }
        Value::Array(elements) => elements.iter().map(|element| renamed(element, name)).collect(),
        other => other.clone(),
    }
}

/// The numbers of the body's own members in strings, as servers read them that coerce types.
fn numbers_in_strings(body: &Value) -> Value {
    let in_string = |(name, value): (&String, &Value)| match value.as_u64() {
        Some(number) => (name.clone(), json!(format!(" +{number}"))),
        None => (name.clone(), value.clone()),
    };
    Value::Object(body.as_object().unwrap().iter().map(in_string).collect())
}

/// White space around the model's name, which gateways remove, and its letters in another case.
fn padded(body: &Value) -> Value {
    let mut padded = body.clone();
    if let Some(name) = body["model"].as_str().filter(|name| *name != "gpt-4o") {
        padded["model"] = json!(format!("\t{name} "));
    } else if body["model"].is_string() {
        padded["model"] = json!(" GPT-4o");
    }
    padded
}

/// Every letter and digit in a string as an escape.
fn escaped(json: &str) -> String {
    let (mut out, mut in_string, mut in_escape) = (String::new(), false, 0);
    for c in json.chars() {
        in_string ^= c == '"' && in_escape == 0;
        let is_plain = in_string && in_escape == 0 && c.is_ascii_alphanumeric();
        in_escape = match (in_escape, c) {
            (0, '\\') if in_string => 1,
            (1, 'u') => 5,
            (0, _) => 0,
            (left, _) => left - 1,
        };
        if is_plain {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// A comment behind every bracket, and a comma before each that closes.
fn loose(json: &str) -> String {
    let (mut out, mut in_string, mut in_escape, mut last) = (String::new(), false, false, ' ');
    for c in json.chars() {
        if !in_string && matches!(c, '}' | ']') && !matches!(last, '{' | '[') {
            out.push(',');
        }
        out.push(c);
        if !in_string && matches!(c, '{' | '[') {
            out.push_str("/* \" ' { */");
        }
        in_string ^= c == '"' && !in_escape;
        in_escape = in_string && c == '\\' && !in_escape;
        last = c;
    }
    out
}

/// A form of a text on its way: an encoding, or a coding and its name.
pub(super) fn on_its_way(form: usize, text: &str) -> (Vec<(&'static str, &'static str)>, Vec<u8>) {
    let bytes = text.as_bytes();
    let none = Vec::new();
    let coded = |name| vec![("content-encoding", name)];
    let level = flate2::Compression::fast();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd =
        |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest);
    match form {
        0 => (none, bytes.to_vec()),
        1 => (none, text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        2 => (
            none,
            [&b"\xFE\xFF"[..], &text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>()].concat(),
        ),
        3 => (none, text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect()),
        4 => (none, [b"\xEF\xBB\xBF", bytes].concat()),
        5 => (coded("gzip"), gzip(bytes)),
        6 => (coded("Zstd"), zstd(bytes)),
        7 => (coded("gzip, identity,zstd"), zstd(&gzip(bytes))),
        8 => (
            none,
            [
                &b"\xFF\xFE\0\0"[..],
                &text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>(),
            ]
            .concat(),
        ),
        9 => {
            // In two members: a reader may read the first alone.
            let (first, second) = bytes.split_at(bytes.len() / 2);
            (coded(" X-Gzip ,"), [gzip(first), gzip(second)].concat())
        }
        10 => {
            let skipped = b"\x5D\x2A\x4D\x18\x03\0\0\0abc";
            let (first, second) = bytes.split_at(bytes.len() / 3);
            (coded("zstd"), [&skipped[..], &zstd(first), skipped, &zstd(second)].concat())
        }
        11 => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            (coded("deflate"), encoder.finish().unwrap())
        }
        // The upstream does not know content codings.
        12 => (coded("br"), bytes.to_vec()),
        13 => (coded("deflate"), bytes.to_vec()),
        _ => (vec![("content-type", "text/plain; charset=latin1")], bytes.to_vec()),
    }
}

pub(super) const FORMS: usize = 15;
