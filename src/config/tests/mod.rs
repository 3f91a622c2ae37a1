//! The meaning of good configurations, and the messages of bad ones: every file in `tests/data/config`.

mod claims;
mod page;
mod reference;
mod schema;

use super::*;
use crate::identity::{self, Place, Prefixes};
use crate::policy::endpoints::Treatment;
use crate::pricing::{Prices, Unpriced, Weights};
use crate::quantity::MAX_EXACT;
use crate::request::Endpoint;
use crate::tokens::{Counting, Encoding, Factor};
use proptest::prelude::*;
use prost::Message as _;
use prost_types::value::Kind;
use serde_json::{Value, json};
use std::fs;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

/// The files of one kind with their contents, by name.
fn files(kind: &str, extension: &str) -> BTreeMap<String, Vec<u8>> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/config").join(kind);
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeMap<_, _> = paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    assert!(!files.is_empty());
    files
}

/// `json` as the bytes of a `Struct`.
fn as_struct(json: &Value) -> Vec<u8> {
    fn convert(value: &Value) -> prost_types::Value {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(value) => Kind::BoolValue(*value),
            Value::Number(value) => Kind::NumberValue(value.as_f64().unwrap()),
            Value::String(value) => Kind::StringValue(value.clone()),
            Value::Array(values) => {
                Kind::ListValue(prost_types::ListValue { values: values.iter().map(convert).collect() })
            }
            Value::Object(_) => Kind::StructValue(fields(value)),
        };
        prost_types::Value { kind: Some(kind) }
    }
    fn fields(object: &Value) -> prost_types::Struct {
        let members = object.as_object().unwrap().iter();
        prost_types::Struct { fields: members.map(|(name, value)| (name.clone(), convert(value))).collect() }
    }
    fields(json).encode_to_vec()
}

fn good(name: &str) -> Config {
    Config::from_bytes(&files("good", "json")[name]).unwrap()
}

#[test]
fn every_bad_file_is_refused_with_its_message() {
    let messages = files("bad", "txt");
    let mut bad = files("bad", "json");
    bad.extend(files("bad", "yaml"));
    assert!(messages.keys().eq(bad.keys()), "every .json has its .txt, and every .txt its .json");
    for (name, bytes) in bad {
        let found = Config::from_bytes(&bytes).err().map(|error| format!("{error}\n")).unwrap_or_default();
        assert_eq!(found.as_bytes(), messages[&name], "{name}: found {found}");
    }
}

#[test]
fn a_bad_struct_has_the_same_message() {
    let messages = files("bad", "txt");
    for (name, bytes) in files("bad", "json") {
        // A `Struct` is always an object, and gives every member once.
        let object = serde_json::from_slice::<Value>(&bytes).ok().filter(Value::is_object);
        let Some(object) = object.filter(|_| !name.starts_with("duplicate_") && name != "key_twice_as_name")
        else {
            continue;
        };
        let error = Config::from_bytes(&as_struct(&object)).unwrap_err().to_string();
        let expected = std::str::from_utf8(&messages[&name]).unwrap();
        // The members of a `Struct` are in another order, and so are their problems.
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&error), sorted(expected), "{name}");
    }
}

#[test]
fn every_good_file_is_accepted_as_text_and_as_struct() {
    for (name, bytes) in files("good", "json") {
        let from_text = Config::from_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let from_struct = as_struct(&serde_json::from_slice(&bytes).unwrap());
        // An empty `Struct` is no bytes, which is no configuration.
        if !from_struct.is_empty() {
            assert_eq!(Config::from_bytes(&from_struct).unwrap(), from_text, "{name}");
        }
    }
}

#[test]
fn a_configuration_of_many_mistakes_is_refused_soon() {
    let keys: Vec<_> = (0..10_000).map(|at| json!({"key": format!("key-{at}"), "rmp": 5})).collect();
    let error = Config::from_bytes(json!({"keys": keys}).to_string().as_bytes()).unwrap_err();
    assert_eq!(error.problems().len(), 100);
}

#[test]
fn every_good_yaml_file_is_accepted_and_means_the_same_as_its_json() {
    let json = files("good", "json");
    for (name, yaml) in files("good", "yaml") {
        let config = Config::from_bytes(&yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(json) = json.get(&name) {
            assert_eq!(config, Config::from_bytes(json).unwrap(), "{name}");
        }
    }
}

#[test]
fn an_empty_object_limits_nobody() {
    let config = good("nothing_is_limited");
    let local = LocalStore { max_identities: NonZeroU32::new(65_536).unwrap() };
    assert_eq!(config.store(), &Store::Local(local));
    let headers = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];
    let headers = headers.map(|name| Place::Header(name.to_owned()));
    let others = [Place::Query("key".to_owned()), Place::ClientIp(Prefixes::default())];
    let places = headers.into_iter().chain(others);
    assert_eq!(config.sources, places.map(Source::from).collect::<Vec<_>>());
    assert_eq!(config.access(None), Access::Unlimited);
    assert_eq!(config.access(Some(&Identity::of_key("any"))), Access::Unlimited);
    assert!(!config.needs_tokens());
    let expected = Accounting {
        default_output_tokens: 512,
        output_mode: OutputMode::Learned,
        stream_usage: None,
        on_stream_over: OnStreamOver::Continue,
        refund_requests_on_error: false,
        accept_encoding: AcceptEncoding::Narrow,
        weights: Weights::default(),
        prices: Prices::default(),
    };
    assert_eq!(config.accounting(), &expected);
    assert_eq!(config.messages(), None);
    assert!(!config.dry_run());
    assert!(!config.meters() && !config.metrics_by_name());
    assert_eq!((config.max_waiting(), config.max_waiting_bytes()), (1000, 64 << 20));
    assert_eq!(config.headers_mode(), HeadersMode::Auto);
    assert_eq!(config.headers(), Headers::Auto);
    assert_eq!(config.encodings(), &Encodings::default());
}

#[test]
fn every_field_takes_effect() {
    let config = good("every_field");
    let Store::Redis(redis) = config.store() else { panic!("{config:?}") };
    assert_eq!(redis.cluster, "sidecar");
    assert_eq!(redis.timeout, Duration::from_secs(60));
    assert_eq!(redis.auth_token.as_ref().unwrap().expose(), "token-of-the-sidecar");
    let local = LocalStore { max_identities: NonZeroU32::new(1000).unwrap() };
    assert_eq!(redis.on_error, OnError::Local(Share { replicas: NonZeroU32::new(3).unwrap(), local }));
    assert_eq!(config.store().local(), Some(local));
    assert_eq!(&*config.namespace(), "staging");
    let claim = ["envoy.filters.http.jwt_authn", "payload", "sub"].map(str::to_owned).to_vec();
    assert_eq!(
        config.sources,
        [
            Source { place: Place::Header("x-api-key".to_owned()), known_only: true },
            Place::Metadata(claim).into(),
            Place::PathSegment(NonZeroUsize::new(2).unwrap()).into(),
            Place::Query("key".to_owned()).into(),
            Place::All(vec![
                Place::Constant("everybody".to_owned()),
                Place::ClientIp(Prefixes { ipv4: 24, ipv6: 56 })
            ])
            .into(),
            Place::ClientIp(Prefixes::default()).into(),
        ]
    );
    assert!(config.dry_run());
    assert!(config.meters() && config.metrics_by_name());
    assert_eq!((config.max_waiting(), config.max_waiting_bytes()), (0, 1 << 40));
    assert_eq!(config.headers_mode(), HeadersMode::HeadersFirst);
    let message = config.messages().unwrap().of(None).render(|placeholder| format!("{placeholder:?}"));
    assert_eq!(message, "{Name}: Limit Metric / Window; RetryAfter");
    assert_eq!(config.headers(), Headers::None);
    let inspect = config.inspect().unwrap();
    assert!(inspect.is_at("/llm-rate-limit") && inspect.admits("Bearer open-sesame"));
    assert!(config.needs_tokens());
    let encoding = |model| config.encodings().of(Some(model));
    let factor = Factor::new(1.15).unwrap();
    assert_eq!(encoding("llama-3"), Counting { encoding: Encoding::Cl100kBase, factor });
    let without_factor = |encoding| Counting { encoding, factor: Factor::ONE };
    assert_eq!(encoding("davinci"), without_factor(Encoding::R50kBase));
    assert_eq!(encoding("codex"), without_factor(Encoding::P50kBase));
    assert_eq!(encoding("gpt-4"), without_factor(Encoding::O200kBase));
}

#[test]
fn every_field_of_endpoints_takes_effect() {
    let config = good("every_field");
    assert_eq!(config.websocket(), WebSocket::Count);
    for (path, treatment, format) in [
        ("/a/b", Treatment::Format, Some(Endpoint::ChatCompletions)),
        ("/b", Treatment::Format, Some(Endpoint::Completions)),
        ("/any/c/", Treatment::Format, Some(Endpoint::Embeddings)),
        ("/d/and/e", Treatment::Format, Some(Endpoint::Responses)),
        ("/F", Treatment::Format, Some(Endpoint::Messages)),
        ("/g", Treatment::Count, None),
        ("/h", Treatment::Pass, None),
        ("/i", Treatment::Reject, None),
        ("/else", Treatment::Pass, None),
        ("/v1/responses", Treatment::Format, Some(Endpoint::Responses)),
    ] {
        let route = config.endpoints().route(path);
        assert_eq!(
            (route.treatment, Some(route.endpoint).filter(|e| e.has_format())),
            (treatment, format),
            "{path}"
        );
    }
    let default = good("nothing_is_limited");
    assert_eq!((default.websocket(), default.endpoints()), (WebSocket::Refuse, &Endpoints::default()));
}

#[test]
fn only_what_is_called_unlimited_is_exempt() {
    let exempts = |json: Value, key| {
        let config = Config::from_bytes(json.to_string().as_bytes()).unwrap();
        config.exempts(Some(&Identity::of_key(key)))
    };
    assert!(!exempts(json!({}), "any"));
    assert!(exempts(json!({"default": "unlimited"}), "any"));
    let keys = json!({"keys": [{"key": "free", "unlimited": true}, {"key": "paid", "rpm": 1}]});
    assert!(exempts(keys.clone(), "free") && !exempts(keys.clone(), "paid") && !exempts(keys, "any"));
}

#[test]
fn a_refusal_is_in_the_clients_language() {
    let config = good("dialects");
    let messages = config.messages().unwrap();
    assert!(messages.differ());
    let message = |accepted| messages.of(accepted).render(|_| "…".to_owned());
    assert_eq!(message(Some("zh-CN,zh;q=0.9,en;q=0.5")), "您的速度太快啦，请慢点！");
    assert_eq!(message(Some("de-AT, en;q=0.5")), "Zu schnell! … pro ….");
    assert_eq!(message(Some("fr")), "Slow down.");
    assert_eq!(message(None), "Slow down.");
    assert_eq!(config.headers(), Headers::Ietf);
}

#[test]
fn every_field_of_accounting_takes_effect() {
    let config = good("every_field");
    let accounting = config.accounting();
    assert_eq!((accounting.default_output_tokens, accounting.output_mode), (0, OutputMode::None));
    assert_eq!(accounting.stream_usage, Some(StreamUsage::Inject));
    assert_eq!(accounting.on_stream_over, OnStreamOver::Finish);
    assert!(accounting.refund_requests_on_error);
    assert_eq!(accounting.accept_encoding, AcceptEncoding::Keep);
    assert_eq!(config.on_unreadable(), OnUnreadable::Refuse);
    assert_eq!(config.prompt_estimates(), PromptEstimates::Learned);
    let weights = &accounting.weights;
    assert_eq!((weights.cached_input, weights.reasoning), (250_000, 10_000_000));
    let factors = ["o3", "gpt-4o", "llama"].map(|model| weights.models.of(Some(model)).copied());
    assert_eq!(factors, [1_000_000_000, 1_500_000, 0].map(Some));
    assert_eq!(accounting.prices.unpriced, Unpriced::Free);
    let price = |input, cached_input, cache_write, output| Price { input, cached_input, cache_write, output };
    let of = |model| config.price(Some(model)).copied();
    assert_eq!(of("gpt-4o-mini"), Some(price(2_500_000, 1_250_000, 2_500_000, 10_000_000)));
    assert_eq!(of("claude-4"), Some(price(3_000_000, 300_000, 3_750_000, 15_000_000)));
    assert_eq!(of("dear"), Some(price(1_000_000_000_000, 1_000_000_000_000, 1_000_000_000_000, 1)));
    assert_eq!((of("free"), of("gpt-5")), (Some(price(0, 0, 0, 0)), None));
}

#[test]
fn changing_the_store_is_changing_one_word() {
    let with_type = |kind: &str| {
        let mut json: Value = serde_json::from_slice(&files("good", "json")["redis_unused"]).unwrap();
        json["store"]["type"] = kind.into();
        Config::from_bytes(json.to_string().as_bytes()).unwrap()
    };
    assert!(matches!(with_type("local").store(), Store::Local(_)));
    let config = with_type("redis");
    let Store::Redis(redis) = config.store() else { panic!("{config:?}") };
    assert_eq!((redis.timeout, redis.on_error), (Duration::from_millis(20), OnError::Deny));
    assert_eq!(config.store().local(), None);
}

#[test]
fn tokens_are_counted_only_if_a_limit_needs_them() {
    let needs = |json: Value| Config::from_bytes(json.to_string().as_bytes()).unwrap().needs_tokens();
    assert!(!needs(json!({"plans": {"unused": {"tpm": 5}}, "default": {"rpm": 5}})));
    assert!(needs(json!({"plans": {"used": {"tpm": 5}}, "default": {"plan": "used"}})));
    assert!(needs(json!({"default": {"models": {"gpt-4*": {"tpd": 5}}}})));
    assert!(needs(json!({"keys": [{"key": "a", "input_tpm": 5}]})));
}

/// Configurations with every field that may be repeated or left out, most of them valid.
fn configurations() -> impl Strategy<Value = Value> {
    let amount = prop_oneof![0..=MAX_EXACT, Just(0), Just(MAX_EXACT)];
    let field = prop::sample::select(vec!["rpm", "rpd", "tpm", "tpd", "input_tpm", "output_tpm"]);
    let limits = prop::collection::btree_map(field, amount, 1..4);
    let models = prop::collection::btree_map("[a-z*]{1,4}", limits.clone(), 1..3);
    let windows = prop::collection::vec((1..1000_u32, 1..=MAX_EXACT, 1..=60_u32), 0..3).prop_map(|windows| {
        let windows = windows.into_iter().map(|(seconds, limit, segments)| {
            json!({"metric": "requests", "limit": limit, "window": format!("{seconds}s"), "segments": segments})
        });
        windows.collect::<Value>()
    });
    let plan = (limits.clone(), models, windows).prop_map(|(limits, models, windows)| {
        let mut plan = json!(limits);
        plan["models"] = json!(models);
        plan["windows"] = windows;
        plan
    });
    let plans = prop::collection::btree_map("[a-c]", plan, 0..3);
    let key = (prop::sample::select(vec!["a", "b", "c"]), limits).prop_map(|(plan, limits)| {
        let mut key = json!(limits);
        key["plan"] = plan.into();
        key
    });
    (plans, prop::collection::vec(key, 0..3), 0.0..2.0_f64).prop_map(|(plans, mut keys, factor)| {
        for (index, key) in keys.iter_mut().enumerate() {
            key["key"] = format!("key-{index}").into();
        }
        json!({"plans": plans, "keys": keys, "encodings": {"x*": {"encoding": "o200k_base", "factor": factor}}})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_struct_means_the_same_as_its_text(json in configurations()) {
        prop_assert_eq!(Config::from_bytes(&as_struct(&json)), Config::from_bytes(json.to_string().as_bytes()));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Config::from_bytes(&bytes);
        let _ = Config::from_bytes(&[&[0x0a], &bytes[..]].concat());
    }

    #[test]
    fn no_damage_panics(at in 0.0..1.0_f64, with in prop::collection::vec(any::<u8>(), 0..4), cut in 0..4_usize) {
        for text in files("good", "json").into_values() {
            for mut bytes in [as_struct(&serde_json::from_slice(&text).unwrap()), text] {
                let start = (bytes.len() as f64 * at) as usize;
                let end = (start + cut).min(bytes.len());
                bytes.splice(start..end, with.iter().copied());
                let _ = Config::from_bytes(&bytes);
            }
        }
    }

    #[test]
    fn no_yaml_shows_a_key(rest in "[ -~]{8,40}") {
        // A colon at its end would make it a field of the root, and errors name those.
        let key = &format!("sk-{}", rest.trim_end_matches([' ', ':']));
        for text in [
            format!("keys: {{{key}: !t x}}"), format!("keys:\n  {key}: !t x\n"),
            format!("keys:\n  {key}: {{? [a] : b}}"),
            format!("keys:\n  {key}: [\n"), format!("keys: *{key}"), format!("keys: &{key} [*{key}]"),
            format!("keys: !{key} x"), format!("%{key}\n"), key.clone(), format!("keys: \"{key}"),
            format!("keys:\n - key: {key}\n   rpm: {{}}"), format!("keys:\n - {key}: {key}\n - b: !x"),
            format!("keys:\n - key: !{key} {key}"), format!("keys:\n - {key}: {key}\n   {key}: {key}\n"),
        ] {
            let Err(error) = Config::from_bytes(text.as_bytes()) else { continue };
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains(key.as_str()), "{}", shown);
        }
    }

    #[test]
    fn no_key_is_shown(rest in "[ -~]{8,40}") {
        let key = &format!("sk-{}", rest.trim_end());
        let digest = Identity::of_key(key).id().to_string();
        for json in [
            json!({"keys": [{"key": key, "rpm": 5}], "store": {"auth_token": "token"}}),
            json!({"keys": [{"key": key, "rpm": -5}]}),
            json!({"keys": [{"key": key, "plan": "none"}]}),
            json!({"keys": [{"key": key, "rpm": 5}, {"key": key, "rpm": 5}]}),
            json!({"keys": [{"key": key, "rpm": 5}, {"key_sha256": digest, "rpm": 5}]}),
            json!({"keys": [{"key": format!("{key} "), "rpm": 5}]}),
            json!({"keys": [{"key": [key], "rpm": 5}]}),
            json!({"keys": [{"key_sha256": key, "rpm": 5}]}),
            json!({"keys": [{"key": key, "key_sha256": key, "rpm": 5}]}),
            json!({"keys": [{key: {"rpm": 5}}]}),
            json!({"keys": [key]}),
            json!({"keys": {key: {"rpm": 5}}}),
            json!({"keys": key}),
            json!({"hash_secret": key, "default": {"rpm": 5}}),
            json!({"hash_secret": key.get(..15), "default": {"rpm": 5}}),
            json!({"hash_secret": [key]}),
            json!({"store": {"auth_token": key}}),
            json!({"store": {"type": "redis", "cluster": "c", "auth_token": key.replace(' ', "-")}}),
            json!({"store": {"type": "redis", "auth_token": format!("{key}\n")}}),
        ] {
            for bytes in [json.to_string().into_bytes(), as_struct(&json)] {
                let shown = match Config::from_bytes(&bytes) {
                    Ok(config) => format!("{config:?} {:?}", config.access(Some(&Identity::of_key(key)))),
                    Err(error) => format!("{error} {error:?}"),
                };
                let written = [key.clone(), key.escape_debug().to_string(), key.replace(' ', "-")];
                let found = written.iter().any(|text| shown.contains(text));
                prop_assert!(!found, "{}", shown);
            }
        }
    }
}

#[test]
fn keys_of_the_example_are_found_by_their_headers() {
    struct Presents(&'static str);

    impl identity::RequestView for Presents {
        fn header(&self, name: &str) -> Option<String> {
            (name == "authorization").then(|| format!("Bearer {}", self.0))
        }

        fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
            None
        }
    }

    let config = good("example");
    let access = |key| config.access(config.identity(&Presents(key)).as_ref());
    let name = |access| match access {
        Access::Limited(subject) => subject.name().map(str::to_owned),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(access("test-key-1")).as_deref(), Some("demo"));
    // `hello` has the digest in the file.
    assert_eq!(name(access("hello")).as_deref(), Some("Your Service"));
    assert_eq!(access("unlimited-key"), Access::Unlimited);
    assert_eq!(name(access("unknown")), None);
}

/// The label of a window with these fields.
fn label_of(fields: &str) -> String {
    let json = format!(r#"{{"default": {{"windows": [{{"metric": "requests", "limit": 1, {fields}}}]}}}}"#);
    let config = Config::from_bytes(json.as_bytes()).unwrap();
    let Access::Limited(subject) = config.access(Some(&Identity::of_key("k"))) else { panic!() };
    let applied = subject.limits(&crate::policy::Candidates::UNKNOWN).next().unwrap();
    applied.limit.window.label()
}

#[test]
fn windows_of_the_calendar_have_a_counter_for_each_zone_and_start() {
    for (fields, label) in [
        (r#""window": "1d""#, "1d"),
        (r#""window": "1d", "timezone": "UTC""#, "1d-fixed"),
        (r#""window": "1d", "timezone": "Etc/UTC""#, "1d-Etc/UTC"),
        (r#""window": "1d", "timezone": "Asia/Tokyo", "algorithm": "fixed_window""#, "1d-Asia/Tokyo"),
        (r#""window": "1w""#, "7d"),
        (r#""window": "1w", "timezone": "UTC""#, "1w-UTC"),
        (r#""window": "1w", "starts_on": "monday""#, "1w-UTC"),
        (r#""window": "1w", "starts_on": "sunday", "timezone": "Asia/Tokyo""#, "1w-sunday-Asia/Tokyo"),
        (r#""window": "1mo""#, "1mo"),
        (r#""window": "1mo", "starts_on": 1, "timezone": "UTC""#, "1mo"),
        (r#""window": "1mo", "timezone": "America/New_York""#, "1mo-America/New_York"),
        (r#""window": "1mo", "starts_on": 31"#, "1mo-31-UTC"),
        (r#""window": "1y""#, "1y-UTC"),
        (r#""window": "1y", "starts_on": "02-29", "timezone": "Europe/London""#, "1y-02-29-Europe/London"),
    ] {
        assert_eq!(label_of(fields), label, "{fields}");
    }
}
