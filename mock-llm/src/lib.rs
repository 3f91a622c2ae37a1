//! An LLM API that answers at once and records every request: the upstream of the demo and the tests.
//!
//! It speaks OpenAI's chat completions, completions, embeddings and responses and Anthropic's messages, as JSON and as
//! a stream of events, with a `usage` that adds up. The `x-mock-*` headers of a request choose the answer
//! ([`behaviour::Behaviour`]), so many tests can share one mock and any HTTP client can drive it. `GET /mock/requests`
//! returns counts of the requests so far ([`journal::Report`]), and `DELETE /mock/requests` resets them.
//!
//! It accepts every upgrade and sends back what it receives then.
//!
//! It does not contain a model: the answer repeats the word "token", and a prompt's tokens are its bytes divided by
//! four unless `x-mock-prompt-tokens` says otherwise.

mod answer;
pub mod behaviour;
pub mod gates;
pub mod journal;
mod upgrade;

use answer::Answer;
use answer::compress::Encoding;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, body};
use behaviour::Behaviour;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use gates::Gates;
use http_body::Frame;
use http_body_util::StreamBody;
use journal::{Ended, InFlight, Journal, Received};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// The largest body that it reads; the shipped configuration gives Envoy the same limit.
const MAX_BODY: usize = 32 << 20;

/// The API. The end of a path names the endpoint; any other path answers like chat completions, except those under
/// `/mock`.
pub fn router(journal: Arc<Journal>, gates: Arc<Gates>) -> Router {
    Router::new()
        .route("/mock/requests", get(report).delete(forget))
        .fallback(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Mock { journal, gates })
}

/// The state that all requests share.
#[derive(Clone)]
struct Mock {
    journal: Arc<Journal>,
    gates: Arc<Gates>,
}

/// Serves `router` on `listener` for as long as it works.
///
/// # Errors
/// As [`axum::serve()`].
pub async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    // With Nagle's algorithm the parts of an answer would wait for each other, forty milliseconds on Linux.
    let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
    axum::serve(listener, router).await
}

async fn report(State(mock): State<Mock>) -> impl IntoResponse {
    Json(mock.journal.report())
}

async fn forget(State(mock): State<Mock>) -> StatusCode {
    mock.journal.forget();
    StatusCode::NO_CONTENT
}

async fn answer(State(Mock { journal, gates }): State<Mock>, mut request: Request) -> Response {
    let behaviour = match Behaviour::from_headers(request.headers()) {
        Ok(behaviour) => behaviour,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
    };
    let mut in_flight = journal.begin();
    if behaviour.fails(request.headers()).is_none() && request.headers().contains_key(header::UPGRADE) {
        in_flight.record(Received::without_body(&request));
        return upgrade::accept(&mut request, in_flight);
    }
    let (parts, incoming) = request.into_parts();
    let Ok(content) = body::to_bytes(incoming, MAX_BODY).await else {
        return refuse(StatusCode::BAD_REQUEST, "the body did not arrive whole");
    };
    let encoding = match (behaviour.compress, behaviour.always_compress) {
        (_, true) => Some(Encoding::of_everything(&parts.headers)),
        (true, false) => Encoding::accepted(&parts.headers),
        (false, false) => None,
    };
    let error = behaviour.error(&parts.headers, &content);
    let path = parts.uri.path().to_owned();
    in_flight.record(Received {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        headers: parts.headers,
        body: content.clone(),
        ended: None,
    });
    sleep(behaviour.delay).await;

    let answer = match error {
        Some(error) => Err(error),
        None => Answer::to(&path, &content, &behaviour).map_err(|why| (StatusCode::BAD_REQUEST, why)),
    };
    let mut response = match answer {
        Err((status, why)) => {
            in_flight.end(Ended::Refused);
            let mut pieces = vec![Bytes::from(error_body(&why).to_string())];
            if let Some(encoding) = encoding {
                pieces = encoding.compress(&pieces);
            }
            if let Some(size) = behaviour.chunk_bytes {
                pieces = pieces.concat().chunks(size).map(Bytes::copy_from_slice).collect();
            }
            refuse_in(status, pieces, encoding, behaviour.chunk_delay)
        }
        Ok(mut answer) => {
            if let Some(encoding) = encoding {
                answer.pieces = encoding.compress(&answer.pieces);
            }
            let content_type = if answer.streamed { "text/event-stream" } else { "application/json" };
            let body = Body::new(StreamBody::new(paced(answer, behaviour.clone(), in_flight, gates)));
            let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
            if let Some(encoding) = encoding {
                response.headers_mut().insert(header::CONTENT_ENCODING, encoding.name());
            }
            response
        }
    };
    behaviour.add_headers(response.headers_mut());
    response
}

/// The answer's pieces with the pauses between them. The request counts as in flight until the last piece is taken, or
/// until the client leaves and the stream is dropped.
fn paced(
    answer: Answer,
    behaviour: Behaviour,
    in_flight: InFlight,
    gates: Arc<Gates>,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    let whole = Ended::Answered { usage: answer.usage, reported: answer.reports_usage };
    let last = answer.pieces.len().saturating_sub(1);
    let mut in_flight = Some(in_flight);
    let trailers = behaviour.trailers.then(|| {
        Ok(Frame::trailers(HeaderMap::from_iter([(
            HeaderName::from_static("x-mock-trailer"),
            HeaderValue::from_static("1"),
        )])))
    });
    let pieces = stream::iter(answer.pieces.into_iter().enumerate()).then(move |(index, piece)| {
        let broken = behaviour.reset_after.is_some_and(|pieces| index >= pieces);
        if index == last && !broken {
            // Before the last piece is sent, so that a client with the whole answer finds it in the report.
            if let Some(in_flight) = in_flight.take() {
                in_flight.end(whole);
            }
        }
        let pause = if index == 0 { Duration::ZERO } else { behaviour.chunk_delay };
        let (gates, gate) = (Arc::clone(&gates), behaviour.gate.clone());
        async move {
            sleep(pause).await;
            if let Some(gate) = gate {
                gates.pass(&gate).await;
            }
            if broken {
                Err(io::Error::other("the request asked the mock to break off"))
            } else {
                Ok(Frame::data(piece))
            }
        }
    });
    pieces.chain(stream::iter(trailers))
}

/// An error in OpenAI's format.
fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(error_body(message))).into_response()
}

fn error_body(message: &str) -> serde_json::Value {
    serde_json::json!({"error": {"message": message, "type": "mock_error", "param": null, "code": null}})
}

/// An error in these pieces, with a pause before each but the first.
fn refuse_in(
    status: StatusCode,
    pieces: Vec<Bytes>,
    encoding: Option<Encoding>,
    pause: Duration,
) -> Response {
    let body = match <[Bytes; 1]>::try_from(pieces) {
        Ok([whole]) => Body::from(whole),
        Err(pieces) => Body::from_stream(stream::iter(pieces.into_iter().enumerate()).then(
            move |(at, piece)| async move {
                sleep(if at == 0 { Duration::ZERO } else { pause }).await;
                io::Result::Ok(piece)
            },
        )),
    };
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(encoding) = encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding.name());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    async fn ask(journal: &Arc<Journal>, headers: &[(&str, &str)], body: &Value) -> Response {
        ask_at("/v1/chat/completions", journal, headers, body).await
    }

    async fn ask_at(path: &str, journal: &Arc<Journal>, headers: &[(&str, &str)], body: &Value) -> Response {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        router(Arc::clone(journal), Arc::default()).oneshot(request).await.unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    fn chat(extra: Value) -> Value {
        let mut body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    }

    #[tokio::test]
    async fn json_has_the_usage_that_the_headers_choose() {
        let journal = Arc::default();
        let headers = [("x-mock-prompt-tokens", "9"), ("x-mock-completion-tokens", "3")];
        let response = ask(&journal, &headers, &chat(json!({"n": 2}))).await;
        assert_eq!(response.status(), StatusCode::OK);
        let answer: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(answer["usage"]["prompt_tokens"], 9);
        assert_eq!(answer["usage"]["completion_tokens"], 6);
        assert_eq!(answer["usage"]["total_tokens"], 15);
        assert_eq!(answer["choices"][1]["message"]["content"], "token token token");
        assert_eq!(journal.report().total_tokens, 15);
    }

    #[tokio::test]
    async fn a_maximum_of_output_is_obeyed() {
        let response = ask(&Arc::default(), &[], &chat(json!({"max_tokens": 2}))).await;
        let answer: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 2);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }

    #[tokio::test]
    async fn a_stream_reports_its_usage_only_on_request() {
        let journal = Arc::default();
        let without = text(ask(&journal, &[], &chat(json!({"stream": true}))).await).await;
        assert!(without.ends_with("data: [DONE]\n\n"));
        assert!(!without.contains("usage"));
        let with = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
        let with = text(ask(&journal, &[], &with).await).await;
        assert!(with.contains(r#""usage":{"completion_tokens":16,"#), "{with}");
    }

    #[tokio::test]
    async fn usage_and_done_can_be_left_out() {
        let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
        let headers = [("x-mock-no-usage", "1"), ("x-mock-no-done", "1")];
        let stream = text(ask(&Arc::default(), &headers, &body).await).await;
        assert!(!stream.contains("usage") && !stream.contains("DONE"), "{stream}");
    }

    #[tokio::test]
    async fn pieces_of_any_size_are_the_same_text() {
        let body = chat(json!({"stream": true}));
        let whole = text(ask(&Arc::default(), &[], &body).await).await;
        let response = ask(&Arc::default(), &[("x-mock-chunk-bytes", "7")], &body).await;
        let pieces: Vec<Bytes> = response.into_body().into_data_stream().map(Result::unwrap).collect().await;
        assert!(pieces.iter().all(|piece| piece.len() <= 7));
        assert_eq!(pieces.concat(), whole.as_bytes());
    }

    #[tokio::test]
    async fn a_client_that_leaves_counts_as_aborted() {
        let journal = Arc::default();
        let body = chat(json!({"stream": true}));
        let mut stream = ask(&journal, &[], &body).await.into_body().into_data_stream();
        stream.next().await.unwrap().unwrap();
        assert_eq!((journal.report().in_flight, journal.report().aborted), (1, 0));
        drop(stream);
        assert_eq!((journal.report().in_flight, journal.report().aborted), (0, 1));
        assert_eq!(journal.report().completion_tokens, 0);
    }

    #[tokio::test]
    async fn a_reset_breaks_the_stream_off() {
        let body = chat(json!({"stream": true}));
        let response = ask(&Arc::default(), &[("x-mock-reset-after", "2")], &body).await;
        let pieces: Vec<_> = StreamExt::collect(response.into_body().into_data_stream()).await;
        assert!(pieces[..2].iter().all(Result::is_ok) && pieces[2].is_err());
    }

    #[tokio::test]
    async fn a_gate_lets_as_many_pieces_through_as_it_is_opened_for() {
        let gates = Arc::<Gates>::default();
        let request = Request::post("/v1/chat/completions").header("x-mock-gate", "a");
        let request = request.body(Body::from(chat(json!({"stream": true})).to_string())).unwrap();
        let response = router(Arc::default(), Arc::clone(&gates)).oneshot(request).await.unwrap();
        let mut pieces = response.into_body().into_data_stream();
        assert!(pieces.next().now_or_never().is_none());
        gates.open("b", 1);
        gates.open("a", 2);
        assert!(pieces.next().await.is_some() && pieces.next().await.is_some());
        assert!(pieces.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn headers_choose_an_error_and_extra_headers() {
        let headers = [("x-mock-status", "503"), ("x-mock-header", "x-ratelimit-limit-requests: 9999")];
        let response = ask(&Arc::default(), &headers, &chat(json!({}))).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["x-ratelimit-limit-requests"], "9999");
        assert!(text(response).await.contains(r#""type":"mock_error""#));
    }

    #[tokio::test]
    async fn a_header_that_cannot_be_read_is_refused_by_name() {
        let response = ask(&Arc::default(), &[("x-mock-delay-ms", "soon")], &chat(json!({}))).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert!(text(response).await.contains("x-mock-delay-ms: expected a number, found \\\"soon\\\""));
    }

    #[tokio::test]
    async fn the_journal_keeps_requests_and_can_forget_them() {
        let journal = Arc::default();
        ask(&journal, &[("authorization", "Bearer k")], &chat(json!({}))).await;
        let received = journal.received();
        assert_eq!(received[0].path, "/v1/chat/completions");
        assert_eq!(received[0].headers["authorization"], "Bearer k");
        assert!(received[0].body.starts_with(b"{"));
        journal.forget();
        assert_eq!((journal.received().len(), journal.report().requests), (0, 0));
    }

    /// The JSON in a stream's events.
    fn data(text: &str) -> Vec<Value> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[tokio::test]
    async fn each_endpoint_answers_in_its_own_format_with_its_usage() {
        let headers = [("x-mock-prompt-tokens", "9"), ("x-mock-completion-tokens", "3")];
        for (path, text, usage) in [
            ("/chat/completions", "/choices/0/message/content", ["prompt", "completion"]),
            ("/completions", "/choices/0/text", ["prompt", "completion"]),
            ("/responses", "/output/0/content/0/text", ["input", "output"]),
            ("/messages", "/content/0/text", ["input", "output"]),
        ] {
            let response = ask_at(path, &Arc::default(), &headers, &json!({"prompt": "a"})).await;
            let body: Value = serde_json::from_str(&self::text(response).await).unwrap();
            assert_eq!(body.pointer(text).unwrap(), "token token token", "{path}: {body}");
            let usage = usage.map(|name| body["usage"][format!("{name}_tokens")].as_u64().unwrap());
            assert_eq!(usage, [9, 3], "{path}");
        }
        let response = ask_at("/embeddings", &Arc::default(), &headers, &json!({"input": ["a", "b"]})).await;
        let body: Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(body["data"].as_array().unwrap().len(), 2);
        assert_eq!(body["usage"], json!({"prompt_tokens": 9, "total_tokens": 9}));
    }

    #[tokio::test]
    async fn each_endpoint_streams_the_words_and_the_end_of_its_format() {
        let body = json!({"stream": true, "stream_options": {"include_usage": true}, "max_output_tokens": 9});
        for (path, delta, usage, end) in [
            ("/chat/completions", "/choices/0/delta/content", "/usage/completion_tokens", "data: [DONE]"),
            ("/completions", "/choices/0/text", "/usage/completion_tokens", "data: [DONE]"),
            ("/responses", "/delta", "/response/usage/output_tokens", "response.completed"),
            ("/messages", "/delta/text", "/usage/output_tokens", "message_stop"),
        ] {
            for (headers, reports) in [
                (&[("x-mock-completion-tokens", "4")][..], true),
                (
                    &[("x-mock-completion-tokens", "4"), ("x-mock-no-usage", "1"), ("x-mock-no-done", "1")],
                    false,
                ),
            ] {
                let stream = text(ask_at(path, &Arc::default(), headers, &body).await).await;
                let events = data(&stream);
                let said: String = events.iter().filter_map(|event| event.pointer(delta)?.as_str()).collect();
                assert_eq!(said, "token token token token", "{path}");
                let reported = events.iter().filter_map(|event| event.pointer(usage)?.as_u64()).next_back();
                assert_eq!(reported, reports.then_some(4), "{path}");
                assert_eq!(stream.contains(end), reports, "{path}: {stream}");
            }
        }
    }

    #[tokio::test]
    async fn attempts_fail_as_often_as_the_header_says() {
        for (attempt, status) in [("1", 503), ("2", 503), ("3", 200)] {
            let headers = [("x-mock-fail-attempts", "2"), ("x-envoy-attempt-count", attempt)];
            assert_eq!(ask(&Arc::default(), &headers, &chat(json!({}))).await.status(), status);
        }
    }

    #[tokio::test]
    async fn an_answer_may_end_with_a_trailer() {
        let response = ask(&Arc::default(), &[("x-mock-trailers", "1")], &chat(json!({}))).await;
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-mock-trailer"], "1");
    }

    #[tokio::test]
    async fn the_journal_records_how_each_request_ended() {
        let journal = Arc::default();
        let usage = journal::Usage { prompt_tokens: 7, completion_tokens: 2 };
        let headers = [("x-mock-prompt-tokens", "7"), ("x-mock-completion-tokens", "2")];
        text(ask(&journal, &headers, &chat(json!({}))).await).await;
        text(ask(&journal, &headers, &chat(json!({"stream": true}))).await).await;
        text(ask(&journal, &[("x-mock-status", "500")], &chat(json!({}))).await).await;
        drop(ask(&journal, &[], &chat(json!({"stream": true}))).await);
        let running = ask(&journal, &[], &chat(json!({"stream": true}))).await;
        let ended: Vec<_> = journal.received().iter().map(|received| received.ended).collect();
        assert_eq!(
            ended,
            [
                Some(Ended::Answered { usage, reported: true }),
                Some(Ended::Answered { usage, reported: false }),
                Some(Ended::Refused),
                Some(Ended::Aborted),
                None,
            ]
        );
        drop(running);
        assert_eq!(journal.received()[4].ended, Some(Ended::Aborted));
    }

    #[tokio::test]
    async fn the_journal_has_a_maximum_of_bytes() {
        let journal = Arc::default();
        let large = chat(json!({"messages": "a".repeat(30 << 20)}));
        for _ in 0..4 {
            ask(&journal, &[], &large).await;
        }
        assert_eq!(journal.received().len(), 2);
        assert!(journal.received().iter().all(|received| received.ended.is_some()));
        assert_eq!(journal.report().requests, 4);
    }
}
