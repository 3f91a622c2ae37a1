//! What holds of every body, whatever is in it.

use super::*;
use proptest::prelude::*;

/// JSON of any shape, with names that have a meaning.
fn value() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "model",
        "messages",
        "role",
        "content",
        "name",
        "type",
        "text",
        "image_url",
        "url",
        "detail",
        "tools",
        "functions",
        "function",
        "custom",
        "format",
        "grammar",
        "definition",
        "parameters",
        "properties",
        "items",
        "enum",
        "description",
        "tool_calls",
        "arguments",
        "input_audio",
        "data",
        "file",
        "file_data",
        "source",
        "media_type",
        "file_id",
        "system",
        "input_schema",
        "thinking",
        "input",
        "output",
        "summary",
        "action",
        "instructions",
        "prompt",
        "variables",
        "suffix",
        "response_format",
        "json_schema",
        "schema",
        "documents",
        "document",
        "query",
        "texts",
        "inputs",
        "images",
        "image",
        "context",
        "options",
        "num_predict",
        "max_tokens",
        "n",
        "best_of",
        "stream",
        "stream_options",
        "include_usage",
        "other",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "text",
            "image",
            "base64",
            "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAB4AAAAQ4"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(names.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The least that any body costs: completions and embeddings of nothing cost nothing, and every chat has a reply.
fn least(endpoint: Endpoint) -> u64 {
    let may_be_nothing = [
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::GeminiEmbeddings,
        Endpoint::OllamaGenerate,
        Endpoint::CohereEmbed,
        Endpoint::Rerank,
    ];
    u64::from(!may_be_nothing.contains(&endpoint))
}

/// Those whose bodies have a format.
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

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop::sample::select(ENDPOINTS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_json_is_read(body in value(), endpoint in endpoint()) {
        let bytes = body.to_string().into_bytes();
        let body = Body::new(&bytes);
        let request = Request::read(endpoint, &body);
        prop_assert_eq!(request.fault.is_none(), request.objects > 0);
        prop_assert!(count(&request, tokenizer(None)) >= least(endpoint));
    }

    #[test]
    fn a_body_that_is_cut_off_or_changed_is_charged(
        body in value(),
        endpoint in endpoint(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = body.to_string().into_bytes();
        let at = at.index(bytes.len());
        let least = least(endpoint);
        prop_assert!(read_at(endpoint, &bytes[..=at]).0 >= least);
        bytes[at] = byte;
        prop_assert!(read_at(endpoint, &bytes).0 >= least);
    }

    #[test]
    fn text_is_counted_in_any_place(texts in prop::collection::vec("\\PC{0,20}", 0..6)) {
        let tokenizer = tokenizer(Some("gpt-4o"));
        let expected: u64 = texts.iter().map(|text| tokenizer.count(text)).sum();
        let messages: Vec<_> = texts.iter().map(|text| json!({"content": text})).collect();
        let parts: Vec<_> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
        let apart = input_tokens(&json!({"model": "gpt-4o", "messages": messages}));
        let together = input_tokens(&json!({"model": "gpt-4o", "messages": [{"content": parts}]}));
        prop_assert_eq!(together, 3 + expected + 3);
        if !texts.is_empty() {
            prop_assert_eq!(apart, 3 * texts.len() as u64 + expected + 3);
        }
    }
}

/// Whatever member a request has in itself, time and again, the stack of who reads it suffices.
#[test]
fn no_member_in_itself_exhausts_the_stack() {
    const NAMES: [&str; 30] = [
        "model",
        "fallbacks",
        "content",
        "tools",
        "function",
        "parameters",
        "properties",
        "items",
        "format",
        "response_format",
        "schema",
        "input",
        "source",
        "stop",
        "stream_options",
        "reasoning",
        "thinking",
        "google",
        "extra_body",
        "chat_template_kwargs",
        "documents",
        "document",
        "query",
        "texts",
        "inputs",
        "images",
        "image_url",
        "context",
        "options",
        "messages",
    ];
    let read = std::thread::Builder::new().stack_size(1024 * 1024).spawn(|| {
        for name in NAMES {
            let deep = format!("{}0{}", format!("{{\"{name}\":").repeat(4_000), "}".repeat(4_000));
            let tool = format!(r#"{{"tools":[{{"function":{{"name":"f","parameters":{deep}}}}}]}}"#);
            let lists = format!("{{\"{name}\":{}0{}}}", "[".repeat(40_000), "]".repeat(40_000));
            for endpoint in ENDPOINTS {
                for body in [&deep, &tool, &lists] {
                    read_at(endpoint, body.as_bytes());
                }
            }
        }
    });
    read.unwrap().join().unwrap();
}
