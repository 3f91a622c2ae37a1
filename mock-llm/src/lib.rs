//! An LLM API that answers at once and records every request: the upstream of the demo and the tests.
//!
//! It speaks OpenAI's chat completions, completions, embeddings and responses and Anthropic's messages, as JSON and as
//! a stream of events, with a `usage` that adds up. The `x-mock-*` headers of a request choose the answer
//! ([`behaviour::Behaviour`]), so many tests can share one mock and any HTTP client can drive it. `GET /mock/requests`
//! returns counts of the requests so far ([`journal::Report`]), and `DELETE /mock/requests` resets them. The body of
//! `PUT /mock/answers/{name}` is what requests with `x-mock-answer: name` are answered with, byte by byte.
//!
//! A response that is created with `background` is queued; asked for by its id or cancelled, it has ended.
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
use answer::given::Given;
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
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
        .route("/mock/answers/{name}", put(give))
        .fallback(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Mock { journal, gates, given: Arc::default() })
}

/// The state that all requests share.
#[derive(Clone)]
struct Mock {
    journal: Arc<Journal>,
    gates: Arc<Gates>,
    given: Arc<Given>,
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

async fn give(
    State(mock): State<Mock>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let json = HeaderValue::from_static("application/json");
    mock.given.give(name, headers.get(header::CONTENT_TYPE).cloned().unwrap_or(json), body);
    StatusCode::NO_CONTENT
}

async fn answer(State(Mock { journal, gates, given }): State<Mock>, mut request: Request) -> Response {
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
    let query = parts.uri.query().unwrap_or_default().to_owned();
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
        None => match &behaviour.answer {
            Some(name) => given
                .answer(name, behaviour.chunk_bytes)
                .ok_or_else(|| format!("there is no answer {name:?}")),
            None => Answer::to(&path, &query, &content, &behaviour),
        }
        .map_err(|why| (StatusCode::BAD_REQUEST, why)),
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
            let content_type = answer.content_type.clone();
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
mod tests;
