//! Where warnings go: an HTTP POST, signed as Standard Webhooks says.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use super::warning::Warning;
use crate::cause::last_cause;
use crate::clock;
use axum::body::Bytes;
use axum::http::{Request, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use llm_rate_limit::answer::date;
use llm_rate_limit::config::Secret;
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// The time limit for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The waits before the second and later attempts.
const WAITS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];

/// The beginning of a secret that is in base64, after which the key follows.
const BASE64_SECRET: &str = "whsec_";

/// The address of a webhook, and the key that signs what is sent there.
pub struct Target {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Uri,
    key: Vec<u8>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.url.host().unwrap_or_default())
    }
}

impl Target {
    /// The target at `url`. The secret is a text of any form, or `whsec_` and a key in base64.
    ///
    /// # Errors
    /// The URL is not one of HTTP, or the secret is empty or says that it is in base64 and is not.
    pub fn new(url: &str, secret: &str) -> Result<Self, String> {
        let is_http = |url: &Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        let url = url.parse::<Uri>().ok().filter(is_http);
        // The URL itself may be a secret.
        let url = url.ok_or("WEBHOOK_URL: expected http://… or https://…")?;
        let key = match secret.strip_prefix(BASE64_SECRET) {
            Some(text) => STANDARD
                .decode(text)
                .map_err(|why| format!("WEBHOOK_SECRET: not base64 after whsec_: {why}"))?,
            None => secret.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err("WEBHOOK_SECRET: expected a secret, with which warnings are signed".to_owned());
        }
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|why| format!("WEBHOOK_URL: the system's certificates: {why}"))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(connector), url, key })
    }

    /// The target of these settings, if there is one. An empty variable counts as unset.
    ///
    /// # Errors
    /// As [`Target::new`].
    pub fn of_settings(url: Option<&Secret>, secret: Option<&Secret>) -> Result<Option<Self>, String> {
        match [url, secret].map(|setting| setting.map(Secret::expose).filter(|text| !text.is_empty())) {
            [Some(url), secret] => Self::new(url, secret.unwrap_or_default()).map(Some),
            [None, Some(_)] => Err("WEBHOOK_SECRET: expected WEBHOOK_URL beside it".to_owned()),
            [None, None] => Ok(None),
        }
    }

    /// Sends `warning`, which was found at `found`. All attempts have the same id and body, so that the receiver can
    /// tell a repetition.
    ///
    /// # Errors
    /// No attempt was answered with a status of success. The error names no more of the URL than its host.
    pub async fn send(&self, warning: &Warning, found: SystemTime) -> Result<(), String> {
        let found = clock::since_epoch(found);
        let body = warning.payload(&date(found)).to_string();
        let id = format!("msg_{:x}", Sha256::digest(format!("{}:{found}", warning.key())));
        let mut waits = WAITS.into_iter();
        loop {
            let Err(why) = self.attempt(&id, &body).await else { return Ok(()) };
            match waits.next() {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(format!("{}: {why}", self.url.host().unwrap_or_default())),
            }
        }
    }

    async fn attempt(&self, id: &str, body: &str) -> Result<(), String> {
        let timestamp = (clock::now().get() / 1_000).to_string();
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-signature", self.signature(id, &timestamp, body)?)
            .header("webhook-timestamp", timestamp)
            .body(Full::from(body.to_owned()))
            .map_err(|why| why.to_string())?;
        let answer = timeout(ANSWER_TIMEOUT, self.http.request(request)).await;
        let answer = answer.map_err(|_| format!("no answer in {} s", ANSWER_TIMEOUT.as_secs()))?;
        let response = answer.map_err(|why| last_cause(&why))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    /// The signature of a message: HMAC-SHA256 of its id, its timestamp and its body, with dots between them.
    fn signature(&self, id: &str, timestamp: &str, body: &str) -> Result<String, String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(|why| why.to_string())?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification.
        let target = Target::new("http://a/", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            target.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", r#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_bad_setting_is_named_and_not_shown() {
        let of = |url: &str, secret: &str| {
            let secrets = [url, secret].map(|text| text.parse::<Secret>().unwrap());
            Target::of_settings(Some(&secrets[0]), Some(&secrets[1])).map(|target| target.is_some())
        };
        assert_eq!(of("", ""), Ok(false));
        assert_eq!(of("https://hooks.example.com/sesame", "secret"), Ok(true));
        for (url, secret, name) in [
            ("hooks.example.com/sesame", "secret", "WEBHOOK_URL"),
            ("ftp://hooks.example.com/sesame", "secret", "WEBHOOK_URL"),
            ("https://hooks.example.com/sesame", "", "WEBHOOK_SECRET"),
            ("https://hooks.example.com/sesame", "whsec_sesame!", "WEBHOOK_SECRET"),
            ("", "sesame", "WEBHOOK_SECRET"),
        ] {
            let why = of(url, secret).unwrap_err();
            assert!(why.starts_with(name) && !why.contains("sesame"), "{why}");
        }
    }
}
