//! The errors of the store: Redis is unavailable, or it cannot answer this one question.

use redis::RedisError;
use std::sync::Arc;

/// Whether Redis will answer the same call with the same error whatever happens to it: the call or the key is at fault.
///
/// These are a script's own errors and those of a value of another type. All others have to do with the state of the
/// server, such as `OOM`, `READONLY`, `BUSY`, `LOADING` or `CLUSTERDOWN`. Redis 6 wraps what a script has met in an
/// error of its own, behind a dash.
pub fn is_permanent(error: &RedisError) -> bool {
    if !matches!(error.code(), Some("ERR" | "WRONGTYPE" | "CROSSSLOT")) {
        return false;
    }
    let text = error.to_string();
    let mut codes = text.split([' ', ':']).filter_map(|word| word.strip_prefix('-'));
    let is_code = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    !codes.any(|code| is_code(code) && !matches!(code, "ERR" | "WRONGTYPE")) && !text.contains("cluster node")
}

/// Redis did not answer a batch, which may or may not have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection.
    #[error("Redis is unavailable: {0}")]
    NotConnected(Arc<str>),
    /// The connection broke, and no other could be opened.
    #[error("the connection to Redis broke: {0}")]
    Broke(Arc<str>),
    /// Redis did not answer in time.
    #[error("Redis did not answer within {0} ms")]
    NoAnswer(u128),
}

/// Why an owner's windows cannot be read or reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Redis is unavailable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Redis answered a command with an error.
    #[error("Redis: {0}")]
    Redis(String),
    /// The owner cannot be part of a key.
    #[error("{0}")]
    Owner(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{FromRedisValue, Value, parse_redis_value};

    fn error(text: &str) -> RedisError {
        let reply = parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
        let reply = reply.extract_error().and_then(|value: Value| Ok(String::from_redis_value(value)?));
        reply.unwrap_err()
    }

    #[test]
    fn only_errors_of_the_call_or_the_key_are_permanent() {
        for (text, permanent) in [
            ("ERR the reservation has 1 windows, the settlement 2", true),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
            ("ERR user_script:7: attempt to compare nil with number script: ab12, on @user_script:7.", true),
            (
                "ERR Error running script (call to f_ab): @user_script:1: -WRONGTYPE Operation against a key",
                true,
            ),
            ("ERR Error running script (call to f_ab): @user_script:1: -OOM command not allowed", false),
            ("OOM command not allowed when used memory > 'maxmemory'.", false),
            ("READONLY You can't write against a read only replica.", false),
            ("BUSY Redis is busy running a script.", false),
            ("LOADING Redis is loading the dataset in memory", false),
            ("CLUSTERDOWN The cluster is down", false),
            ("MISCONF Redis is configured to save RDB snapshots", false),
            ("NOREPLICAS Not enough good replicas to write.", false),
            ("NOPERM this user has no permissions", false),
            ("ERR Script attempted to access a non local key in a cluster node", false),
        ] {
            assert_eq!(is_permanent(&error(text)), permanent, "{text}");
        }
    }
}
