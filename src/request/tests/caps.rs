//! The most output tokens that a request asks for.

use super::*;

#[test]
fn the_largest_cap_is_multiplied_by_the_choices() {
    for (members, cap) in [
        (r#""max_tokens":1,"max_completion_tokens":10000"#, Some(10_000)),
        (r#""max_completion_tokens":5,"n":3"#, Some(15)),
        (r#""max_tokens":7,"n":0"#, Some(7)),
        (r#""max_tokens":7,"n":"3""#, Some(21)),
        (r#""max_tokens":7,"n":-2"#, Some(7)),
        (r#""max_tokens":7,"N":3"#, Some(21)),
        (r#""max_tokens":7,"n":1e308"#, Some(MAX_EXACT)),
        (r#""max_tokens":1e999"#, Some(MAX_EXACT)),
        (r#""max_tokens":9007199254740993"#, Some(MAX_EXACT)),
        (r#""max_tokens":"7""#, Some(7)),
        (r#""max_tokens":"7""#, Some(7)),
        (r#""max_tokens":7.0"#, Some(7)),
        (r#""max_tokens":7.5"#, None),
        (r#""max_tokens":-5"#, None),
        (r#""max_tokens":"many""#, None),
        (r#""max_tokens":{"a":[1]}"#, None),
        (r#""max_tokens":true"#, None),
        (r#""max_tokens":null,"n":4"#, None),
        (r#""max_tokens":0"#, None),
        (r#""max_tokens":"0""#, None),
        (r#""max_tokens":9,"max_tokens":3"#, Some(9)),
        (r#""n_predict":-1"#, None),
    ] {
        let body = format!(r#"{{{members},"messages":[{{"role":"user","content":"hi"}}]}}"#);
        assert_eq!(read(body.as_bytes()), (8, cap), "{members}");
    }
}

#[test]
fn every_endpoint_has_its_own_names_of_the_cap() {
    let all = r#"{"max_tokens":1,"max_completion_tokens":2,"max_output_tokens":3,"n_predict":4}"#;
    for (endpoint, names, largest) in [
        (Endpoint::ChatCompletions, &["max_tokens", "max_completion_tokens", "n_predict"][..], Some(4)),
        (Endpoint::Completions, &["max_tokens", "n_predict"], Some(4)),
        (Endpoint::Messages, &["max_tokens"], Some(1)),
        (Endpoint::Responses, &["max_output_tokens"], Some(3)),
        (Endpoint::Embeddings, &[], Some(0)),
    ] {
        assert_eq!(read_at(endpoint, all.as_bytes()).1, largest, "{endpoint:?}");
        for name in
            ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "max_new_tokens"]
        {
            let none = (endpoint == Endpoint::Embeddings).then_some(0);
            let expected = if names.contains(&name) { Some(7) } else { none };
            assert_eq!(
                read_at(endpoint, format!("{{\"{name}\":7}}").as_bytes()).1,
                expected,
                "{endpoint:?} {name}"
            );
        }
    }
}

#[test]
fn a_cap_that_some_reader_may_not_find_is_doubtful() {
    let cap = |members: &str| {
        let body = format!("{{{members}}}");
        let body = Body::new(body.as_bytes());
        let Cap { tokens, is_doubtful } = Request::read(Endpoint::ChatCompletions, &body).output_cap();
        (tokens, is_doubtful)
    };
    for (members, expected) in [
        (r#""max_tokens":7"#, (Some(7), false)),
        (r#""max_tokens":7,"max_tokens":9"#, (Some(9), false)),
        (r#""max_tokens":7,"max_completion_tokens":null"#, (Some(7), false)),
        (r#""MAX_TOKENS":7"#, (Some(7), true)),
        (r#""max_tokens":7,"Max_Tokens":9"#, (Some(9), true)),
        (r#""max_tokens":7,"max_tokens":null"#, (Some(7), true)),
        (r#""max_tokens":0,"max_tokens":7"#, (Some(7), true)),
        (r#""max_tokens":7}{"messages":[]"#, (Some(7), true)),
    ] {
        assert_eq!(cap(members), expected, "{members}");
    }
}
