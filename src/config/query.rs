//! What operators' commands ask of a configuration: whom and what it names.

use super::Config;
use crate::identity::{Identity, Source};
use crate::policy::{Access, Grant, Subject};

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

    fn subject(&self, grant: &Grant, id: Option<std::sync::Arc<str>>) -> Option<Subject> {
        match grant.access(id, false, self.dry_run) {
            Access::Limited(subject) => Some(subject),
            Access::Unlimited | Access::Rejected => None,
        }
    }
}
