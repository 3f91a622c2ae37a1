//! Bodies that no honest client sends, each with a name for the message of a failing test.
//!
//! Most are not JSON, or not the JSON of the API. The others are, and their values make no sense or are far too large.

use serde_json::{Value, json};

/// All bodies with their names.
pub fn bodies() -> Vec<(String, Vec<u8>)> {
    let groups =
        [cut_off(), not_objects(), not_json(), not_text(), wrong_types(), numbers(), nested(), large()];
    groups.into_iter().flatten().collect()
}

/// A correct chat that uses a bit of everything.
fn chat() -> Value {
    json!({
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "name": "s", "content": "You are \"quoted\" \u{1F600}."},
            {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "max_tokens": 5,
    })
}

fn cut_off() -> Vec<(String, Vec<u8>)> {
    let whole = chat().to_string().into_bytes();
    let cut = |at: usize| (format!("cut off at {at}"), whole[..at].to_vec());
    // Also inside the bytes of the emoji.
    let emoji = whole.iter().position(|byte| *byte == 0xF0).unwrap();
    (1..whole.len()).step_by(23).chain([emoji + 1, emoji + 3]).map(cut).collect()
}

fn texts(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

fn not_objects() -> Vec<(String, Vec<u8>)> {
    texts(&[
        ("one space", " "),
        ("null", "null"),
        ("true", "true"),
        ("a number", "0"),
        ("a string", "\"messages\""),
        ("an empty array", "[]"),
        ("an array of chats", r#"[{"model": "gpt-4o", "messages": []}]"#),
        ("an empty object", "{}"),
        ("two objects", r#"{"model": "gpt-4o"}{"messages": [{"role": "user", "content": "Hello!"}]}"#),
    ])
}

fn not_json() -> Vec<(String, Vec<u8>)> {
    texts(&[
        ("a trailing comma", r#"{"model": "gpt-4o", "messages": [],}"#),
        ("something behind", r#"{"model": "gpt-4o", "messages": []} and more"#),
        ("single quotes", "{'model': 'gpt-4o', 'messages': []}"),
        ("a comment", r#"{"model": "gpt-4o" /* the best */, "messages": []}"#),
        ("names without quotes", r#"{model: "gpt-4o"}"#),
        ("no colon", r#"{"model" "gpt-4o"}"#),
        ("no value", r#"{"model":}"#),
        ("only closing", "}]}"),
        ("a form", "model=gpt-4o&messages=Hello%21"),
        ("events", "data: {\"model\": \"gpt-4o\"}\n\ndata: [DONE]\n\n"),
        ("markup", "<!DOCTYPE html><html><body>{</body></html>"),
        ("an unknown escape", r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "\x"}]}"#),
        ("half an escape", r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "\u12"}]}"#),
        ("not a number", r#"{"model": "gpt-4o", "messages": [], "n": NaN, "max_tokens": -Infinity}"#),
        ("a number too long for anything", &format!(r#"{{"messages": [], "n": {}}}"#, "9".repeat(5000))),
        ("repeated members", r#"{"model": "a", "n": 1, "messages": [], "n": 2, "messages": 3, "model": 4}"#),
        ("names in escapes", r#"{"\u006dodel": "gpt-4o", "\u006d\u0065ssages": [{"\u0072ole": "user"}]}"#),
        (
            "half a character in escapes",
            r#"{"messages": [{"role": "user", "content": "\ud83d and \udE00"}]}"#,
        ),
        (
            "a null in escapes",
            r#"{"model": "gpt\u00004o", "messages": [{"role": "\u0000", "content": "\u0000"}]}"#,
        ),
        (
            "special tokens",
            r#"{"messages": [{"role": "<|im_start|>", "content": "<|endoftext|><|im_sep|>"}]}"#,
        ),
    ])
}

fn not_text() -> Vec<(String, Vec<u8>)> {
    let inside = |bytes: &[u8]| {
        [br#"{"model": "gpt-4o", "messages": [{"role": "user", "content": ""#, bytes, br#""}]}"#].concat()
    };
    let utf16: Vec<u8> = chat().to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        // The generator of Numerical Recipes: any bytes will do, as long as every run has the same.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    [
        ("a byte order mark", [b"\xEF\xBB\xBF", chat().to_string().as_bytes()].concat()),
        ("UTF-16", utf16),
        ("nulls", vec![0; 1000]),
        ("a null in a string", inside(b"a\0b")),
        ("control characters in a string", inside(b"a\n\x01\x1b\x7fb")),
        ("bytes that are never UTF-8", inside(b"\xFF\xFE\xC0\xC1")),
        ("an overlong character", inside(b"\xE0\x80\xAF")),
        ("half a surrogate pair", inside(b"\xED\xA0\x80")),
        ("a character that ends too early", inside(b"\xF0\x9F\x98")),
        ("a character beyond Unicode", inside(b"\xF7\xBF\xBF\xBF")),
        ("a name that is not UTF-8", br#"{"mo\xFFdel": 1}"#.to_vec()),
        ("something compressed", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xcaM\xccKIM\x01".to_vec()),
        ("noise", noise.take(65_536).collect()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn wrong_types() -> Vec<(String, Vec<u8>)> {
    let wrong = [
        json!({"model": 4}),
        json!({"model": null}),
        json!({"model": ["gpt-4o"]}),
        json!({"model": ""}),
        json!({"messages": null}),
        json!({"messages": "Hello!"}),
        json!({"messages": {"role": "user"}}),
        json!({"messages": [null, 1, "two", [3], true]}),
        json!({"messages": [{}]}),
        json!({"messages": [{"role": 1, "content": 2, "name": 3}]}),
        json!({"messages": [{"role": null, "content": null}]}),
        json!({"messages": [{"role": "user", "content": {"text": "Hello!"}}]}),
        json!({"messages": [{"role": "user", "content": [1, null, "text", [], {}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text"}, {"text": 1, "type": "text"}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "unheard of", "unheard of": {}}]}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 7}]}]}),
        json!({"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo", "detail": "?"}}
        ]}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": "none", "function_call": []}]}),
        json!({"tools": "all", "functions": {}, "tool_choice": 0}),
        json!({"tools": [1, null, {"type": 1}, {"function": null}, {"function": {"name": [], "description": 2}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": [
            {"properties": 1}, {"enum": {}}
        ]}}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {
            "properties": {"a": 1, "b": {"enum": [1, null, {}], "type": ["x"], "items": 0}}, "required": 5
        }}}]}),
        json!({"stream": "yes", "stream_options": "all"}),
        json!({"stream": 1, "stream_options": [{"include_usage": 1}]}),
        json!({"stream_options": null}),
    ];
    let body = |members: &Value| {
        let mut chat = chat();
        chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        (members.to_string().chars().take(60).collect(), chat.to_string().into_bytes())
    };
    wrong.iter().map(body).collect()
}

fn numbers() -> Vec<(String, Vec<u8>)> {
    let numbers =
        ["0", "-1", "1e308", "-1e308", "1e400", "0.5", "99999999999999999999", "\"3\"", "[]", "null", "true"];
    let body = |number: &&str| {
        let body = format!(
            r#"{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "Hello!"}}], "n": {number},
                "max_tokens": {number}, "max_completion_tokens": {number}, "max_output_tokens": {number}}}"#
        );
        (format!("n and maxima of {number}"), body.into_bytes())
    };
    numbers.iter().map(body).collect()
}

fn nested() -> Vec<(String, Vec<u8>)> {
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let inside = |value: String| format!(r#"{{"model": "gpt-4o", "messages": {value}}}"#).into_bytes();
    [
        ("a hundred thousand arrays", deep("[", "]", 100_000).into_bytes()),
        ("a hundred thousand arrays that never end", "[".repeat(100_000).into_bytes()),
        ("a hundred thousand objects", deep("{\"a\":", "}", 100_000).into_bytes()),
        ("messages nested", inside(deep("[", "]", 50_000))),
        ("content nested", inside(format!(r#"[{{"role": "user", "content": {}}}]"#, deep("[", "]", 50_000)))),
        (
            "parts in parts",
            inside(format!(r#"[{{"content": {}}}]"#, deep("[{\"type\":\"text\",\"text\":", "}]", 30_000))),
        ),
        (
            "properties in properties",
            format!(
                r#"{{"messages": [], "tools": [{}{}}}}}]}}"#,
                r#"{"type": "function", "function": {"name": "f", "parameters": "#,
                deep("{\"type\":\"object\",\"properties\":{\"p\":", "}}", 30_000)
            )
            .into_bytes(),
        ),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn large() -> Vec<(String, Vec<u8>)> {
    let says = |text: &str| json!({"messages": [{"role": "user", "content": text}]}).to_string().into_bytes();
    let many = |one: &str, count: usize| vec![one; count].join(",");
    [
        ("a million spaces", vec![b' '; 1_000_000]),
        ("a million spaces before a chat", [vec![b' '; 1_000_000], chat().to_string().into_bytes()].concat()),
        ("a million spaces in a message", says(&" ".repeat(1_000_000))),
        ("a million line feeds in a message", says(&"\n".repeat(1_000_000))),
        ("other white space in a message", says(&"\u{a0}\u{3000}\u{2028}".repeat(100_000))),
        ("one word of 400,000 letters", says(&"a".repeat(400_000))),
        ("a string of ten megabytes", says(&"All work and no play. ".repeat(476_000))),
        ("a megabyte of emoji", says(&"\u{1F469}\u{200D}\u{1F680}".repeat(90_000))),
        ("a megabyte of accents on one letter", says(&("e".to_owned() + &"\u{301}".repeat(500_000)))),
        ("a megabyte of backslashes", says(&"\\".repeat(500_000))),
        (
            "a hundred thousand messages",
            format!(r#"{{"messages": [{}]}}"#, many(r#"{"role":"user","content":""}"#, 100_000)).into_bytes(),
        ),
        ("a hundred thousand members", format!("{{{}}}", many(r#""a":0"#, 100_000)).into_bytes()),
        ("a name of a megabyte", format!(r#"{{"{}": 1}}"#, "model".repeat(200_000)).into_bytes()),
        (
            "a model of a megabyte",
            json!({"model": "gpt-4o".repeat(170_000), "messages": []}).to_string().into_bytes(),
        ),
        ("a number of a megabyte", format!(r#"{{"n": 1{}}}"#, "0".repeat(1_000_000)).into_bytes()),
        (
            "a string of a megabyte that never ends",
            format!(r#"{{"model": "{}"#, "x".repeat(1_000_000)).into_bytes(),
        ),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
