//! Limits apply wherever a request goes: to endpoints that are no LLM's, to every spelling of a path, and to
//! connections that become WebSockets.

modules! {
    others,
    rejected,
    spelling,
    websockets,
}
