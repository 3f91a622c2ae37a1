//! The official clients of OpenAI see the same streams and errors with the filter as without, whether or not the
//! upstream lets itself be asked for usage.

use crate::clients::{PYTHON, run};
use crate::gateway::{Gateway, Store, strangers};
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::python("python", PYTHON, "python/openai_stream_usage.py")]
#[case::node("node", "node", "node/openai_stream_usage.mjs")]
#[tokio::test]
async fn clients_see_no_difference(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] interpreter: &str,
    #[case] script: &str,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let direct = format!("http://{}/v1", gateway.mock.address());
    let expected = run(interpreter, script, &[&direct, name]).await;
    gateway.mock.forget();
    let seen = run(interpreter, script, &[&gateway.envoy.url("/v1"), name]).await;
    for (call, expected) in expected.as_object().unwrap() {
        assert_eq!(&seen[call], expected, "{call}");
    }
    let received = gateway.mock.received();
    let asked = received.iter().filter(|received| {
        String::from_utf8_lossy(&received.body).contains("include_usage")
    });
    // Of each upstream but the failing one: chat, completions, and chat once more of the willing one and of none that
    // objects; the willing one is asked for another stream with options. The failing one is asked each time.
    assert_eq!(asked.count(), 4 + 3 * 2 + 3);
}
