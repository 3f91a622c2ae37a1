//! A real redis-server: alone, in a cluster, or behind a sentinel. It leaves no file behind.
//!
//! The environment variable `REDIS_BIN` chooses another binary, such as Valkey's; the default is `redis-server`.

use crate::process::{Process, free_port};
use nix::sys::signal::Signal;
use redis::{Client, Connection, FromRedisValue};
use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to become ready.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How many slots a cluster has.
pub const SLOTS: usize = 16_384;

/// A running redis-server; killed when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    /// Its working directory; a node of a cluster writes a file there.
    directory: TempDir,
}

impl Redis {
    /// Starts a server on a free port.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server on a free port with more flags (`--name value` pairs).
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::launched(flags, Vec::new())
    }

    /// Starts a server on a free port with more environment variables.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_in(environment: Vec<(String, String)>) -> Self {
        Self::launched(&[], environment)
    }

    fn launched(flags: &[&str], environment: Vec<(String, String)>) -> Self {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let process = launch(port, &flags, &environment, directory.path());
        Self { process, port, flags, environment, directory }
    }

    /// Its TCP port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, without a password.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection for the test itself.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn connection(&self) -> Connection {
        Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// The reply to a command given as words.
    ///
    /// # Panics
    /// If the reply is an error, or not a `T`.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, args) = words.split_first().unwrap();
        let mut command = redis::cmd(name);
        command.arg(args);
        command.query(&mut self.connection()).unwrap_or_else(|why| panic!("{words:?}: {why}"))
    }

    /// Starts a replica of this server, and waits until it has all data.
    ///
    /// # Panics
    /// If it does not start or catch up.
    pub fn replica(&self) -> Self {
        let replica = Self::start_with(&["--replicaof", "127.0.0.1", &self.port.to_string()]);
        self.wait_for_replica();
        replica
    }

    /// Waits until a replica has all that was written so far.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub fn wait_for_replica(&self) {
        self.wait_for_replica_online();
        // WAIT counts the writes of its own connection.
        let mut connection = self.connection();
        let () = redis::cmd("SET").arg("mark").arg(1).arg("PX").arg(1).query(&mut connection).unwrap();
        let copies: u64 = redis::cmd("WAIT").arg(1).arg(60_000).query(&mut connection).unwrap();
        assert_eq!(copies, 1, "the replica has not all writes");
    }

    fn wait_for_replica_online(&self) {
        let deadline = Instant::now() + STARTS_WITHIN;
        while !self.ask::<String>(&["INFO", "replication"]).contains("state=online") {
            assert!(Instant::now() < deadline, "the replica does not catch up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a node of a cluster.
    fn start_node() -> Self {
        if chooses_bus() {
            Self::start_with(&[&NODE[..], &["--cluster-port", &free_port().to_string()]].concat())
        } else {
            Self::start_with(&NODE)
        }
    }

    /// Makes this node of a cluster serve these slots.
    ///
    /// # Panics
    /// If it does not take them.
    pub fn serve(&self, slots: Range<usize>) {
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
        self.ask::<()>(&words.collect::<Vec<_>>());
    }

    /// Makes this node of a cluster know another.
    fn meet(&self, node: &Self) {
        let chosen = node.flags.iter().position(|flag| flag == "--cluster-port");
        let bus = chosen.map_or_else(|| (node.port + 10_000).to_string(), |at| node.flags[at + 1].clone());
        self.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus]);
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it. Its data are lost, unless its flags make it keep them.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Removes all that it has kept, while it does not run.
    ///
    /// # Panics
    /// If that fails.
    pub fn lose_data(&self) {
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }

    /// Starts it again on the same port, with no other data than its flags made it keep.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.process = launch(self.port, &self.flags, &self.environment, self.directory.path());
    }

    /// Keeps it from answering until [`Redis::thaw`], while its connections stay open.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets it answer again, including all that it has received meanwhile.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }
}

/// Three masters that share the slots; killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// Starts it and waits until every node serves every slot.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start() -> Self {
        let nodes: Vec<Redis> = (0..3).map(|_| Redis::start_node()).collect();
        let slots = SLOTS / nodes.len();
        for (at, node) in nodes.iter().enumerate() {
            let first = at * slots;
            node.serve(first..if at + 1 == nodes.len() { SLOTS } else { first + slots });
        }
        let (first, others) = nodes.split_first().unwrap();
        for node in others {
            first.meet(node);
        }
        let deadline = Instant::now() + STARTS_WITHIN;
        let whole = |node: &Redis| {
            let info: String = node.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        while !nodes.iter().all(whole) {
            assert!(Instant::now() < deadline, "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { nodes }
    }

    /// The URLs of all nodes, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Kills a node; its data are lost.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a replica of a node, and waits until it has all data and every node knows it.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn replica(&self, of: usize) -> Redis {
        let master = &self.nodes[of];
        let replica = Redis::start_node();
        master.meet(&replica);
        let id: String = master.ask(&["CLUSTER", "MYID"]);
        let deadline = Instant::now() + STARTS_WITHIN;
        while !replica.ask::<String>(&["CLUSTER", "NODES"]).contains(&id) {
            assert!(Instant::now() < deadline, "the replica does not meet the cluster");
            std::thread::sleep(Duration::from_millis(50));
        }
        replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]);
        let own: String = replica.ask(&["CLUSTER", "MYID"]);
        let knows = |node: &Redis| {
            let nodes: String = node.ask(&["CLUSTER", "NODES"]);
            nodes.lines().any(|line| line.starts_with(&own) && line.contains("slave") && line.contains(&id))
        };
        while !self.nodes.iter().all(knows) {
            assert!(Instant::now() < deadline, "the cluster does not know the replica");
            std::thread::sleep(Duration::from_millis(50));
        }
        master.wait_for_replica_online();
        replica
    }
}

/// A sentinel that watches one master; killed when dropped.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    // Dropped in this order: the process writes into the directory until it ends.
    _process: Process,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts one that calls `master` by `service`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(service: &str, master: &Redis) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        let lines = [
            format!("sentinel monitor {service} 127.0.0.1 {} 1", master.port),
            format!("sentinel down-after-milliseconds {service} 1000"),
            format!("sentinel failover-timeout {service} 5000"),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        let mut command = server();
        command.arg(&file).args(["--sentinel", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        let mut process = Process::start("sentinel", command);
        process.wait_until("ready", STARTS_WITHIN, |_| answers(port));
        Self { port, _process: process, _directory: directory }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The flags of a node of a cluster.
const NODE: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];

/// Whether servers take `--cluster-port`, which came with Redis 7.0. For older ones it is 10000 more than the other.
fn chooses_bus() -> bool {
    static CHOOSES: OnceLock<bool> = OnceLock::new();
    *CHOOSES.get_or_init(|| {
        let output = server().arg("--version").output().unwrap();
        !String::from_utf8_lossy(&output.stdout).contains("v=6.")
    })
}

fn server() -> Command {
    Command::new(env::var_os("REDIS_BIN").unwrap_or_else(|| "redis-server".into()))
}

fn launch(port: u16, flags: &[String], environment: &[(String, String)], directory: &Path) -> Process {
    let mut command = server();
    command.envs(environment.iter().cloned());
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.args(flags).current_dir(directory);
    let mut process = Process::start("redis", command);
    process
        .wait_until("ready", STARTS_WITHIN, |process| process.log().contains("Ready to accept connections"));
    process
}

/// Whether a server on `port` answers at all, even with an error.
fn answers(port: u16) -> bool {
    let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    client.get_connection_with_timeout(Duration::from_secs(1)).is_ok()
}
