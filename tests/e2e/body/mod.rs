//! Nothing in a request's body gets past: whatever some upstream reads in it is limited, and what nobody reads is
//! charged as the most that it could be.

modules! {
    codings,
    models,
    readers,
    steps,
    unreadable,
}
