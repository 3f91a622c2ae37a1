use super::*;
use crate::models::Encodings;
use crate::request::{Body, Cap};
use crate::tokens::{Meter, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Responses,
    Endpoint::Messages,
];

fn tokenizer() -> Tokenizer {
    Encodings::default().tokenizer(Some("gpt-4o"))
}

/// What a request says, as far as it is charged for.
#[derive(Debug, PartialEq)]
struct Facts {
    is_faulty: bool,
    models: crate::policy::Candidates,
    flags: [bool; 7],
    cap: Cap,
    answers: (u64, u64),
    text: crate::request::TextTokens,
    input: u64,
}

fn facts(request: &Request<'_>, text: crate::request::TextTokens) -> Facts {
    Facts {
        is_faulty: request.fault.is_some(),
        models: request.models(),
        flags: [
            request.stream,
            request.background,
            request.has_data_sources,
            request.has_stream_options,
            request.include_usage,
            request.is_plain(),
            request.has_content(),
        ],
        cap: request.output_cap(),
        answers: (request.choices(), request.answers()),
        text,
        input: request.input_tokens(text, request.first_model(), tokenizer()),
    }
}

fn at_once(endpoint: Endpoint, bytes: &[u8]) -> Facts {
    let body = Body::new(bytes);
    let request = Request::read(endpoint, &body);
    facts(&request, request.text_tokens(&Meter::unlimited(tokenizer())))
}

/// Reads a body in pieces, and counts about `most` bytes in each step. Returns the most work of a step, too.
fn in_steps(endpoint: Endpoint, bytes: &[u8], pieces: &[usize], most: u64, bounds: Bounds) -> (Facts, u64) {
    let mut reading = Reading::with(endpoint, bytes.len(), bounds);
    let (mut rest, mut sizes, mut hardest) = (bytes, pieces.iter().cycle(), 0);
    let mut steps = 0_u64;
    while !reading.is_read() {
        steps += 1;
        assert!(steps < 100 + 20 * bytes.len() as u64, "it ends");
        let work = if !reading.wants_bytes() {
            reading.step()
        } else if rest.is_empty() {
            reading.finish();
            1
        } else {
            let (piece, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            rest = after;
            reading.push(piece)
        };
        hardest = hardest.max(work);
    }
    let Read { request, texts } = reading.into_read();
    let mut counting = Counting::new(tokenizer());
    while !counting.is_done() {
        hardest = hardest.max(counting.step(&texts, most, |_| false));
    }
    (facts(&request, counting.tokens()), hardest)
}

fn small() -> impl Strategy<Value = Bounds> {
    // A piece has a whole character at least.
    (4_usize..30, 1_usize..30, 1_usize..60, 1_usize..40, 2_usize..60).prop_map(
        |(piece, loose, structure, string, container)| Bounds {
            piece,
            loose,
            structure,
            long: (string, container),
        },
    )
}

/// Any JSON, with names that have a meaning somewhere.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5_000_i64).prop_map(Value::from),
        "[a-z é\"\\\\]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let name = prop::sample::select(vec!["role", "content", "text", "input", "variables", "x", "Text"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(name.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Bodies as upstreams get them, with members that count.
fn body() -> impl Strategy<Value = Value> {
    let text = || "[a-z é\u{1F600}\"\\\\\n/]{0,40}";
    let part = prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        Just(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
        text().prop_map(|data| json!({"type": "image", "source": {"type": "base64", "data": data}})),
        text().prop_map(|text| json!({"type": "tool_use", "name": "f", "input": {"a b": [1, text]}})),
    ];
    let content =
        prop_oneof![text().prop_map(Value::from), prop::collection::vec(part, 0..4).prop_map(Value::from),];
    let message = (content, text()).prop_map(|(content, name)| {
        json!({"role": "user", "content": content, "name": name, "reasoning": name, "thinking": name})
    });
    let property = text().prop_map(|text| json!({"type": "string", "description": text, "enum": [text, 1]}));
    let tool = (text(), property).prop_map(|(text, property)| {
        json!({"type": "function", "name": "g", "function": {"name": "f", "description": text,
            "parameters": {"type": "object", "properties": {"p": property}}}})
    });
    let prompt = prop_oneof![
        text().prop_map(Value::from),
        prop::collection::vec(
            prop_oneof![text().prop_map(Value::from), Just(json!([1, 2])), Just(json!(7))],
            0..5
        )
        .prop_map(Value::from),
    ];
    let other = value();
    (
        prop::collection::vec(message, 0..6),
        prop::collection::vec(tool, 0..4),
        prompt,
        other,
        prop::sample::select(vec!["documents", "metadata", "input", "system", "stop", "extra_body", "text"]),
        (text(), any::<bool>(), 0_u64..5),
    )
        .prop_map(|(messages, tools, prompt, other, name, (text, stream, n))| {
            let mut body = json!({"messages": messages, "tools": tools, "prompt": prompt, "suffix": text,
                "instructions": text, "stream": stream, "stream_options": {"include_usage": stream}, "n": n,
                "max_tokens": n, "input": messages, "response_format": {"json_schema": {"schema": {"x": [text]}}}});
            body[name] = other;
            if n != 3 {
                body["model"] = json!("gpt-4o");
            }
            body
        })
}

/// The way of [`written`] that leaves halves of surrogate pairs.
const HALVES: usize = 8;

/// Bytes that some reader takes for `body`, or nobody.
fn written(body: &Value, how: usize) -> Vec<u8> {
    let text = body.to_string();
    match how {
        0 => serde_json::to_string_pretty(body).unwrap().into_bytes(),
        1 => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        2 => format!("\u{FEFF}{text}").into_bytes(),
        3 => text.replacen('{', "{\"x\":NaN,", 1).into_bytes(),
        4 => text.as_bytes()[..text.len() * 2 / 3].to_vec(),
        5 => format!("[{text},{text}]").into_bytes(),
        6 => format!("{text} trailing [[[[").into_bytes(),
        7 => [text.as_bytes(), b"\xFF\xE4\xB8"].concat(),
        HALVES => text.replace("\\n", "\\ud83d").into_bytes(),
        _ => text.into_bytes(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn steps_find_what_is_found_at_once(
        body in body(), how in 0_usize..14, endpoint in prop::sample::select(ENDPOINTS.to_vec()),
        pieces in prop::collection::vec(1_usize..50, 1..6), most in 1_u64..200, bounds in small(),
    ) {
        let bytes = written(&body, how);
        let whole = at_once(endpoint, &bytes);
        let (steps, _) = in_steps(endpoint, &bytes, &pieces, most, bounds);
        if whole.is_faulty {
            prop_assert!(steps.is_faulty);
        } else if how == HALVES {
            // Where nothing but a copy is kept, serde_json minds no half of a pair.
            let expected = Facts { text: steps.text, input: steps.input, ..whole };
            prop_assert_eq!(steps, expected);
        } else {
            prop_assert_eq!(steps, whole);
        }
    }

    #[test]
    fn no_bytes_panic_or_never_end(
        bytes in prop::collection::vec(any::<u8>(), 0..80), bounds in small(), piece in 1_usize..20,
    ) {
        let whole = at_once(Endpoint::ChatCompletions, &bytes);
        let (steps, _) = in_steps(Endpoint::ChatCompletions, &bytes, &[piece], 100, bounds);
        prop_assert_eq!(steps.is_faulty, whole.is_faulty);
    }
}

/// Large bodies of every kind: none of their steps is long, whatever a client does.
#[test]
fn no_step_does_much_work() {
    let chat =
        |content: &Value| json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}]});
    let words = "many words ".repeat(200_000);
    let picture =
        format!("data:image/png;base64,{}", "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB".repeat(60_000));
    let image = json!({"type": "image_url", "image_url": {"url": picture}});
    let messages: Vec<_> = (0..30_000).map(|n| json!({"role": "user", "content": format!("{n}")})).collect();
    let parts: Vec<_> = (0..4_000).map(|n| json!({"type": "text", "text": format!("part {n}")})).collect();
    let plain = chat(&json!(words)).to_string();
    for (what, bytes) in [
        ("a long text", plain.clone().into_bytes()),
        ("a text of escapes", chat(&json!("\n\"\\\u{1}".repeat(300_000))).to_string().into_bytes()),
        ("images", chat(&json!([image, image])).to_string().into_bytes()),
        ("many messages", json!({"model": "gpt-4o", "messages": messages}).to_string().into_bytes()),
        ("many parts", chat(&json!(parts)).to_string().into_bytes()),
        (
            "documents",
            json!({"model": "gpt-4o", "messages": [], "documents": messages}).to_string().into_bytes(),
        ),
        ("white space", plain.replacen(':', &format!(":{}", " ".repeat(2 << 20)), 1).into_bytes()),
        ("UTF-16", plain.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("open arrays", "[".repeat(2 << 20).into_bytes()),
        ("open arrays after a request", format!("{plain}{}", "[".repeat(2 << 20)).into_bytes()),
        ("garbage", vec![0xFF; 2 << 20]),
    ] {
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
            let (steps, hardest) = in_steps(endpoint, &bytes, &[PIECE], STEP_WORK, Bounds::USUAL);
            let whole = at_once(endpoint, &bytes);
            assert_eq!(steps.is_faulty, whole.is_faulty, "{what}");
            assert!(steps.is_faulty || steps == whole, "{what}: {steps:?}, not {whole:?}");
            assert!(hardest <= 2 * STEP_WORK + 10, "{what}: {hardest}");
        }
    }
    for bytes in [
        format!("{{\"model\":{}}}", "7".repeat(2 << 20)),
        format!("{{model:{}}}", "x".repeat(2 << 20)),
        chat(&json!(vec![json!([1, 2, 3, 4]); 200_000])).to_string(),
    ] {
        let (steps, hardest) =
            in_steps(Endpoint::ChatCompletions, bytes.as_bytes(), &[PIECE], STEP_WORK, Bounds::USUAL);
        // It is charged as the most that it could be.
        assert!(steps.is_faulty && hardest <= 4 * STEP_WORK, "{hardest}");
    }
}
