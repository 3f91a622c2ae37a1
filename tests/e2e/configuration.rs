//! Envoy refuses a wrong configuration and says where it is wrong, and accepts a right one in every form.

use crate::caller::{Answer, hello_with};
use crate::gateway::{Gateway, Store};
use llm_rate_limit_tests::envoy::Setup;
use rstest::rstest;
use serde_json::{Value, json};

/// A setup that starts, for a test to break.
fn setup() -> Setup {
    Setup::configured(&[]).concurrency(1)
}

/// The filter's own tests cover the message of each mistake; these show some as an operator meets them.
#[rstest]
#[case::unknown_field(r#"{"plans": {"free": {"rpmm": 3}}}"#, "plans.free.rpmm: unknown field")]
#[case::no_such_plan(r#"{"keys": [{"key": "a", "plan": "gold"}]}"#, "keys[0].plan: expected")]
#[case::cut_off(r#"{"plans": "#, "configuration: expected")]
fn envoy_refuses_a_wrong_configuration_and_says_where(#[case] text: &str, #[case] expected: &str) {
    let why = setup().filter_text(text).validate().unwrap_err();
    assert!(why.contains("the configuration is refused"), "{why}");
    assert!(why.contains(expected), "{why}");
    assert!(!why.contains("panicked"), "{why}");
}

#[test]
fn envoy_refuses_a_wrong_configuration_as_a_struct_too() {
    let why = setup().filter_struct(&json!({"plans": {"free": {"rpm": -1}}})).validate().unwrap_err();
    assert!(why.contains("plans.free.rpm: expected"), "{why}");
}

/// Without a configuration for the filter, Envoy must not start, because it would run without limits.
#[test]
fn envoy_refuses_a_filter_that_is_not_configured() {
    let mut setup = setup();
    setup.plugin().as_object_mut().unwrap().remove("configuration");
    let why = setup.validate().unwrap_err();
    assert!(why.contains("configuration: expected a configuration, found none"), "{why}");
}

#[rstest]
#[case::text(|setup: Setup, limits: &Value| setup.filter(limits))]
#[case::structured(|setup: Setup, limits: &Value| setup.filter_struct(limits))]
#[tokio::test]
async fn every_form_of_a_configuration_does_the_same(#[case] form: fn(Setup, &Value) -> Setup) {
    let limits = json!({
        "store": {"type": "local", "max_identities": 100},
        "identity": [{"header": "x-api-key"}, {"header": "authorization"}],
        "plans": {"free": {"rpm": 3, "models": {"gpt-4*": {"rpm": 1}}, "windows": [
            {"metric": "input_tokens", "limit": 5000, "window": "1h", "segments": 30}
        ]}},
        "keys": [{"key": "formed", "name": "形", "plan": "free", "output_tpm": 700}],
        "default": "reject",
        "output_reservation": {"default_tokens": 300, "mode": "declared"},
        "rejection": {"message": "{name}: {limit}"},
    });
    let gateway = Gateway::start_with(Store::Local, |setup| form(setup, &limits)).await;
    let caller = gateway.caller("formed");
    let send = async |model: &str| Answer::to(caller.chat(&hello_with(json!({"model": model})))).await;
    let first = send("gpt-4o").await;
    assert_eq!((first.status, first.number("x-ratelimit-limit-requests")), (200, 1));
    assert_eq!(first.number("x-ratelimit-limit-input-tokens"), 5000);
    assert_eq!(first.number("x-ratelimit-remaining-output-tokens"), 400);
    let refused = send("gpt-4o").await;
    assert_eq!((refused.status, refused.message()), (429, "形: 1".to_owned()));
    assert_eq!(send("o3").await.number("x-ratelimit-remaining-requests"), 1);
    assert_eq!(gateway.caller("stranger").hello().await.status, 401);
}
