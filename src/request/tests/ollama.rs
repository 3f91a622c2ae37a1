//! Requests to Ollama's own API.

use super::*;

/// The tokens of a request to `endpoint` with this body.
fn input(endpoint: Endpoint, body: &Value) -> u64 {
    input_tokens_for("llama3.2", endpoint, body)
}

#[test]
fn a_chat_is_its_messages_and_no_option_counts() {
    let hello = json!([{"role": "user", "content": "Hello!"}]);
    let plain = input(Endpoint::OllamaChat, &json!({"messages": hello}));
    for (name, value) in [
        ("format", json!({"type": "object", "properties": {"a long name": {"type": "string"}}})),
        ("keep_alive", json!("five long minutes")),
        ("options", json!({"stop": ["a long stop sequence"], "temperature": 0.5})),
        ("think", json!("high")),
        ("stream", json!(false)),
    ] {
        assert_eq!(input(Endpoint::OllamaChat, &json!({"messages": hello, name: value})), plain, "{name}");
    }
    let call = |arguments: Value| json!({"function": {"name": "f", "arguments": arguments}});
    let with_call = |call: Value| {
        let messages =
            json!([{"role": "user", "content": "Hello!"}, {"role": "assistant", "tool_calls": [call]}]);
        input(Endpoint::OllamaChat, &json!({"messages": messages}))
    };
    let arguments = json!({"city": "a town of many words"});
    assert_eq!(with_call(call(arguments.clone())), with_call(call(arguments.to_string().into())));
    assert!(with_call(call(arguments)) > with_call(call(json!(""))) + 5);
}

#[test]
fn images_are_bare_data() {
    let pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";
    let of = |images: Value| {
        let messages = json!([{"role": "user", "content": "Hello!", "images": images}]);
        input(Endpoint::OllamaChat, &json!({"messages": messages}))
    };
    let image = of(json!([pixel])) - of(json!([]));
    assert!(image > 0);
    assert_eq!(of(json!([pixel, pixel])) - of(json!([])), 2 * image);
    let generate =
        |images: Value| input(Endpoint::OllamaGenerate, &json!({"prompt": "Hello!", "images": images}));
    assert_eq!(generate(json!([pixel])) - generate(json!([])), image);
}

#[test]
fn a_generation_is_its_prompt_and_what_is_around_it() {
    let of = |body: Value| input(Endpoint::OllamaGenerate, &body);
    assert_eq!(of(json!({"prompt": "Hello!"})), tokens_of("Hello!"));
    assert_eq!(of(json!({"prompt": "Hello!", "context": [1, 2, 3], "raw": true})), tokens_of("Hello!") + 3);
    let around =
        json!({"prompt": "Hello!", "system": "Be kind.", "template": "T {{ .Prompt }}", "suffix": "Bye"});
    assert_eq!(
        of(around),
        ["Hello!", "Be kind.", "T {{ .Prompt }}", "Bye"].map(tokens_of).iter().sum::<u64>()
    );
}

#[test]
fn the_cap_is_an_option_and_none_if_it_is_negative() {
    for endpoint in [Endpoint::OllamaChat, Endpoint::OllamaGenerate] {
        for (body, expected) in [
            (json!({"options": {"num_predict": 30}}), (Some(30), false)),
            (json!({"options": {"num_predict": -1}}), (None, true)),
            (json!({"options": {"num_predict": -2}}), (None, true)),
            (json!({"options": {"Num_Predict": 30}}), (Some(30), true)),
            (json!({"num_predict": 30, "max_tokens": 30}), (None, true)),
            (json!({}), (None, true)),
        ] {
            let text = body.to_string();
            let read = Body::new(text.as_bytes());
            let Cap { tokens, is_doubtful } = Request::read(endpoint, &read).output_cap();
            assert_eq!((tokens, is_doubtful), expected, "{body}");
        }
    }
}

#[test]
fn an_answer_is_a_stream_unless_the_request_wants_none() {
    for (body, expected) in [
        ("{}", true),
        (r#"{"stream":null}"#, true),
        (r#"{"stream":true}"#, true),
        (r#"{"stream":false}"#, false),
    ] {
        let read = Body::new(body.as_bytes());
        assert_eq!(Request::read(Endpoint::OllamaChat, &read).stream, expected, "{body}");
    }
}

#[test]
fn a_cap_is_lowered_or_added_among_the_options() {
    let models = Candidates::UNKNOWN;
    for (body, expected) in [
        (json!({"model": "m"}), json!({"model": "m", "options": {"num_predict": 9}})),
        (json!({"options": {"seed": 1}}), json!({"options": {"seed": 1, "num_predict": 9}})),
        (json!({"options": {"num_predict": -1}}), json!({"options": {"num_predict": 9}})),
        (json!({"options": {"num_predict": 5}}), json!({"options": {"num_predict": 5}})),
    ] {
        let text = body.to_string();
        let read = Body::new(text.as_bytes());
        let output_cap = Some(Request::read(Endpoint::OllamaChat, &read).new_cap(9, &models));
        let members = NewMembers { include_usage: None, output_cap };
        let edit = members.edit(text.as_bytes()).unwrap();
        let mut edited = edit.with;
        edited.extend_from_slice(&text.as_bytes()[edit.replaced..]);
        let edited: Value = serde_json::from_slice(&edited).unwrap();
        assert_eq!(edited, expected, "{body}");
    }
}
