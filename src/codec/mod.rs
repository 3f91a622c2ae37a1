//! Decoders: Unicode, JSON that is read leniently, Server-Sent Events, content codings, and the languages that a client
//! accepts. Nothing here knows a limit or an API.

pub mod accept_language;
pub mod content_encoding;
pub mod form;
pub mod lenient;
pub mod loose_json;
pub mod sse;
pub mod transcode;
