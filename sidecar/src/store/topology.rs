//! The Redis that `REDIS_URL` names: one server, a cluster, or the master that sentinels know.
//!
//! It opens connections, and describes them without the password. [`super::link`] keeps a connection.

use super::access::Access;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisResult,
    TlsCertificates,
};
use std::fmt;
use std::time::Duration;
use url::Url;

/// The port of a sentinel that does not name its own (Redis's default).
const SENTINEL_PORT: u16 = 26379;

/// One server, a cluster, or the master that sentinels know.
pub struct Topology {
    kind: Kind,
    /// The addresses, without user and password.
    description: String,
}

enum Kind {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    // Locked because a query to the sentinels changes their order.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
}

/// An open connection, cheap to clone.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all servers of a cluster.
    Cluster(ClusterConnection),
}

/// Why `REDIS_URL` is invalid. It never shows the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL: {0}")]
pub struct BadUrl(String);

impl From<redis::RedisError> for BadUrl {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

impl Topology {
    /// Reads `redis://`, `rediss://`, `unix://`; several of the first two, separated by commas, for a cluster;
    /// `redis+sentinel://[user:password@]host:port,host:port/service[/db]` (`rediss+sentinel://` with TLS to the master
    /// and the sentinels) for sentinels. User and password are the master's.
    ///
    /// A connection to a cluster's node has `connect_timeout` to open, and a node's answer has `timeout` to arrive.
    ///
    /// # Errors
    /// The URL has none of these forms.
    pub fn parse(text: &str, timeout: Duration, connect_timeout: Duration) -> Result<Self, BadUrl> {
        Self::open(text, Access::default(), timeout, connect_timeout)
    }

    /// As [`Topology::parse`], with certificates and a password that the URL does not have.
    ///
    /// # Errors
    /// The URL has none of these forms, or has a password too, or is one without TLS although there are certificates;
    /// or the certificates are no good.
    pub fn open(
        text: &str,
        access: Access,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Result<Self, BadUrl> {
        if let Some((scheme, rest)) = text.split_once("+sentinel://") {
            return sentinel(scheme, rest, access);
        }
        let urls: Vec<&str> = text.split(',').map(str::trim).collect();
        let nodes = urls
            .iter()
            .map(|url| {
                url.into_connection_info().map_err(|why| {
                    BadUrl(format!("{why}: expected redis://, rediss://, unix:// or redis+sentinel://"))
                })
            })
            .map(|node| with_password(node?, access.password.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        let is_tls = nodes.iter().all(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }));
        check_tls(access.certificates.as_ref(), is_tls)?;
        let description = nodes.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>().join(",");
        let kind = match nodes.as_slice() {
            [node] => {
                let node = node.clone().set_tcp_settings(at_once());
                Kind::Single(Box::new(match access.certificates {
                    Some(certificates) => Client::build_with_tls(node, certificates)?,
                    None => Client::open(node)?,
                }))
            }
            _ => {
                let mut builder = ClusterClient::builder(nodes)
                    .tcp_settings(at_once())
                    .connection_timeout(connect_timeout)
                    .response_timeout(timeout)
                    .overall_response_timeout(Some(timeout));
                if let Some(certificates) = access.certificates {
                    builder = builder.certs(certificates);
                }
                Kind::Cluster(Box::new(builder.build()?))
            }
        };
        Ok(Self { kind, description })
    }

    /// Whether it is a cluster.
    pub fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Opens a connection that buffers up to `buffer` commands before their senders wait. The caller limits the time
    /// for opening it and for an answer.
    ///
    /// # Errors
    /// No server answers there, or the server is not a Redis; or no sentinel knows the master.
    pub async fn connect(&self, buffer: usize) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(buffer);
        match &self.kind {
            Kind::Single(client) => {
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Kind::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            Kind::Sentinel(client) => {
                let mut client = client.lock().await;
                client.get_async_connection_with_config(&config).await.map(Connection::Single)
            }
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Single(_) => "server",
            Kind::Cluster(_) => "cluster",
            Kind::Sentinel(_) => "sentinel",
        };
        write!(f, "{kind} {}", self.description)
    }
}

/// The settings of a connection that sends each batch at once. Otherwise the system keeps a batch back until the one
/// before has arrived, which takes a round trip.
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// `node` with the password of a file, if there is one.
fn with_password(node: ConnectionInfo, password: Option<&str>) -> Result<ConnectionInfo, BadUrl> {
    let Some(password) = password else { return Ok(node) };
    let settings = node.redis_settings();
    if settings.password().is_some() {
        return Err(BadUrl("it has a password, and so has REDIS_PASSWORD_FILE".to_owned()));
    }
    let settings = settings.clone().set_password(password);
    Ok(node.set_redis_settings(settings))
}

/// Checks that certificates are used if there are any.
fn check_tls(certificates: Option<&TlsCertificates>, is_tls: bool) -> Result<(), BadUrl> {
    if certificates.is_some() && !is_tls {
        let why = "expected rediss:// or rediss+sentinel://, because REDIS_CA or REDIS_CERT is set";
        return Err(BadUrl(why.to_owned()));
    }
    Ok(())
}

/// Reads the rest of a URL after `<scheme>+sentinel://`.
fn sentinel(scheme: &str, rest: &str, access: Access) -> Result<Topology, BadUrl> {
    const FORM: &str = "expected redis+sentinel://host:port,host:port/service/db";
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        _ => return Err(BadUrl(FORM.to_owned())),
    };
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let (hosts, path) = rest.split_once('/').ok_or_else(|| BadUrl(FORM.to_owned()))?;
    let (service, db) = path.split_once('/').unwrap_or((path, "0"));
    let db: i64 = db.parse().map_err(|_| BadUrl(format!("the database is not a number: {FORM}")))?;
    if service.is_empty() {
        return Err(BadUrl(format!("the service is missing: {FORM}")));
    }
    let sentinels = hosts.split(',').map(|host| address(host, tls)).collect::<Result<Vec<_>, _>>()?;
    let description = format!("{hosts}/{service}");
    let mut builder = SentinelClientBuilder::new(sentinels, service, SentinelServerType::Master)?
        .set_client_to_redis_db(db)
        .set_client_to_redis_tcp_settings(at_once());
    if tls {
        builder = builder
            .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure);
    }
    check_tls(access.certificates.as_ref(), tls)?;
    if let Some(certificates) = access.certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    // The library reads the credentials from a URL of one server, so that both forms decode them alike.
    let credentials = format!("redis://{user}@localhost").into_connection_info()?;
    let credentials = with_password(credentials, access.password.as_deref())?;
    if let Some(name) = credentials.redis_settings().username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = credentials.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    let client = Box::new(tokio::sync::Mutex::new(builder.build()?));
    Ok(Topology { kind: Kind::Sentinel(client), description })
}

/// The address of one sentinel, `host` or `host:port`.
fn address(host: &str, tls: bool) -> Result<ConnectionAddr, BadUrl> {
    let url =
        Url::parse(&format!("redis://{host}")).map_err(|why| BadUrl(format!("sentinel {host}: {why}")))?;
    let port = url.port().unwrap_or(SENTINEL_PORT);
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| BadUrl("a sentinel has no host".to_owned()))?.to_owned();
    Ok(if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let second = Duration::from_secs(1);
        Topology::parse(text, second, second).map(|it| it.to_string()).map_err(|why| why.to_string())
    }

    #[test]
    fn every_form_is_read_and_shown_without_its_password() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "server 127.0.0.1:6379"),
            ("redis://user:secret@cache:7000/2", "server cache:7000"),
            ("rediss://:secret@cache", "server cache:6379"),
            ("unix:///run/redis.sock?db=1", "server /run/redis.sock"),
            ("redis://:secret@a:1,redis://:secret@b:2", "cluster a:1,b:2"),
            ("redis+sentinel://a,b:2/main", "sentinel a,b:2/main"),
            ("redis+sentinel://me:secret@a:1,b:2/main/3", "sentinel a:1,b:2/main"),
            ("rediss+sentinel://a:1/main/3", "sentinel a:1/main"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_showing_a_password() {
        for text in [
            "",
            "localhost",
            "http://me:secret@cache",
            "redis://me:secret@",
            "redis://a,",
            "redis+sentinel://me:secret@a:1",
            "redis+sentinel://me:secret@a:1/",
            "redis+sentinel://me:secret@a:1/main/x",
            "redis+sentinel://me:secret@/main",
            "http+sentinel://a/main",
        ] {
            let why = parse(text).expect_err(text);
            assert!(why.starts_with("REDIS_URL: ") && !why.contains("secret"), "{text}: {why}");
        }
    }
}
