//! Requests of every kind that end in every way, at random: what each sends, how it ends, and what it owes.
//!
//! The storm (`storm.rs`) and the soak (`tests/soak/`) play them.

use crate::api::Api;
use crate::caller::Caller;
use crate::routes::{ABORTED, HASTY, HTTP2, NOWHERE, RETRIED};
use futures_util::{StreamExt, stream};
use proptest::prelude::*;
use reqwest::{Method, RequestBuilder};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The maximum of output tokens in each request.
const MAX_TOKENS: u64 = 60;

/// The header with the number of a request, which its line in the access log repeats.
pub const NUMBER: &str = "x-storm";

/// One request and how it ends.
#[derive(Clone, Debug)]
pub struct Act {
    /// The API that it calls.
    pub api: Api,
    streamed: bool,
    reports_usage: bool,
    /// Whether its client speaks HTTP/2.
    pub http2: bool,
    compressed: bool,
    /// The size in bytes of the answer's pieces, if it is cut into pieces.
    cut: Option<usize>,
    prompt_tokens: u64,
    words: u64,
    /// How it ends.
    pub ending: Ending,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
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

/// What the client of a request has seen of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The status; none if there was no answer, or the client did not wait for it.
    pub status: Option<u16>,
    /// Words of it.
    pub words: u64,
}

/// Any request, with an ending that its API may not have: see [`Act::possible`].
pub fn act() -> impl Strategy<Value = Act> {
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
    pub fn possible(mut self) -> Self {
        match self.ending {
            Ending::BreaksOff(_) | Ending::LeavesMidStream(_) | Ending::Refused
                if self.api == Api::Embeddings =>
            {
                self.ending = Ending::Whole("", false);
            }
            Ending::BreaksOff(_) | Ending::LeavesMidStream(_) => {
                (self.streamed, self.compressed, self.cut) = (true, false, None);
                // So many that the stream still runs when Envoy notices that its client has left.
                self.words = 600;
            }
            _ => {}
        }
        self
    }

    /// The same with an answer in fewer pieces. A client that has nothing else to do can take thousands.
    #[allow(dead_code, reason = "the storm has the time")]
    pub fn in_larger_pieces(self) -> Self {
        Self { cut: self.cut.map(|bytes| 10 * bytes), ..self }
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
            .header(NUMBER, number)
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
                .header(mock("chunk-delay-ms"), 40)
                .header(mock("reset-after"), self.api.events_before_words() + words),
            Ending::LeavesMidStream(_) => request.header(mock("chunk-delay-ms"), 40),
            Ending::LeavesInBody => {
                let begun = stream::iter([Ok::<_, Infallible>("{\"model\": \"gpt")]);
                request.body(reqwest::Body::wrap_stream(begun.chain(stream::pending())))
            }
            Ending::Whole(..) | Ending::Refused => request,
        }
    }

    /// Whether its client leaves before the answer has come.
    pub fn leaves(&self) -> bool {
        matches!(self.ending, Ending::LeavesInBody | Ending::LeavesUnanswered(_))
    }

    /// Sends the request and ends it. `begun` ends when Envoy has its headers.
    pub async fn play(&self, number: usize, caller: &Caller, begun: impl Future<Output = ()>) -> Seen {
        let leaves = async {
            match self.ending {
                Ending::LeavesInBody => begun.await,
                Ending::LeavesUnanswered(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                _ => tokio::time::sleep(Duration::from_secs(60)).await,
            }
        };
        let answer = tokio::select! {
            answer = self.request(number, caller).send() => answer,
            () = leaves => return Seen::default(),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => {
                println!("request {number}: {why:?}");
                return Seen::default();
            }
        };
        let status = Some(answer.status().as_u16());
        let mut body = answer.bytes_stream();
        // The end of what has been searched, because a word may lie in two pieces.
        let mut text = Vec::new();
        let mut words = 0;
        while let Some(Ok(piece)) = body.next().await {
            text.extend(piece);
            words += text.windows(6).filter(|window| window == b"token\"").count() as u64;
            text.drain(..text.len().saturating_sub(5));
            if let Ending::LeavesMidStream(enough) = self.ending
                && words >= enough
            {
                break;
            }
        }
        Seen { status, words }
    }

    /// Whether the upstream reports the cost of the request, and the filter can read it.
    pub fn is_reported(&self) -> bool {
        self.reports_usage && matches!(self.ending, Ending::Whole(..) | Ending::Retried(_))
    }

    /// Output tokens reserved for the answer.
    pub fn reserves(&self) -> u64 {
        if self.api == Api::Embeddings { 0 } else { MAX_TOKENS }
    }

    /// The charge for the prompt and the answer, if it was admitted and its client has `seen` this many words.
    pub fn owes(&self, seen: u64) -> (u64, RangeInclusive<u64>) {
        let exactly = |input, output| (input, output..=output);
        let counted = self.api.hello_tokens();
        let words = if self.api == Api::Embeddings { 0 } else { self.words };
        let begins_with_usage = self.api.begins_with_usage() && self.reports_usage;
        // What is counted of a response of OpenAI's has a token beside its text.
        let with_beside = |words: u64| words + u64::from(self.api == Api::Responses && words > 0);
        let of_part = if begins_with_usage { self.prompt_tokens } else { counted };
        match self.ending {
            Ending::Whole(..) | Ending::Retried(_) if self.reports_usage => {
                exactly(self.prompt_tokens, words)
            }
            Ending::Whole(..) | Ending::Retried(_) => exactly(counted, with_beside(words)),
            // The upstream has the request when Envoy gives up on it.
            Ending::IsGivenUp(HASTY) | Ending::LeavesUnanswered(_) => exactly(counted, self.reserves()),
            Ending::Fails(_) | Ending::IsGivenUp(_) => exactly(0, 0),
            Ending::BreaksOff(words) => (of_part, with_beside(seen)..=with_beside(words)),
            // A few more words may have passed Envoy before it noticed.
            Ending::LeavesMidStream(_) => (of_part, seen..=with_beside(self.words)),
            Ending::Refused | Ending::LeavesInBody => panic!("{self:?} is not admitted"),
        }
    }

    /// Whether the store must have admitted it; `None` if both are possible.
    pub fn is_admitted(&self) -> Option<bool> {
        match self.ending {
            Ending::Refused | Ending::LeavesInBody => Some(false),
            // The client may have left before Envoy had the body, or before the store answered.
            Ending::LeavesUnanswered(_) => None,
            _ => Some(true),
        }
    }
}
