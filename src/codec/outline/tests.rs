//! Outlines of whole documents, of parts, and of documents that are meant to be hard to outline.

use super::*;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

const PLACES: Places = Places {
    vital: &["usage", "response.usage", "choices.usage"],
    others: &["type", "error", "choices.index", "response.status"],
};

fn outline(chunks: &[&[u8]]) -> String {
    let mut outline = Outline::new(PLACES);
    for chunk in chunks {
        outline.push(chunk);
    }
    String::from_utf8(outline.finish()).unwrap()
}

#[test]
fn members_are_kept_by_their_places() {
    for (document, expected) in [
        (r#"{"a":1,"usage":{"b":[1,{"c":"}"}]},"x":"usage"}"#, r#"{"usage":{"b":[1,{"c":"}"}]}}"#),
        (r#" { "type" : "t" , "usage" : null } "#, r#"{"type":"t","usage":null}"#),
        (
            r#"{"type":"t","response":{"id":1,"usage":2,"output":[{"usage":3}],"status":"s"}}"#,
            r#"{"type":"t","response":{"usage":2,"status":"s"}}"#,
        ),
        (
            r#"{"choices":[{"index":0,"delta":{}},{},4,"x",[{"usage":5}],{"usage":{}}]}"#,
            r#"{"choices":[{"index":0},{"usage":{}}]}"#,
        ),
        (
            r#"{"response":"usage","choices":{"usage":1},"us\u0061ge":4}"#,
            r#"{"choices":{"usage":1},"usage":4}"#,
        ),
        (r#"{"response.usage":1,"a\"usage":2,"Usage":3,"":4}"#, "{}"),
        (r#"[{"usage":1},{"usage":2},3]"#, r#"[{"usage":1},{"usage":2}]"#),
        (r#"{"usage":1}{"usage":2}"#, r#"{"usage":1}"#),
        (r#"{"usage":{"a":1"#, r#"{"usage":null}"#),
        (r#"{"response":{"usage":7,"status"#, r#"{"response":{"usage":7}}"#),
        (r#"{"error":"a\"b,}","type":-1.5e3}"#, r#"{"error":"a\"b,}","type":-1.5e3}"#),
        ("\u{FEFF}{\"usage\":7}", r#"{"usage":7}"#),
        (r#""usage":1"#, ""),
        ("", ""),
    ] {
        assert_eq!(outline(&[document.as_bytes()]), expected, "{document}");
        let bytes: Vec<&[u8]> = document.as_bytes().chunks(1).collect();
        assert_eq!(outline(&bytes), expected, "{document}, byte by byte");
    }
}

#[test]
fn values_are_watched_until_one_is_enough() {
    let mut seen = Vec::new();
    let mut outline = Outline::new(PLACES);
    let document = br#"{"type":"a","usage":1,"response":{"usage":2,"status":3},"usage":4}"#;
    outline.push_and_watch(document, |path, value| {
        seen.push(format!("{path}={}", String::from_utf8_lossy(value)));
        path == "response.usage"
    });
    assert_eq!(seen, ["type=\"a\"", "usage=1", "response.usage=2"]);
}

#[test]
fn an_outline_has_a_maximum() {
    let choice = |index: usize| json!({"index": index, "delta": "x".repeat(50)});
    let choices: Vec<Json> = (0..20_000).map(choice).collect();
    let large = "x".repeat(MAX_VITAL_BYTES);
    let document = json!({"choices": choices, "type": large, "usage": {"a": 1}});
    let outlined = outline(&[document.to_string().as_bytes()]);
    assert!(outlined.len() < MAX_BYTES, "{}", outlined.len());
    let outlined: Json = serde_json::from_str(&outlined).unwrap();
    assert_eq!((&outlined["usage"]["a"], &outlined["choices"][5]["index"]), (&json!(1), &json!(5)));

    let repeated = r#""usage":{"a":1},"response":{"usage":7},"#.repeat(50_000);
    assert!(outline(&[format!("{{{repeated}").as_bytes()]).len() < MAX_BYTES + 100);
    let large = json!({"usage": large, "type": "t"}).to_string();
    assert_eq!(outline(&[large.as_bytes()]), r#"{"type":"t","usage":true}"#);
    let deep = format!(r#"{{"x":{},"usage":1}}"#, "[".repeat(1 << 20) + &"]".repeat(1 << 20));
    assert_eq!(outline(&[deep.as_bytes()]), r#"{"usage":1}"#);
}

/// What the outline of `document` must be, by a whole parse.
fn expected(document: &Map<String, Json>) -> Json {
    let pick = |object: &Map<String, Json>, names: &[&str]| -> Map<String, Json> {
        let wanted = object.iter().filter(|(name, _)| names.contains(&name.as_str()));
        wanted.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut kept = pick(document, &["usage", "type", "error"]);
    for (name, names) in [("response", ["usage", "status"]), ("choices", ["usage", "index"])] {
        match document.get(name) {
            Some(Json::Object(object)) => drop(kept.insert(name.into(), pick(object, &names).into())),
            Some(Json::Array(array)) => {
                let elements = array.iter().filter_map(Json::as_object).map(|object| pick(object, &names));
                let elements: Vec<Json> = elements.filter(|kept| !kept.is_empty()).map(Json::from).collect();
                kept.insert(name.into(), elements.into());
            }
            _ => {}
        }
    }
    kept.into()
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[\\PC\"\\\\{}\\[\\],:]{0,8}".prop_map(Json::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::hash_map("usage|index|status|[a-c\"{]{0,3}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn agrees_with_a_whole_parse(
        members in prop::collection::vec(
            (prop::sample::select(vec!["usage", "response", "choices", "type", "error", "a\"", "é\\"]), json()),
            0..6,
        ),
        is_pretty in any::<bool>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let object: Map<_, _> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let document = if is_pretty {
            serde_json::to_string_pretty(&object).unwrap()
        } else {
            serde_json::to_string(&object).unwrap()
        };
        let whole = outline(&[document.as_bytes()]);
        prop_assert_eq!(serde_json::from_str::<Json>(&whole).unwrap(), expected(&object));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(document.len() + 1)).collect();
        cuts.extend([0, document.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|cut| &document.as_bytes()[cut[0]..cut[1]]).collect();
        let bytes: Vec<_> = document.as_bytes().chunks(1).collect();
        prop_assert_eq!(&outline(&parts), &whole);
        prop_assert_eq!(&outline(&bytes), &whole);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), open in any::<bool>()) {
        let bytes = if open { [b"{\"usage\":", bytes.as_slice()].concat() } else { bytes };
        let mut outline = Outline::new(PLACES);
        outline.push(&bytes);
        outline.finish();
    }
}
