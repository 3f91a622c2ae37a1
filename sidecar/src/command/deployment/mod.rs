//! Deployments: files of Envoy, Istio, Envoy Gateway and Kubernetes, the filter in them, and what stands around it.
//!
//! [`documents`] reads files, [`find`] finds the filter, [`world`] is what all documents say together, and [`stands`]
//! where requests come to the filter. [`around`] checks its surroundings: its neighbours in a [`chain`], the [`routes`]
//! that switch it off, and the sidecar's [`tokens`]; [`gateway`] reads what Envoy Gateway adds. [`advice`] is about
//! what its configuration brings about that nobody may have meant. Nothing here connects to anything.

pub(super) mod advice;
pub(super) mod around;
mod beside;
pub(super) mod chain;
pub(super) mod documents;
pub(super) mod find;
mod gateway;
mod routes;
mod stands;
mod tokens;
pub(super) mod tree;
pub(super) mod world;

/// What is found about one place of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::command) struct Notes {
    /// What does not work.
    pub(in crate::command) problems: Vec<String>,
    /// What works, and may not be meant.
    pub(in crate::command) hints: Vec<String>,
}

impl Notes {
    /// Adds a problem at `place`.
    fn problem(&mut self, place: &str, what: impl AsRef<str>) {
        self.problems.push(format!("{place}: {}", what.as_ref()));
    }

    /// Adds a hint about `place`.
    fn hint(&mut self, place: &str, what: impl AsRef<str>) {
        self.hints.push(format!("{place}: {}", what.as_ref()));
    }
}
