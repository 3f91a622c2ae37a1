use super::*;
use crate::codec::lenient;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

fn index(json: &str, piece: usize, long: usize) -> Result<Indexed, String> {
    let mut indexing = Indexing::with(json.len(), long, long);
    let mut rest = json;
    while !rest.is_empty() {
        let cut = (piece.min(rest.len())..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap();
        let (first, after) = rest.split_at(cut);
        if indexing.push(first).is_err() {
            return Err(indexing.into_text() + after);
        }
        rest = after;
    }
    indexing.finish()
}

/// Strings and the shape of a value, without the values of numbers.
fn shape(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::Array(elements) => elements.iter().map(shape).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shape(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zé\u{1F600}\"\\\\\n\u{1}/,:\\]}]{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a-c\"é\n]{0,12}", inner, 0..5)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// The same JSON with its characters escaped: `some` of them.
fn escaped(json: &str, some: usize) -> String {
    let mut at = 0;
    let mut out = String::new();
    for c in json.chars() {
        at += 1;
        // Outside strings all is ASCII.
        if !c.is_ascii() && at % some == 0 {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

proptest! {
    #[test]
    fn a_walk_reads_what_serde_json_reads(
        value in value(), piece in 1_usize..40, long in 1_usize..60, pretty: bool, some in 1_usize..4,
    ) {
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let json = escaped(&json.unwrap(), some);
        let indexed = index(&json, piece, long).unwrap();
        let mut walk = Walk::new(&indexed, 0, usize::MAX);
        prop_assert_eq!(Value::deserialize(&mut walk).unwrap(), shape(&value));
        prop_assert_eq!((walk.at(), walk.peek()), (json.len(), None));
        let mut walk = Walk::new(&indexed, 0, usize::MAX);
        prop_assert_eq!(<&RawValue>::deserialize(&mut walk).unwrap().get(), json.trim());
        let mut walk = Walk::new(&indexed, 0, usize::MAX);
        walk.skip();
        prop_assert_eq!(walk.at(), json.len());
    }

    #[test]
    fn what_is_strict_here_is_json(
        text in prop_oneof![
            r#"[\[\]{},:"a0-9.eE+\\u\-tfnl \n\x01]{0,12}"#,
            r#"[{\["]?(true|false|null|-?[0-9]{1,3}|"a(\\\\|\\n|\\ud83d|\\ude00|\\x|b)*"|[,:\]} ]){0,8}"#,
        ],
        piece in 1_usize..6,
        long in 1_usize..6,
    ) {
        let whole = index(&text, text.len().max(1), long);
        prop_assert_eq!(&index(&text, piece, long), &whole);
        let is_json = serde_json::from_str::<Value>(&text);
        // Numbers that no double holds are JSON for whoever does not read them.
        let is_out_of_range = |fault: serde_json::Error| fault.to_string().contains("out of range");
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok()
            && is_json.map_or_else(is_out_of_range, |_| true);
        prop_assert_eq!(whole.is_ok(), is_json, "{}", text);
    }

    #[test]
    fn an_array_may_be_read_in_parts(
        texts in prop::collection::vec("[a-z\"é]{0,20}", 1..20), enough in 1_usize..60, long in 1_usize..30,
    ) {
        let json = serde_json::to_string(&BTreeMap::from([("name", &texts)])).unwrap();
        let indexed = index(&json, 7, long).unwrap();
        let (mut at, mut read, mut parts) = (json.find('[').unwrap() + 1, Vec::<String>::new(), 0);
        loop {
            let mut walk = Walk::new(&indexed, at, usize::MAX);
            let mut elements = Elements::new(&mut walk, enough);
            let before = read.len();
            lenient::offer(&mut &mut elements, &mut read).unwrap();
            parts += 1;
            let has_ended = elements.has_ended();
            prop_assert!(has_ended || read.len() > before);
            at = walk.at();
            if has_ended {
                break;
            }
        }
        prop_assert!(parts <= texts.len() + 1);
        prop_assert_eq!(read, texts);
    }
}

impl<'b> lenient::Accept<'b> for Vec<String> {
    fn string(&mut self, text: std::borrow::Cow<'b, str>) {
        self.push(text.into_owned());
    }

    fn element<A: serde::de::SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }
}

#[test]
fn strings_are_found_where_they_are() {
    let json = r#"["short","long but plain","long \u00e9scape", "a\tb"]"#;
    let indexed = index(json, 3, 12).unwrap();
    let mut read: Vec<std::borrow::Cow<'_, str>> = Vec::new();
    let mut walk = Walk::new(&indexed, 1, usize::MAX);
    let mut elements = Elements::new(&mut walk, usize::MAX);
    struct Texts<'r, 'b>(&'r mut Vec<std::borrow::Cow<'b, str>>);
    impl<'b> lenient::Accept<'b> for Texts<'_, 'b> {
        fn string(&mut self, text: std::borrow::Cow<'b, str>) {
            self.0.push(text);
        }
        fn element<A: serde::de::SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
            lenient::offer_element(array, self)
        }
    }
    lenient::offer(&mut &mut elements, &mut Texts(&mut read)).unwrap();
    let found: Vec<_> = read.iter().map(|text| indexed.find(text)).collect();
    assert_eq!(found[0], Some(Found::In(2..7)));
    assert_eq!(found[1], Some(Found::In(10..24)));
    assert_eq!(found[2], Some(Found::Unescaped(0..12)));
    assert_eq!(found[3], None, "it is a copy");
    assert_eq!(indexed.get(found[2].as_ref().unwrap()), "long \u{e9}scape");
    assert_eq!(indexed.get(found[1].as_ref().unwrap()), "long but plain");
}

#[test]
fn a_walk_reads_no_more_than_it_may() {
    let json = serde_json::to_string(&vec!["x".repeat(10); 100]).unwrap();
    let indexed = index(&json, 100, 50).unwrap();
    assert!(Value::deserialize(&mut Walk::new(&indexed, 0, 100)).is_err());
    assert!(Value::deserialize(&mut Walk::new(&indexed, 0, json.len())).is_ok());
    // What is skipped as a whole is long.
    assert!(serde::de::IgnoredAny::deserialize(&mut Walk::new(&indexed, 0, 100)).is_ok());
}

#[test]
fn values_nested_too_deep_are_not_strict() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(index(&nested(MAX_DEPTH), 9, 9).is_ok());
    assert!(index(&nested(MAX_DEPTH + 1), 9, 9).is_err());
}
