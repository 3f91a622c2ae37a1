//! Decoders: header maps, Unicode, JSON that is read leniently, Server-Sent Events and other streams of objects,
//! content codings, the names that clients choose, the languages that they accept, and numbers of variable length.
//! Nothing here knows a limit or an API.

pub mod accept_language;
pub mod broken_off;
pub mod content_encoding;
pub mod form;
pub mod header_map;
pub mod indexed;
pub mod lenient;
pub mod loose_json;
pub mod media_type;
pub mod name;
pub mod objects;
pub mod outline;
pub mod sse;
pub mod transcode;
pub mod varint;
