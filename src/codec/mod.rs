//! From bytes to meaning, with no limits known: JSON that is read leniently, server-sent events, content codings, and
//! the languages that a client accepts.

pub mod accept_language;
pub mod content_encoding;
pub mod lenient;
pub mod sse;
