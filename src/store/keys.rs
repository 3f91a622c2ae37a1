//! The keys of both stores: those in Redis, and the local store's in Envoy's shared data.
//!
//! Redis keys begin with `llmrl:` and a hash tag, the scope in braces, so that Redis Cluster keeps all keys of a scope
//! together and one script can change them in one atomic step:
//!
//! | key                                                | type   | content                                   |
//! |----------------------------------------------------|--------|-------------------------------------------|
//! | `llmrl:{<scope>}:<identity>:<limit name>:<window>` | hash   | a counter, as `lua/window/` writes it     |
//! | `llmrl:{<scope>}:<identity>`                       | hash   | the index of the identity's counters      |
//! | `llmrl:{<scope>}:reservation:<id>`                 | string | the record of a reservation in this scope |
//!
//! `<window>` is [`Window::label`]. An index has one field for each counter, `<limit name>:<window>`, which holds
//! `<algorithm> <window_ms> <parameter> <limit>`. Every key expires.
//!
//! In Envoy's shared data, a key is `llmrl/<version>/<number of shards>/<shard>`. The version is that of the shard's
//! bytes. Another number of shards spreads the scopes in another way, and so begins with empty counters.

use crate::window::Window;

/// The version of a shard's bytes. Raise it whenever their meaning changes.
const SHARD_VERSION: u32 = 2;

/// The key of a counter.
pub fn counter(scope: &str, identity: &str, limit_name: &str, window: &Window) -> String {
    format!("llmrl:{{{scope}}}:{identity}:{}", index_field(limit_name, window))
}

/// The key of the index of an identity's counters.
pub fn index(scope: &str, identity: &str) -> String {
    format!("llmrl:{{{scope}}}:{identity}")
}

/// The field of a counter in its identity's index. A window's label has no colon, so that the field can be split again.
pub fn index_field(limit_name: &str, window: &Window) -> String {
    format!("{limit_name}:{}", window.label())
}

/// The name of the limit in a field of an index.
pub fn limit_name(index_field: &str) -> Option<&str> {
    index_field.rsplit_once(':').map(|(name, _)| name)
}

/// The key of a reservation's record in one scope.
pub fn record(scope: &str, id: &str) -> String {
    format!("llmrl:{{{scope}}}:reservation:{id}")
}

/// The key of one of the local store's `shards`.
pub fn shard(shards: u32, shard: u32) -> String {
    format!("llmrl/{SHARD_VERSION}/{shards}/{shard}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;

    #[test]
    fn keys_of_one_scope_share_their_hash_tag() {
        let window = Window::sliding(NonZeroMillis::MINUTE);
        assert_eq!(counter("a", "me", "gpt:4/requests", &window), "llmrl:{a}:me:gpt:4/requests:1m");
        assert_eq!(index("a", "me"), "llmrl:{a}:me");
        assert_eq!(record("a", "id"), "llmrl:{a}:reservation:id");
        assert_eq!(shard(64, 3), "llmrl/2/64/3");
    }

    #[test]
    fn an_index_field_names_its_limit() {
        let field = index_field("gpt:4/requests", &Window::calendar_month());
        assert_eq!((field.as_str(), limit_name(&field)), ("gpt:4/requests:1mo", Some("gpt:4/requests")));
        assert_eq!(limit_name("requests"), None);
    }
}
