//! What Redis says of itself: how fast it answers, its clock, and the settings by which it may lose counters.
//!
//! An ACL may deny any of the commands; the report then lacks what they tell, and says so.

use super::Store;
use super::error::Unavailable;
use crate::clock;
use llm_rate_limit::quantity::Millis;
use redis::{Cmd, FromRedisValue, RedisResult, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// The answer to `GET /v1/store`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where Redis is, without credentials.
    pub redis: String,
    /// How long a `PING` took, in microseconds.
    pub ping_us: u64,
    /// The sidecar's clock, in milliseconds since the epoch.
    pub time_ms: Millis,
    /// Each server that told of itself, by its address; one of the empty address if there is only one.
    pub servers: BTreeMap<String, Server>,
    /// What the servers did not tell, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
}

/// What a server says of itself, as far as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its clock, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<Millis>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `master` or `slave`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its replicas that are connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
    /// Bytes in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_memory: Option<u64>,
    /// The most bytes; 0 without a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxmemory: Option<u64>,
    /// What it does when it is full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxmemory_policy: Option<String>,
    /// Keys that it has evicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evicted_keys: Option<u64>,
    /// Whether it writes an append-only file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appendonly: Option<bool>,
    /// When it brings that to the disk: `always`, `everysec` or `no`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub appendfsync: Option<String>,
    /// When it saves a snapshot; empty if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save: Option<String>,
}

impl Store {
    /// Asks Redis about itself.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub async fn report(&self) -> Result<Report, Unavailable> {
        let began = Instant::now();
        self.link().send(&[redis::cmd("PING")]).await?;
        let ping_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let config = |name: &str| redis::cmd("CONFIG").arg("GET").arg(name).clone();
        let commands = [redis::cmd("TIME"), redis::cmd("INFO"), config("save"), config("appendfsync")];
        // A managed Redis may close the connection on a command that it does not allow; the next one is another.
        let replies = self.link().send(&commands).await?;
        let mut report = Report {
            redis: self.link().place().to_owned(),
            ping_us,
            time_ms: clock::now(),
            ..Report::default()
        };
        for (command, reply) in commands.iter().zip(replies) {
            report.read(command, reply);
        }
        Ok(report)
    }
}

impl Report {
    /// Adds what a server did not tell.
    fn miss(&mut self, untold: String) {
        if !self.untold.contains(&untold) {
            self.untold.push(untold);
        }
    }

    /// Adds what the `reply` to `command` tells.
    fn read(&mut self, command: &Cmd, reply: RedisResult<Value>) {
        let name = name(command);
        let value = match reply {
            Ok(value) => value,
            Err(why) => return self.miss(format!("{name}: {why}")),
        };
        // A cluster answers with the reply of each server, by its address.
        let is_of_servers =
            |key: &Value| String::from_redis_value(key.clone()).is_ok_and(|key| key.contains(':'));
        match value {
            Value::Map(replies) if replies.iter().all(|(key, _)| is_of_servers(key)) => {
                for (address, reply) in replies {
                    let address = String::from_redis_value(address).unwrap_or_default();
                    self.servers.entry(address).or_default().read(&name, reply);
                }
            }
            value => self.servers.entry(String::new()).or_default().read(&name, value),
        }
    }
}

impl Server {
    fn read(&mut self, command: &str, reply: Value) {
        match command {
            "TIME" => {
                let time = <(u64, u64)>::from_redis_value(reply).ok();
                self.time_ms = time.map(|(seconds, micros)| Millis::new(seconds * 1_000 + micros / 1_000));
            }
            "INFO" => self.info(&String::from_redis_value(reply).unwrap_or_default()),
            _ => {
                let mut settings = BTreeMap::<String, String>::from_redis_value(reply).unwrap_or_default();
                if let Some(save) = settings.remove("save") {
                    self.save = Some(save);
                }
                if let Some(appendfsync) = settings.remove("appendfsync") {
                    self.appendfsync = Some(appendfsync);
                }
            }
        }
    }

    /// Reads the lines of `INFO`.
    fn info(&mut self, text: &str) {
        for (name, value) in text.lines().filter_map(|line| line.trim_end().split_once(':')) {
            let number = || value.parse::<u64>().ok();
            match name {
                "valkey_version" => self.version = Some(format!("Valkey {value}")),
                // Valkey has both, for those who know only Redis.
                "redis_version" if self.version.is_none() => self.version = Some(format!("Redis {value}")),
                "role" => self.role = Some(value.to_owned()),
                "connected_slaves" => self.replicas = number(),
                "used_memory" => self.used_memory = number(),
                "maxmemory" => self.maxmemory = number(),
                "maxmemory_policy" => self.maxmemory_policy = Some(value.to_owned()),
                "evicted_keys" => self.evicted_keys = number(),
                "aof_enabled" => self.appendonly = Some(value == "1"),
                _ => {}
            }
        }
    }
}

/// The name of `command`, without its arguments.
fn name(command: &Cmd) -> String {
    let first = command.args_iter().next();
    match first {
        Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn a_server_tells_what_it_is_asked() {
        let mut report = Report::default();
        let info = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nconnected_slaves:2\r\nmaxmemory:100\r\n\
                    maxmemory_policy:allkeys-lru\r\naof_enabled:1\r\nevicted_keys:7\r\nused_memory:50\r\n";
        report.read(&redis::cmd("INFO"), Ok(bulk(info)));
        report.read(&redis::cmd("TIME"), Ok(Value::Array(vec![bulk("17"), bulk("5000")])));
        report.read(redis::cmd("CONFIG").arg("GET"), Ok(Value::Array(vec![bulk("save"), bulk("")])));
        let server = &report.servers[""];
        assert_eq!((server.version.as_deref(), server.replicas), (Some("Redis 7.0.15"), Some(2)));
        assert_eq!((server.maxmemory_policy.as_deref(), server.maxmemory), (Some("allkeys-lru"), Some(100)));
        assert_eq!(
            (server.appendonly, server.save.as_deref(), server.evicted_keys),
            (Some(true), Some(""), Some(7))
        );
        assert_eq!(server.time_ms, Some(Millis::new(17_005)));
    }

    #[test]
    fn a_cluster_answers_for_each_server_and_a_denied_command_is_untold() {
        let mut report = Report::default();
        let info =
            |role: &str| bulk(&format!("role:{role}\r\nvalkey_version:8.1.0\r\nredis_version:7.2.4\r\n"));
        let of_servers =
            vec![(bulk("10.0.0.1:7000"), info("master")), (bulk("10.0.0.2:7000"), info("slave"))];
        report.read(&redis::cmd("INFO"), Ok(Value::Map(of_servers)));
        assert_eq!(report.servers["10.0.0.2:7000"].role.as_deref(), Some("slave"));
        assert_eq!(report.servers["10.0.0.1:7000"].version.as_deref(), Some("Valkey 8.1.0"));
        let denied = redis::RedisError::from((redis::ErrorKind::Extension, "no permissions to run CONFIG"));
        report.read(redis::cmd("CONFIG").arg("GET"), Err(denied));
        assert!(report.untold[0].starts_with("CONFIG: no permissions"), "{:?}", report.untold);
    }
}
