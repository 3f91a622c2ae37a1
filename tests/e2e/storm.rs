//! A storm: requests of every kind that end in every way, at random and many at once. Afterwards four books must agree:
//! what each client saw, the usage that the upstream reported, the charge of each request in the access log, and the
//! counts of the store.
//!
//! `STORM_SEED` repeats a storm; a failing test prints its seed.

use crate::api::Api;
use crate::caller::Caller;
use crate::gateway::{Gateway, Store, eventually, is_of_an_end, used_by};
use crate::routes::{ABORTED, HASTY, HTTP2, NOWHERE, RETRIED, connection_manager};
use futures_util::{StreamExt, stream};
use llm_rate_limit_tests::envoy::Envoy;
use mock_llm::journal::{Ended, Received, Usage};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::json;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The number of requests in a storm.
const REQUESTS: usize = 400;

/// How many of them are under way at a time.
const AT_A_TIME: usize = 40;

/// The maximum of output tokens in each request.
const MAX_TOKENS: u64 = 60;

/// One request and how it ends.
#[derive(Clone, Debug)]
struct Act {
    api: Api,
    streamed: bool,
    reports_usage: bool,
    http2: bool,
    compressed: bool,
    /// The size in bytes of the answer's pieces, if it is cut into pieces.
    cut: Option<usize>,
    prompt_tokens: u64,
    words: u64,
    ending: Ending,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With the whole answer, under this prefix, and with trailers if true.
    Whole(&'static str, bool),
    /// With the whole answer, after this many failed attempts.
    Retried(u64),
    /// With a refusal.
    Refused,
    /// With an error of the upstream.
    Fails(u16),
    /// With an answer of Envoy in place of the upstream's.
    IsGivenUp(&'static str),
    /// With a stream that breaks off after this many words.
    BreaksOff(u64),
    /// The client leaves after Envoy has its headers and before it has its whole body.
    LeavesInBody,
    /// The client leaves after this many milliseconds, before the answer begins.
    LeavesUnanswered(u64),
    /// The client leaves after this many words of a stream.
    LeavesMidStream(u64),
}

/// One line of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line {
    decision: String,
    /// Input and output tokens that were reserved.
    estimate: Option<(u64, u64)>,
    /// Input and output tokens that were charged in the end.
    charge: Option<(u64, u64)>,
}

fn act() -> impl Strategy<Value = Act> {
    let api = prop_oneof![
        Just(Api::Chat),
        Just(Api::Completions),
        Just(Api::Embeddings),
        Just(Api::Responses),
        Just(Api::Messages),
    ];
    let ending = prop_oneof![
        6 => (prop_oneof![Just(""), Just(HTTP2)], any::<bool>()).prop_map(|(at, end)| Ending::Whole(at, end)),
        2 => (0..3_u64).prop_map(Ending::Retried),
        2 => Just(Ending::Refused),
        2 => prop_oneof![Just(400), Just(429), Just(500)].prop_map(Ending::Fails),
        2 => prop_oneof![Just(NOWHERE), Just(HASTY), Just(ABORTED)].prop_map(Ending::IsGivenUp),
        2 => (1..8_u64).prop_map(Ending::BreaksOff),
        1 => Just(Ending::LeavesInBody),
        3 => (0..60_u64).prop_map(Ending::LeavesUnanswered),
        3 => (0..8_u64).prop_map(Ending::LeavesMidStream),
    ];
    let cut = prop_oneof![2 => Just(None), 1 => (1..90_usize).prop_map(Some)];
    let flags = any::<(bool, bool, bool, bool)>();
    (api, flags, cut, 0..3000_u64, 0..120_u64, ending).prop_map(
        |(api, (streamed, reports_usage, http2, compressed), cut, prompt_tokens, words, ending)| Act {
            api,
            streamed: streamed && api != Api::Embeddings,
            reports_usage,
            http2,
            compressed,
            cut,
            // The filter does not believe a usage without prompt tokens.
            prompt_tokens: prompt_tokens + 1,
            words,
            ending,
        },
    )
}

impl Act {
    /// The same with an ending that this API has. Embeddings have no output that could be too large or break off, and
    /// an answer that is compressed or cut into pieces has no words to break off after.
    fn possible(mut self) -> Self {
        match self.ending {
            Ending::BreaksOff(_) | Ending::LeavesMidStream(_) | Ending::Refused
                if self.api == Api::Embeddings =>
            {
                self.ending = Ending::Whole("", false);
            }
            Ending::BreaksOff(_) | Ending::LeavesMidStream(_) => {
                (self.streamed, self.compressed, self.cut) = (true, false, None);
                // So many that the stream still runs when Envoy notices that its client has left.
                self.words = 3000;
            }
            _ => {}
        }
        self
    }

    fn request(&self, number: usize, caller: &Caller) -> RequestBuilder {
        let prefix = match self.ending {
            Ending::Whole(prefix, _) | Ending::IsGivenUp(prefix) => prefix,
            Ending::Retried(_) => RETRIED,
            _ => "",
        };
        let max_tokens = if self.ending == Ending::Refused { 1 << 40 } else { MAX_TOKENS };
        let body = if self.streamed {
            self.api.streamed_hello(max_tokens, true)
        } else {
            self.api.hello(max_tokens)
        };
        let mock = |name: &str| format!("x-mock-{name}");
        let mut request = caller
            .request(Method::POST, &format!("{prefix}{}", self.api.path()))
            .json(&body)
            .header("x-storm", number)
            .header(mock("prompt-tokens"), self.prompt_tokens)
            .header(mock("completion-tokens"), self.words);
        if !self.reports_usage {
            request = request.header(mock("no-usage"), 1);
        }
        if let Some(bytes) = self.cut {
            request = request.header(mock("chunk-bytes"), bytes);
        }
        if self.compressed {
            request = request.header("accept-encoding", "gzip").header(mock("compress"), 1);
        }
        match self.ending {
            Ending::Whole(_, true) => request.header(mock("trailers"), 1),
            Ending::Retried(failures) => request.header(mock("fail-attempts"), failures),
            Ending::Fails(status) => request.header(mock("status"), status),
            Ending::IsGivenUp(_) | Ending::LeavesUnanswered(_) => request.header(mock("delay-ms"), 20_000),
            Ending::BreaksOff(words) => request
                .header(mock("chunk-delay-ms"), 10)
                .header(mock("reset-after"), self.api.events_before_words() + words),
            Ending::LeavesMidStream(_) => request.header(mock("chunk-delay-ms"), 10),
            Ending::LeavesInBody => {
                let begun = stream::iter([Ok::<_, Infallible>("{\"model\": \"gpt")]);
                request.body(reqwest::Body::wrap_stream(begun.chain(stream::pending())))
            }
            Ending::Whole(..) | Ending::Refused => request,
        }
    }

    /// Sends the request and ends it; returns the number of words that its client has seen.
    async fn play(&self, number: usize, caller: &Caller, envoy: &Envoy) -> u64 {
        let leaves = async {
            match self.ending {
                Ending::LeavesInBody => has_begun(envoy, number).await,
                Ending::LeavesUnanswered(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                _ => tokio::time::sleep(Duration::from_secs(60)).await,
            }
        };
        let answer = tokio::select! {
            answer = self.request(number, caller).send() => answer,
            () = leaves => return 0,
        };
        let mut body = answer.unwrap().bytes_stream();
        let mut text = Vec::new();
        let mut seen = 0;
        while let Some(Ok(piece)) = body.next().await {
            text.extend(piece);
            seen = text.windows(6).filter(|window| window == b"token\"").count() as u64;
            if let Ending::LeavesMidStream(words) = self.ending
                && seen >= words
            {
                break;
            }
        }
        seen
    }

    /// Whether the upstream reports the cost of the request, and the filter can read it.
    fn is_reported(&self) -> bool {
        self.reports_usage && matches!(self.ending, Ending::Whole(..) | Ending::Retried(_))
    }

    /// Output tokens reserved for the answer.
    fn reserves(&self) -> u64 {
        if self.api == Api::Embeddings { 0 } else { MAX_TOKENS }
    }

    /// The charge for the prompt and the answer, if it was admitted and its client has `seen` this many words.
    fn owes(&self, seen: u64) -> (u64, RangeInclusive<u64>) {
        let exactly = |input, output| (input, output..=output);
        let counted = self.api.hello_tokens();
        let words = if self.api == Api::Embeddings { 0 } else { self.words };
        let begins_with_usage = self.api.begins_with_usage() && self.reports_usage;
        let of_part = if begins_with_usage { self.prompt_tokens } else { counted };
        match self.ending {
            Ending::Whole(..) | Ending::Retried(_) if self.reports_usage => exactly(self.prompt_tokens, words),
            Ending::Whole(..) | Ending::Retried(_) => exactly(counted, words),
            // The upstream has the request when Envoy gives up on it.
            Ending::IsGivenUp(HASTY) | Ending::LeavesUnanswered(_) => exactly(counted, self.reserves()),
            Ending::Fails(_) | Ending::IsGivenUp(_) => exactly(0, 0),
            Ending::BreaksOff(words) => (of_part, seen..=words),
            // A few more words may have passed Envoy before it noticed.
            Ending::LeavesMidStream(_) => (of_part, seen..=self.words),
            Ending::Refused | Ending::LeavesInBody => panic!("{self:?} is not admitted"),
        }
    }

    /// Whether the store must have admitted it; `None` if both are possible.
    fn is_admitted(&self) -> Option<bool> {
        match self.ending {
            Ending::Refused | Ending::LeavesInBody => Some(false),
            // The client may have left before Envoy had the body, or before the store answered.
            Ending::LeavesUnanswered(_) => None,
            _ => Some(true),
        }
    }
}

/// Waits until Envoy has the headers of request `number`.
async fn has_begun(envoy: &Envoy, number: usize) {
    let number = number.to_string();
    eventually(&format!("Envoy has request {number}"), true, async || {
        envoy.access_log().iter().any(|line| line["storm"] == *number)
    })
    .await;
}

/// The lines of the access log about each request that has ended.
fn lines(envoy: &Envoy) -> HashMap<usize, Vec<Line>> {
    let mut lines: HashMap<usize, Vec<Line>> = HashMap::new();
    for line in envoy.access_log().iter().filter(|line| is_of_an_end(line)) {
        let Some(number) = line["storm"].as_str() else { continue };
        let tokens = |name: &str| line[name].as_str().map(|tokens| tokens.parse::<u64>().unwrap());
        let decision = line["decision"].as_str().unwrap_or_default().to_owned();
        let estimate = tokens("estimated_input_tokens").zip(tokens("reserved_output_tokens"));
        let charge = tokens("input_tokens").zip(tokens("output_tokens"));
        lines.entry(number.parse().unwrap()).or_default().push(Line { decision, estimate, charge });
    }
    lines
}

/// How the last attempt of each request ended upstream.
fn reports(received: Vec<Received>) -> HashMap<usize, Option<Ended>> {
    let number = |request: &Received| request.headers["x-storm"].to_str().unwrap().parse().unwrap();
    received.iter().map(|request| (number(request), request.ended)).collect()
}

fn storm(seed: u64) -> Vec<Act> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let acts = vec(act().prop_map(Act::possible), REQUESTS).new_tree(&mut runner).unwrap();
    acts.current()
}

async fn gateway(store: Store) -> Gateway {
    let window = |metric: &str| json!({"metric": metric, "limit": 1_000_000, "window": "1h"});
    let metrics = ["requests", "input_tokens", "output_tokens"].map(window);
    let total = json!({"metric": "total_tokens", "limit": 2_000_000, "window": "1h"});
    let windows = [&metrics[..], &[total]].concat();
    let limits = json!({
        "store": store.configuration(),
        "default": {"windows": windows},
        "output_reservation": {"mode": "declared"},
    });
    Gateway::start_with(store, |setup| {
        let mut setup = setup.filter(&limits).concurrency(2);
        let manager = connection_manager(&mut setup);
        // One line when Envoy has a request's headers, and one when the request has ended.
        manager["access_log_options"] = json!({"flush_access_log_on_new_request": true});
        let format = &mut manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
        format["storm"] = json!("%REQ(X-STORM)%");
        format["access_log_type"] = json!("%ACCESS_LOG_TYPE%");
        setup
    })
    .await
}

#[rstest]
#[tokio::test]
async fn whatever_happens_the_books_agree(#[values(Store::Local, Store::Redis)] store: Store) {
    let seed = std::env::var("STORM_SEED").map_or_else(
        |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("STORM_SEED={seed}");
    let acts = storm(seed);
    let gateway = gateway(store).await;
    let callers = [gateway.caller("storm"), gateway.caller("storm").over_http2()];
    let play = async |(number, act): (usize, &Act)| {
        (number, act.play(number, &callers[usize::from(act.http2)], &gateway.envoy).await)
    };
    let played = stream::iter(acts.iter().enumerate().map(play)).buffer_unordered(AT_A_TIME);
    let seen: HashMap<usize, u64> = played.collect().await;
    drop(callers);
    gateway.at_rest().await;
    let lines = lines(&gateway.envoy);
    let reports = reports(gateway.mock.received());

    // Each request by itself: the log, the upstream, and what its client saw.
    let (mut charged, mut reported, mut unreported) = ([0; 3], [0; 2], [0; 2]);
    for (number, act) in acts.iter().enumerate() {
        let lines = lines.get(&number).map(Vec::as_slice).unwrap_or_default();
        let context = format!("{number}: {act:?}, {lines:?}, seen {}", seen[&number]);
        let line = match lines {
            [line] => line,
            [] if act.is_admitted().is_none() => continue,
            _ => panic!("not one line: {context}"),
        };
        let is_admitted = line.decision == "admitted";
        assert_eq!(is_admitted, act.is_admitted().unwrap_or(is_admitted), "{context}");
        assert_eq!(line.charge.is_some(), is_admitted, "charged if admitted: {context}");
        let Some((input, output)) = line.charge else { continue };
        assert_eq!(line.estimate, Some((act.api.hello_tokens(), act.reserves())), "{context}");
        let (owed_input, owed_output) = act.owes(seen[&number]);
        assert_eq!(input, owed_input, "{context}");
        assert!(owed_output.contains(&output), "{owed_output:?}: {context}");
        charged = [charged[0] + 1, charged[1] + input, charged[2] + output];
        let sum = if act.is_reported() {
            let ended = reports[&number];
            let Some(Ended::Answered { usage, reported: true }) = ended else {
                panic!("the upstream reported no usage: {context}, {ended:?}")
            };
            let Usage { prompt_tokens, completion_tokens } = usage;
            reported = [reported[0] + prompt_tokens, reported[1] + completion_tokens];
            continue;
        } else {
            &mut unreported
        };
        *sum = [sum[0] + input, sum[1] + output];
    }
    assert!(reported[0] > 10_000 && reported[1] > 500 && unreported[0] > 0, "it was a storm: {reported:?}");

    // All requests together: reservations, settlements, and the counts of the store.
    let [requests, input, output] = charged;
    assert_eq!([input, output], [reported[0] + unreported[0], reported[1] + unreported[1]]);
    for (name, value) in [
        ("admitted", requests),
        ("settled", requests),
        ("input_tokens", input),
        ("output_tokens", output),
        ("store_errors", 0),
        ("settlements_dropped", 0),
    ] {
        let name = format!("wasmcustom.llm_rate_limit.{name}");
        eventually(&name, Some(value), async || gateway.envoy.stat(&name)).await;
    }
    let counted = used_by(&gateway.caller("storm").too_large().await);
    assert_eq!(counted, [requests, input, output, input + output], "what the store has counted");
}
