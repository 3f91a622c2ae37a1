//! What readers take for JSON, what none takes, and that every result is JSON.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn rewritten(text: &str) -> Rewritten {
    rewrite(text.as_bytes())
}

/// The documents in a text that some reader reads.
fn read(text: &str) -> Value {
    let Rewritten { json, fault } = rewritten(text);
    assert_eq!(fault, None, "{text}");
    serde_json::from_str(&json).unwrap_or_else(|why| panic!("{why}: {json} from {text}"))
}

#[test]
fn whatever_some_reader_reads_is_read() {
    for (text, expected) in [
        // Python's json, and PHP's, Perl's and Ruby's with their options.
        (r#"{"a":NaN,"b":[Infinity,-Infinity]}"#, json!({"a": null, "b": [null, null]})),
        ("{\"a\":\"x\ty\u{1}\"}", json!({"a": "x\ty\u{1}"})),
        (r#"{"a":"\ud83d"}"#, json!({"a": "\u{FFFD}"})),
        (r#"{"a":"\ud83d\ude00\ude00\ud83dx"}"#, json!({"a": "\u{1F600}\u{FFFD}\u{FFFD}x"})),
        // Gson's, which is lax by default.
        (")]}'\n{a:'b c',\"d\"=e;f=>TRUE}", json!({"a": "b c", "d": "e", "f": true})),
        ("{a:[1;2,,3] # one\n// two\n/* three * / */}", json!({"a": [1, 2, null, 3]})),
        (r#"{'it\'s':"a'b"}"#, json!({"it's": "a'b"})),
        (r#"{model:gpt-4o,b:"x"}"#, json!({"model": "gpt-4o", "b": "x"})),
        // Newtonsoft's, RapidJSON's, Jackson's.
        ("{\"a\":[1,2,],}", json!({"a": [1, 2]})),
        (
            "{\"a\":0x1F,\"b\":+7,\"c\":.5,\"d\":5.,\"e\":007}",
            json!({"a": 31, "b": 7, "c": 0.5, "d": 5, "e": 7}),
        ),
        ("{\"a\":undefined,\"b\":Null}", json!({"a": null, "b": null})),
        (r#"{"a\q":"\/\b\f\n\r\t"}"#, json!({"aq": "/\u{8}\u{C}\n\r\t"})),
        // JSON5.
        (r"{mod\u0065l:'\x41\v\0'}", json!({"model": "A\u{B}\0"})),
        ("{a:'one \\\nline'}", json!({"a": "one line"})),
        ("\u{FEFF}\u{A0}{\u{2028}}", json!({})),
    ] {
        assert_eq!(read(text), json!([expected]), "{text}");
    }
}

#[test]
fn all_documents_are_read_and_what_comes_after_the_first_is_no_fault() {
    for (text, expected) in [
        (r#"{"a":1}{"b":2}"#, json!([{"a": 1}, {"b": 2}])),
        ("{\"a\":1}\n[2]\n", json!([{"a": 1}, [2]])),
        (r#"null {"a":1}"#, json!([null, {"a": 1}])),
        (r#"{"a":1} and more: {"b":2}"#, json!([{"a": 1}, "and", "more"])),
        (r#"{"a":1}}"#, json!([{"a": 1}])),
        ("{\"a\":1}\0\0{", json!([{"a": 1}])),
        (r#"{"a":1}{"b":"#, json!([{"a": 1}, {"b": null}])),
        (r#"{"a":1} /* never"#, json!([{"a": 1}])),
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn what_no_reader_reads_is_a_fault_with_its_place() {
    for (text, expected, fault) in [
        ("", json!([]), "expected a JSON object, found the end at line 1, column 1"),
        ("\"text\" 7", json!(["text", 7]), "expected a JSON object, found the end at line 1, column 9"),
        ("model=gpt-4o", json!(["model"]), "expected a JSON object, found \":\" at line 1, column 6"),
        (
            "{\"a\":1,\n\"b\" 2}",
            json!([{"a": 1, "b": null}]),
            "expected \":\", found a word at line 2, column 5",
        ),
        ("{\"a\":}", json!([{"a": null}]), "expected a value, found \"}\" at line 1, column 6"),
        ("{\"a\" \"b\"}", json!([{"a": null}]), "expected \":\", found a string at line 1, column 6"),
        (
            "[1}",
            json!([[1]]),
            "expected \",\" or the end of an array or object, found \"}\" at line 1, column 3",
        ),
        (
            "[[1]",
            json!([[[1]]]),
            "expected \",\" or the end of an array or object, found the end at line 1, column 5",
        ),
        (
            "{\"a\":[\"é",
            json!([{"a": ["é"]}]),
            "expected \",\" or the end of an array or object, found the end",
        ),
        ("{\"mod", json!([{"mod": null}]), "expected \":\", found the end at line 1, column 6"),
        (
            "{\"a\":\"\\u12g\"}",
            json!([{"a": ""}]),
            "expected a value, found something else at line 1, column 11",
        ),
        // Readers differ on where this comment ends.
        (
            "{//\r/*\n\"a\":1,/**/}",
            json!([{}]),
            "expected a member's name or \"}\", found something else at line 1",
        ),
        (
            "{//\u{2028}\"a\":1\n}",
            json!([{}]),
            "expected a member's name or \"}\", found something else at line 1",
        ),
        ("<html>", json!(["<html>"]), "expected a JSON object, found the end"),
        (
            "{  \0}",
            json!([{}]),
            "expected a member's name or \"}\", found something else at line 1, column 4",
        ),
    ] {
        let rewritten = rewritten(text);
        assert!(rewritten.fault.unwrap().to_string().starts_with(fault), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&rewritten.json).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_too_deep_is_its_text() {
    let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
    let whole = nested(MAX_DEPTH - 1, "7");
    assert_eq!(rewritten(&whole).json, format!("[{whole}]"));
    let deep = nested(MAX_DEPTH + 1, r#"{"a\"b":'\n'},TRUE"#);
    let expected = nested(MAX_DEPTH, r#""[[{\"a\\\"b\":\"\\n\"},true]]""#);
    assert_eq!(rewritten(&deep).json, expected);
    let far = nested(3_000_000, "");
    let Rewritten { json, fault } = rewritten(&far);
    assert_eq!((json.len(), fault), (far.len() + 4, None));
    let unclosed = rewritten(&"{\"a\":[".repeat(100_000));
    assert!(unclosed.fault.is_some());
    assert!(serde_json::from_str::<Value>(&unclosed.json).is_ok());
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", ";", "=", "=>", "\"", "'", "\\", "\\u", "\\ud83d", "\\x4", "0041", "/", "*",
            "#", "\n", " ", "a", "model", "true", "NaN", "-1.5e3", "0x1f", ")]}'", "\0", "é", "\u{1}",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "[\"\\\\\n\u{1}/a]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_result_is_json_and_any_split_equals_the_whole(
        text in text(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut rewriter = Rewriter::default();
        rewriter.push(&text);
        let whole = rewriter.finish();
        prop_assert!(serde_json::from_str::<Value>(&whole.json).is_ok(), "{} from {}", whole.json, text);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.retain(|cut| text.is_char_boundary(*cut));
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut rewriter = Rewriter::default();
        for cut in cuts.windows(2) {
            rewriter.push(text.get(cut[0]..cut[1]).unwrap());
        }
        let parts = rewriter.finish();
        prop_assert_eq!(&parts.json, &whole.json);
        prop_assert_eq!(parts.fault.is_some(), whole.fault.is_some());
    }

    #[test]
    fn json_stays_what_it_is(value in value()) {
        let object = json!({"a": value});
        let documents: Value = serde_json::from_str(&rewritten(&object.to_string()).json).unwrap();
        prop_assert_eq!(documents, json!([object]));
    }
}
