//! Connections that become something else: the mock accepts any upgrade and sends back every byte that it receives.

use crate::journal::{Ended, InFlight, Usage};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{copy, split};

/// Answers 101 and echoes until the client leaves; the request counts as in flight so long.
pub(crate) fn accept(request: &mut Request, in_flight: InFlight) -> Response {
    let protocol = request.headers().get(header::UPGRADE).cloned();
    let protocol = protocol.unwrap_or_else(|| HeaderValue::from_static("websocket"));
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let (mut read, mut write) = split(TokioIo::new(upgraded));
            // An error is a client that has left.
            let _ = copy(&mut read, &mut write).await;
        }
        in_flight.end(Ended::Answered { usage: Usage::default(), reported: false });
    });
    let headers = [(header::CONNECTION, HeaderValue::from_static("upgrade")), (header::UPGRADE, protocol)];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}
