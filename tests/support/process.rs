//! A server that a test starts. It has a process group of its own, writes to a file, and never outlives the test.
//!
//! A test ends in one of three ways: it returns, it panics, or somebody kills the whole run. The first two drop the
//! [`Process`], which kills the group. For the third, `PR_SET_PDEATHSIG` makes the kernel kill the child. That signal
//! comes when the *thread* that started the child ends, and a test's thread ends before the run does; so one thread
//! that never ends starts all children.
//!
//! The flags of a particular server, and the sign that it is ready, are in the file named after it.

use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io;
use std::iter;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The pause between two checks of a condition.
const POLL: Duration = Duration::from_millis(10);

/// The first of the ports that [`free_port`] chooses from.
const FIRST_SERVER_PORT: u16 = 10_000;

/// How many those are. Linux gives outgoing connections ports from 32768.
const SERVER_PORTS: u16 = 20_000;

/// Lines of a process's output that a failing test shows.
const TAIL: usize = 40;

/// A running server and everything that it has started; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    scratch: TempDir,
}

impl Process {
    /// Starts `command` with its standard output and error in one file. Messages call it `name`.
    ///
    /// # Panics
    /// If it does not start, with the program's name and the reason.
    pub fn start(name: &str, mut command: Command) -> Self {
        let scratch = tempfile::Builder::new().prefix(&format!("llmrl-{name}-")).tempdir().unwrap();
        let log = File::create(scratch.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let program = command.get_program().to_owned();
        match spawn(command) {
            Ok(child) => Self { name: name.to_owned(), child, scratch },
            Err(why) => panic!("{name}: {} does not start: {why}", program.display()),
        }
    }

    /// The id of the process and of its group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A directory for its files and sockets, removed with the process. It contains the file `log`.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The file with its output.
    pub fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// Its output so far, on both streams.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Sends `signal` to the process and its children. No error if they have ended. After `SIGSTOP`, waits until the
    /// process has stopped: on a busy machine a thread that runs on another processor may go on for a moment.
    ///
    /// # Panics
    /// If the process does not stop.
    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.id()).unwrap());
        // Fails only if the group is empty.
        let sent = killpg(group, signal);
        if signal == Signal::SIGSTOP && sent.is_ok() {
            let deadline = Instant::now() + Duration::from_secs(30);
            while self.has_running_threads() {
                assert!(Instant::now() < deadline, "{} does not stop", self.id());
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Whether any thread is neither stopped nor gone, by its state in proc(5).
    fn has_running_threads(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else { return false };
        threads.flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            state.is_some_and(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
        })
    }

    /// Its exit status, or `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it ends by itself; `None` if it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.exit_status();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until `ready` returns true; `what` completes the message "was not …".
    ///
    /// # Panics
    /// If the process ends first or `limit` passes, with the end of its output.
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut ready: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !ready(self) {
            if let Some(status) = self.exit_status() {
                panic!("{} ended ({status}) before it was {what}:\n{}", self.name, self.tail());
            }
            assert!(
                Instant::now() < deadline,
                "{} was not {what} after {limit:?}:\n{}",
                self.name,
                self.tail()
            );
            thread::sleep(POLL);
        }
    }

    /// Kills it and its children, and waits until it has ended.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // There is nothing left to do about a child that cannot be waited for.
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the last {TAIL} lines of {} ---\n{}\n---", self.name, self.tail());
        }
    }
}

/// A loopback TCP port without a listener, for a server that cannot choose one itself or has to come back on the same
/// one. It lies below the ports that the kernel gives to outgoing connections, so none of those takes it first, and no
/// two calls return the same.
///
/// # Panics
/// If none is free.
pub fn free_port() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at the same time begin in different places.
    let first = std::process::id().wrapping_mul(97) % u32::from(SERVER_PORTS);
    let next = || (first + u32::from(CALLS.fetch_add(1, Ordering::Relaxed))) % u32::from(SERVER_PORTS);
    let mut ports = iter::repeat_with(|| FIRST_SERVER_PORT + u16::try_from(next()).unwrap());
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.by_ref().take(usize::from(SERVER_PORTS)).find(is_free).expect("a free port")
}

/// A command to start, and a channel for the result.
type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts `command` on the thread that never ends.
fn spawn(mut command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in incoming {
                // If the test has panicked meanwhile, nobody receives the child, and the kernel kills it in the end.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    // SAFETY: between fork and exec only async-signal-safe functions may run, and prctl is a bare system call.
    unsafe {
        command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from));
    }
    let (answer, outcome) = mpsc::channel();
    starter.lock().unwrap().send((command, answer)).unwrap();
    outcome.recv().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::gettid;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_are_in_the_log() {
        let mut process = Process::start("echo", shell("echo out; echo err >&2"));
        assert!(process.wait(Duration::from_secs(10)).unwrap().success());
        assert_eq!(process.log(), "out\nerr\n");
    }

    #[test]
    fn dropping_kills_the_children_of_the_process_too() {
        let mut process = Process::start("family", shell("sleep 60 & echo $!; wait"));
        process.wait_until("a parent", Duration::from_secs(10), |it| it.log().ends_with('\n'));
        let grandchild = Pid::from_raw(process.log().trim().parse().unwrap());
        drop(process);
        // init reaps the grandchild, so it may stay visible as a zombie.
        let deadline = Instant::now() + Duration::from_secs(10);
        let alive = || {
            let state = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            kill(grandchild, None) != Err(Errno::ESRCH) && !state.contains(") Z ")
        };
        while alive() {
            assert!(Instant::now() < deadline, "{grandchild} outlives the process that started it");
            thread::sleep(POLL);
        }
    }

    #[test]
    fn a_child_outlives_the_thread_that_started_it() {
        let start = || (Process::start("sleep", shell("sleep 60")), gettid());
        let (mut process, thread) = thread::spawn(start).join().unwrap();
        // The kernel sends the signal before it removes a thread from this list.
        while Path::new(&format!("/proc/self/task/{thread}")).exists() {
            thread::sleep(POLL);
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap().trim();
        assert_eq!(u64::from_str_radix(pending, 16).unwrap(), 0, "no signal is on its way");
        assert_eq!(process.exit_status(), None);
    }

    #[test]
    #[should_panic(expected = "ended (exit status: 3) before it was ready:\nno such option")]
    fn a_server_that_ends_early_says_why() {
        let mut process = Process::start("broken", shell("echo no such option; exit 3"));
        process.wait_until("ready", Duration::from_secs(10), |_| false);
    }
}
