//! However a request ends, its reservation is settled once, to what is known of its cost by then.

modules! {
    client,
    proxy,
    upstream,
}

use crate::api::Api;
use crate::caller::Caller;
use reqwest::{Method, RequestBuilder};

/// A stream of `api` that allows itself 60 tokens, under one of [`crate::routes`]' prefixes or none.
fn stream(caller: &Caller, api: Api, prefix: &str) -> RequestBuilder {
    let path = format!("{prefix}{}", api.path());
    caller.request(Method::POST, &path).json(&api.streamed_hello(60, false))
}

/// What a stream of `api` that does not come to its end is charged for its prompt: what it has told of it, which is
/// `told`, or else what was counted.
fn prompt_of_part(api: Api, told: u64) -> u64 {
    if api.begins_with_usage() { told } else { api.hello_tokens() }
}

/// How often the mock's word occurs in what has come of a stream.
pub fn words(text: &str) -> u64 {
    text.matches("token\"").count() as u64
}
