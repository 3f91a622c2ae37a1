//! What becomes of a request that does not fit under a limit.

use std::sync::Arc;

/// What becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnLimit {
    /// It is refused at once.
    Refuse,
    /// It waits as long as the limit lets it, which may be not at all, and is refused then.
    #[default]
    Wait,
    /// It goes on, and is charged although that takes the counter above the limit.
    Continue(Arc<Continuation>),
}

/// How a request goes on that is over a limit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// A header that it gets, by which Envoy may choose another route.
    pub header: Option<RouteHeader>,
    /// The model that its body names from then on.
    pub model: Option<Arc<str>>,
}

/// A header of requests that no client can set: by it, Envoy chooses a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteHeader {
    /// Its name, in lower case.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<str>,
}
