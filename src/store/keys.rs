//! The keys of both stores: those in Redis, and the local store's in Envoy's shared data.
//!
//! Redis keys begin with the version of their layout, the namespace of the configuration, and a hash tag: the scope in
//! braces. The tag lets Redis Cluster keep all keys of a scope together, so that one script can change them in one
//! atomic step. `<space>` is `llmrl:<layout>:<namespace>`:
//!
//! | key                                                  | type   | content                                   |
//! |------------------------------------------------------|--------|-------------------------------------------|
//! | `<space>:{<scope>}:<identity>:<limit name>:<window>` | hash   | a counter, as `lua/window/` writes it     |
//! | `<space>:{<scope>}:<identity>`                       | hash   | the index of the identity's counters      |
//! | `<space>:{<scope>}:audit`                            | list   | the grants and refunds made by hand       |
//! | `<counter>:warned`                                   | string | that the webhook has its warning          |
//! | `<counter>:warned-reserved`                          | string | the same, of what is reserved             |
//! | `<space>:{<scope>}:reservation:<id>`                 | string | the record of a reservation in this scope |
//! | `<space>:{<hash>}:response`                          | string | an open response, or the usage of one     |
//! | `<space>:{prompts}:votes`                            | hash   | how far counts of prompts were off        |
//! | `<space>:{prompts}:recent`                           | zset   | when each of its fields was written last  |
//! | `<space>:{prompts}:factors`                          | hash   | what that makes of it                     |
//! | `<space>:{probe}`                                    | string | nothing: whether Redis takes writes       |
//!
//! `<window>` is [`Window::label`]. An index has one field for each counter, `<limit name>:<window>`, which holds
//! `<algorithm> <window_ms> <parameter> <limit>`. A counter's grants are a field of its hash. `<hash>` is the SHA-256
//! of a response's id. Every key expires.
//!
//! In Envoy's shared data, a key is `llmrl/<version>/<namespace>/<number of shards>/<shard>`. The version is that of
//! the shard's bytes. Another number of shards spreads the scopes in another way, and so begins with empty counters.
//! `llmrl/<version>/<namespace>/configured/<shard>` has what the configuration names, and `.../seed` places scopes.
//! `llmrl-responses/<version>/<namespace>/<shard>` has open responses, and `llmrl-prompts/<version>/<namespace>` votes.
//! [`NOTICES`] and [`ROLL`] are for all namespaces.

use crate::window::Window;

/// The version of the keys and values in Redis. Raise it whenever their meaning changes: what has another version is
/// not read, and expires.
const LAYOUT: u32 = 3;

/// The version of a shard's bytes. Raise it whenever their meaning changes.
const SHARD_VERSION: u32 = 5;

/// The version of the bytes of open responses.
const RESPONSES_VERSION: u32 = 2;

/// The version of the bytes of votes about prompts.
const VOTES_VERSION: u32 = 1;

/// The key of the [notices](super::Noticeboard) in Envoy's shared data, with the version of their bytes.
pub const NOTICES: &str = "llmrl/notices/1";

/// The key of the [roll](super::roll) in Envoy's shared data, with the version of its bytes.
pub const ROLL: &str = "llmrl/roll/2";

/// The longest namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 64;

/// Whether `text` is a namespace. Its characters can neither end a part of a key nor begin a hash tag.
pub fn is_namespace(text: &str) -> bool {
    text.len() <= MAX_NAMESPACE_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// The keys in Redis of one namespace.
#[derive(Clone, Copy, Debug)]
pub struct Keyspace<'a> {
    namespace: &'a str,
}

impl<'a> Keyspace<'a> {
    /// The keys of `namespace`.
    pub const fn new(namespace: &'a str) -> Self {
        Self { namespace }
    }

    /// The namespace.
    pub const fn namespace(self) -> &'a str {
        self.namespace
    }

    fn scope(self, scope: &str) -> String {
        format!("llmrl:{LAYOUT}:{}:{{{scope}}}", self.namespace)
    }

    /// The key of a counter.
    pub fn counter(self, scope: &str, identity: &str, limit_name: &str, window: &Window) -> String {
        format!("{}:{identity}:{}", self.scope(scope), index_field(limit_name, window))
    }

    /// The key of the list of grants and refunds in a scope.
    pub fn audit(self, scope: &str) -> String {
        format!("{}:audit", self.scope(scope))
    }

    /// The key that says that a counter's warning has been reported.
    pub fn warned(self, scope: &str, identity: &str, limit_name: &str, window: &Window) -> String {
        format!("{}:warned", self.counter(scope, identity, limit_name, window))
    }

    /// The key that says that the warning of what is reserved in a counter has been reported, or is needless.
    pub fn warned_reserved(self, scope: &str, identity: &str, limit_name: &str, window: &Window) -> String {
        format!("{}-reserved", self.warned(scope, identity, limit_name, window))
    }

    /// The key of the index of an identity's counters.
    pub fn index(self, scope: &str, identity: &str) -> String {
        format!("{}:{identity}", self.scope(scope))
    }

    /// The key of a reservation's record in one scope.
    pub fn record(self, scope: &str, id: &str) -> String {
        format!("{}:reservation:{id}", self.scope(scope))
    }

    /// The key that is written to see whether Redis takes writes.
    pub fn probe(self) -> String {
        self.scope("probe")
    }

    /// The keys of what is learned about the counts of prompts, as `lua/learn.lua` has them: in a slot of their own.
    pub fn prompts(self) -> [String; 3] {
        ["votes", "recent", "factors"].map(|name| format!("{}:{name}", self.scope("prompts")))
    }

    /// The key under which an open response and its usage meet.
    pub fn response(self, hash: &str) -> String {
        format!("{}:response", self.scope(hash))
    }
}

/// The field of a counter in its identity's index. A window's label has no colon, so that the field can be split again.
pub fn index_field(limit_name: &str, window: &Window) -> String {
    format!("{limit_name}:{}", window.label())
}

/// The name of the limit in a field of an index.
pub fn limit_name(index_field: &str) -> Option<&str> {
    index_field.rsplit_once(':').map(|(name, _)| name)
}

/// The key of the seed that places scopes in shards, in this process.
pub fn seed(namespace: &str) -> String {
    format!("llmrl/{SHARD_VERSION}/{namespace}/seed")
}

/// The key of one of the shards in `namespace` for what the configuration names.
pub fn configured_shard(namespace: &str, shard: u32) -> String {
    format!("llmrl/{SHARD_VERSION}/{namespace}/configured/{shard}")
}

/// The key of one of the local store's `shards` in `namespace` for identities that no configuration names.
pub fn shard(namespace: &str, shards: u32, shard: u32) -> String {
    format!("llmrl/{SHARD_VERSION}/{namespace}/{shards}/{shard}")
}

/// The key of the votes about the counts of prompts in `namespace`.
pub fn votes(namespace: &str) -> String {
    format!("llmrl-prompts/{VOTES_VERSION}/{namespace}")
}

/// The key of one of the local store's shards of open responses in `namespace`.
pub fn responses(namespace: &str, shard: u32) -> String {
    format!("llmrl-responses/{RESPONSES_VERSION}/{namespace}/{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;

    #[test]
    fn keys_of_one_scope_share_their_hash_tag() {
        let window = Window::sliding(NonZeroMillis::MINUTE);
        let keys = Keyspace::new("");
        assert_eq!(keys.counter("a", "me", "gpt:4/requests", &window), "llmrl:3::{a}:me:gpt:4/requests:1m");
        assert_eq!(keys.warned("a", "me", "requests", &window), "llmrl:3::{a}:me:requests:1m:warned");
        let reserved = keys.warned_reserved("a", "me", "requests", &window);
        assert_eq!(reserved, "llmrl:3::{a}:me:requests:1m:warned-reserved");
        assert_eq!(keys.index("a", "me"), "llmrl:3::{a}:me");
        assert_eq!(keys.audit("a"), "llmrl:3::{a}:audit");
        assert_eq!(keys.record("a", "id"), "llmrl:3::{a}:reservation:id");
        assert_eq!(Keyspace::new("staging").index("a", "me"), "llmrl:3:staging:{a}:me");
        assert_eq!(keys.response("ab12"), "llmrl:3::{ab12}:response");
        assert_eq!(keys.probe(), "llmrl:3::{probe}");
        assert_eq!(keys.prompts()[0], "llmrl:3::{prompts}:votes");
        assert_eq!(votes("staging"), "llmrl-prompts/1/staging");
        assert_eq!(responses("staging", 3), "llmrl-responses/2/staging/3");
        assert_eq!(shard("staging", 64, 3), "llmrl/5/staging/64/3");
    }

    #[test]
    fn a_namespace_cannot_reach_into_another_part_of_a_key() {
        for text in ["", "staging", "eu-1.prod_2", &"x".repeat(MAX_NAMESPACE_BYTES)] {
            assert!(is_namespace(text), "{text}");
        }
        for text in ["a:b", "{a}", "a b", "a/b", "ä", "a\n", &"x".repeat(MAX_NAMESPACE_BYTES + 1)] {
            assert!(!is_namespace(text), "{text}");
        }
    }

    #[test]
    fn an_index_field_names_its_limit() {
        let field = index_field("gpt:4/requests", &Window::calendar_month());
        assert_eq!((field.as_str(), limit_name(&field)), ("gpt:4/requests:1mo", Some("gpt:4/requests")));
        assert_eq!(limit_name("requests"), None);
    }
}
