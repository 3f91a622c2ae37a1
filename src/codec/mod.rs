//! Decoders: lenient JSON, Server-Sent Events, content codings, and the languages that a client accepts. Nothing here
//! knows a limit or an API.

pub mod accept_language;
pub mod broken_off;
pub mod content_encoding;
pub mod lenient;
pub mod outline;
pub mod sse;
