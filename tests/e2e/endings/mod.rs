//! However a request ends, its reservation is settled once, to the cost that is known by then.

modules! {
    background,
    client,
    envoys_replies,
    proxy,
    upstream,
}

use crate::api::Api;
use crate::caller::Caller;
use reqwest::{Method, RequestBuilder};

/// A streamed request to `api` with a maximum of 60 tokens, under one of the prefixes of [`crate::routes`] or none.
fn stream(caller: &Caller, api: Api, prefix: &str) -> RequestBuilder {
    let path = format!("{prefix}{}", api.path());
    caller.request(Method::POST, &path).json(&api.streamed_hello(60, false))
}

/// The prompt tokens charged for a stream of `api` that breaks off: `reported` where the stream begins with its usage,
/// else the filter's own count.
fn prompt_of_part(api: Api, reported: u64) -> u64 {
    if api.begins_with_usage() { reported } else { api.hello_tokens() }
}

/// How often the mock's word occurs in this part of a stream.
pub fn words(text: &str) -> u64 {
    text.matches("token\"").count() as u64
}
