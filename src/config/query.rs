//! What operators' commands ask of a configuration: whom and what it names.

use super::Config;
use crate::identity::{Claim, Identity, Source};
use crate::policy::{Access, Grant, Subject};
use crate::sort;
use std::collections::BTreeSet;

impl Config {
    /// Whether the configuration names the key of `identity`.
    pub fn names(&self, identity: &Identity) -> bool {
        self.keys.contains_key(identity.key_id())
    }

    /// The keys that are limited, as subjects with their ids in the store.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.keys.iter().filter_map(|(id, grant)| self.subject(grant, Some(self.hashed(id))))
    }

    /// Everybody whom the configuration does not name, if they are limited; the id is that of those who show none.
    pub fn strangers(&self) -> Option<Subject> {
        self.subject(&self.default, None)
    }

    /// The places in a request that show who sent it.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The places in a request that say a part of its limits, each once.
    pub fn claims(&self) -> BTreeSet<&Claim> {
        let grants = self.keys.values().chain([&self.default]);
        sort::collected(grants.flat_map(Grant::claims).map(|claim| &**claim))
    }

    fn subject(&self, grant: &Grant, id: Option<std::sync::Arc<str>>) -> Option<Subject> {
        match grant.access(id, false, self.dry_run) {
            Access::Limited(subject) => Some(subject),
            Access::Unlimited | Access::Rejected => None,
        }
    }
}
