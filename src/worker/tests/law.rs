//! The law of bodies: however a body is written that some reader reads as the plain one, the same limits apply, and
//! none is charged less.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::io::Write as _;

/// The counters that a request is charged on, and how much.
type Charges = BTreeMap<(String, String, String), u64>;

/// Limits of every kind: on everything, on models, in dollars.
fn config() -> Value {
    let all = json!({"rpm": 9_007_199_254_740_991_u64, "input_tpm": 9_007_199_254_740_991_u64,
        "output_tpm": 9_007_199_254_740_991_u64, "tpm": 9_007_199_254_740_991_u64});
    let budget = json!([{"metric": "cost_usd", "limit": 1_000_000_000, "window": "1d"}]);
    let mut of_key = all.clone();
    of_key["windows"] = budget;
    of_key["models"] = json!({"gpt-4*": all, "o*": all, "claude*": all, "cheap": all});
    let price = |input: f64, output: f64| json!({"input": input, "output": output});
    json!({
        "store": {"type": "redis", "cluster": "s"},
        "default": of_key,
        "models": {"*": all, "gpt-5*": all},
        "weights": {"models": {"claude*": 2, "cheap": 0.1}},
        "prices": {"cheap": price(0.01, 0.01), "gpt-4*": price(2.5, 10.0), "claude*": price(3.0, 15.0),
            "*": price(1.0, 5.0)},
    })
}

/// The charges of a request with these headers beside the usual ones.
fn charges(path: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Charges {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    let mut request = post(path, "key");
    request.0.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    worker.request_headers(1, &request, false, NOW);
    worker.request_body(1, true, || body.to_vec(), NOW);
    let callouts = worker.turn(NOW).callouts;
    let [callout] = callouts.as_slice() else { panic!("one callout: {callouts:?}") };
    let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
    let of_scope = |scope: &ScopeCharges| {
        let name = scope.scope.to_string();
        let charge = move |charge: &wire::Charge| {
            (
                (
                    name.clone(),
                    charge.identity.to_string(),
                    format!("{}/{}", charge.name, charge.window.label()),
                ),
                charge.cost.get(),
            )
        };
        scope.charges.iter().map(charge).collect::<Vec<_>>()
    };
    calls.iter().flat_map(|call| call.charges.iter().flat_map(of_scope)).collect()
}

/// A way to write a body.
#[derive(Clone, Copy, Debug)]
enum Spelling {
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

const SPELLINGS: [Spelling; 14] = [
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
    fn write(self, body: &Value) -> String {
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
fn on_its_way(form: usize, text: &str) -> (Vec<(&'static str, &'static str)>, Vec<u8>) {
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

const FORMS: usize = 15;

fn assert_no_less(plain: &Charges, other: &Charges, how: &str) {
    for (counter, cost) in plain {
        let charged = other.get(counter).unwrap_or_else(|| panic!("{how}: {counter:?} does not apply"));
        assert!(charged >= cost, "{how}: {counter:?} is charged {charged}, not {cost}");
    }
}

/// Whichever reader the upstream has, the model is `gpt-4o`.
#[test]
fn no_spelling_of_a_body_costs_less() {
    let words = "word ".repeat(200);
    let parts = json!([{"type": "text", "text": words},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}}]);
    let tool = json!({"type": "function", "function": {"name": "f", "description": words, "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "description": "é \"quoted\""}}}}});
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"a b": [1, 2]}}});
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({"messages": [{"role": "user", "name": "é", "content": parts}],
            "max_tokens": 900, "n": 2, "tools": [tool], "response_format": schema, "documents": [{"text": words}]}),
        ),
        ("/v1/completions", json!({"prompt": [words, "b"], "suffix": "c", "max_tokens": 900, "best_of": 3})),
        ("/v1/embeddings", json!({"input": [words, [1, 2, 3]]})),
        ("/v1/responses", json!({"input": [{"role": "user", "content": words}], "max_output_tokens": 900})),
        (
            "/v1/messages",
            json!({"system": words, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 900}),
        ),
    ] {
        let mut body = body;
        body["model"] = json!("gpt-4o");
        let plain = charges(path, &[], body.to_string().as_bytes());
        assert!(plain.len() >= 10, "{plain:?}");
        for spelling in SPELLINGS {
            for form in 0..FORMS {
                let text = spelling.write(&body);
                let (headers, bytes) = on_its_way(form, &text);
                let how = format!("{path} {spelling:?} {form}");
                assert_no_less(&plain, &charges(path, &headers, &bytes), &how);
            }
        }
    }
}

/// What nobody reads costs no less than what is hidden in it.
#[test]
fn no_damage_to_a_body_makes_it_cost_less() {
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(200)}]})
        .to_string();
    let plain = charges("/v1/chat/completions", &[], body.as_bytes());
    for (headers, bytes) in [
        (vec![], body.as_bytes()[..body.len() - 1].to_vec()),
        (vec![], body.replacen(':', "", 1).into_bytes()),
        (vec![("content-type", "application/json; charset=utf-7")], body.clone().into_bytes()),
        (vec![("content-encoding", "gzip")], body.clone().into_bytes()),
        (vec![("content-encoding", "br")], vec![0xFF; 40]),
    ] {
        assert_no_less(&plain, &charges("/v1/chat/completions", &headers, &bytes), &format!("{headers:?}"));
    }
}

/// Two readers take one body for two requests, if they mind its headers or not.
#[test]
fn a_body_with_two_meanings_costs_no_less_than_either() {
    let path = "/v1/chat/completions";
    let dear = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(200)}],
        "max_tokens": 3_000})
    .to_string();
    let plain = charges(path, &[], dear.as_bytes());
    let cheap = r#"{"model":"cheap","messages":[]"#;
    let mut form =
        percent_encoding::utf8_percent_encode(&dear, percent_encoding::NON_ALPHANUMERIC).to_string();
    form = format!("{cheap},\"x\":\"&messages={form}&mod%65l=gpt-4o\"}}");
    let parts =
        format!("{cheap}}}\r\n--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n--b--");
    let is_charged = |charged: &Charges, how: &str| {
        for counter in plain.keys() {
            assert!(charged.contains_key(counter), "{how}: {counter:?} does not apply");
        }
    };
    let of_form = [("content-type", "Application/x-www-form-urlencoded;charset=utf-8")];
    is_charged(&charges(path, &of_form, form.as_bytes()), "a form");
    is_charged(
        &charges(path, &[("content-type", "multipart/form-data; boundary=b")], parts.as_bytes()),
        "parts",
    );
    // Who sends JSON as a form, as curl does if not told otherwise, is charged for the JSON.
    assert_eq!(charges(path, &of_form, dear.as_bytes()), plain);
    for header in [
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
        ("content-encoding", "zstd, deflate"),
        ("content-type", "application/json; charset=utf-7"),
        ("content-type", "multipart/mixed"),
    ] {
        assert_no_less(&plain, &charges(path, &[header], dear.as_bytes()), &format!("{header:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_spelling_of_any_body_costs_less(
        members in prop::collection::vec((any::<Index>(), bodies::value()), 0..6),
        spelling in prop::sample::select(SPELLINGS.to_vec()),
        form in 0..FORMS,
        path in prop::sample::select(vec![
            "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages",
        ]),
    ) {
        let mut body = json!({"model": "gpt-4o"});
        for (name, value) in members {
            body[*name.get(bodies::NAMES)] = value;
        }
        let plain = charges(path, &[], body.to_string().as_bytes());
        let (headers, bytes) = on_its_way(form, &spelling.write(&body));
        assert_no_less(&plain, &charges(path, &headers, &bytes), &format!("{path} {spelling:?} {form} {body}"));
    }
}

/// The same for requests of every shape that clients send: JSON lines with `path` and `body`. `RECORDED_REQUESTS` names
/// a file of more.
#[test]
fn no_spelling_of_a_recorded_body_costs_less() {
    let usual = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/requests.jsonl");
    let path = std::env::var("RECORDED_REQUESTS").unwrap_or_else(|_| usual.to_owned());
    let recorded = std::fs::read_to_string(path).unwrap();
    let mut checked = 0;
    for (at, line) in recorded.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (path, text) = (line["path"].as_str().unwrap(), line["body"].as_str().unwrap());
        let Ok(body @ Value::Object(_)) = serde_json::from_str(text) else { continue };
        if !Config::from_bytes(b"{}").unwrap().endpoints().route(path).endpoint.has_format() {
            continue;
        }
        // serde_json puts members into another order, which may change what JSON in a prompt counts.
        let plain = charges(path, &[], body.to_string().as_bytes());
        let as_recorded = charges(path, &[], text.as_bytes());
        for form in 0..FORMS {
            let (headers, bytes) = on_its_way(form, text);
            assert_no_less(
                &as_recorded,
                &charges(path, &headers, &bytes),
                &format!("line {at} in form {form}"),
            );
        }
        for (spelling, form) in SPELLINGS.into_iter().zip((0..FORMS).cycle().skip(at)) {
            let (headers, bytes) = on_its_way(form, &spelling.write(&body));
            let how = format!("line {at} {path} {spelling:?} {form}");
            assert_no_less(&plain, &charges(path, &headers, &bytes), &how);
        }
        checked += 1;
    }
    assert!(checked > 0);
}
