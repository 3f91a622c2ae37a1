//! Calls that the sidecar takes, as scripts on a real Redis: no arguments and no foreign values make a script fail or
//! work for long, replies are what they are said to be, every key expires, and without foreign values no window ever
//! admits more than its limit.
//!
//! The first byte is the number of windows, each of seven bytes; what follows are steps of six bytes. `REDIS_BIN` is
//! the server; `.tools/redis-server` if there is one, else `redis-server`, is the default.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::quantity::{MAX_EXACT, Millis, NonZeroMillis, Units};
use llm_rate_limit::store::wire::{Charge, IfAbsent, OpenResponse, ScopeCharges, Settle};
use llm_rate_limit::window::period::Period;
use llm_rate_limit::window::calendar::{Calendar, CalendarName, Edges};
use llm_rate_limit::window::{Algorithm, Fit, Window};
use llm_rate_limit_cli::script;
use llm_rate_limit_cli::store::call::{self, Call, Group};
use llm_rate_limit_cli::store::invocation::Invocation;
use redis::{Cmd, Connection, FromRedisValue, RedisResult, Value};
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

const BEGIN: u64 = 1_700_000_000_000;

/// Keys expire by the clock of Redis, which goes on while the time of these calls may not: no window is so short that
/// its counter expires during a run.
const SHORTEST: u64 = 60_000;

/// Far more than a script takes on a busy machine, and less than a walk through all segments since the epoch.
const SOON: Duration = Duration::from_secs(4);

/// The server lives as long as this process holds the pipe to the shell that watches over it.
const WATCH: &str = r#""$@" & read -r _; kill $!"#;

/// A command, and where its reply goes.
type Asked = (Cmd, Sender<RedisResult<Value>>);

/// The server, asked by a thread of its own: libFuzzer's timer interrupts the system calls of this one.
struct Redis(Sender<Asked>);

thread_local! {
    static REDIS: Redis = Redis::start();
}

impl Redis {
    fn start() -> Self {
        let (to, asked) = mpsc::channel::<Asked>();
        let mut connection = connection();
        std::thread::spawn(move || {
            for (command, reply) in asked {
                let _ = reply.send(command.query(&mut connection));
            }
        });
        Self(to)
    }

    fn try_ask(&self, command: &Cmd) -> RedisResult<Value> {
        let (to, reply) = mpsc::channel();
        self.0.send((command.clone(), to)).unwrap();
        reply.recv().unwrap()
    }

    fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        redis::from_redis_value(self.try_ask(command).unwrap()).unwrap()
    }
}

fn connection() -> Connection {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/redis-server");
    let tools = if Path::new(tools).exists() { tools } else { "redis-server" };
    let redis = std::env::var("REDIS_BIN").unwrap_or_else(|_| tools.into());
    let directory = std::env::temp_dir();
    let socket = directory.join(format!("fuzz-redis-{}.sock", std::process::id()));
    let mut watch = Command::new("sh");
    watch.args(["-c", WATCH, "sh", &redis, "--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
    watch.arg("--dir").arg(&directory).stdin(Stdio::piped()).stdout(Stdio::null());
    // Neither waited for nor dropped: the pipe closes when this process ends, however it does.
    std::mem::forget(watch.spawn().expect("a shell"));
    let client = redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut connection = loop {
        match client.get_connection() {
            Ok(connection) => break connection,
            Err(why) => assert!(Instant::now() < deadline, "{redis} does not start: {why}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    for script in script::all() {
        let () = redis::cmd("SCRIPT").arg("LOAD").arg(script.source).query(&mut connection).unwrap();
    }
    connection
}

/// A number of any size: `bits` says where the bits of `byte` are.
fn number(byte: u8, bits: u8) -> u64 {
    u64::from(byte) << (bits % 46)
}

fn window([algorithm, length, bits, segments, more, burst, _]: [u8; 7]) -> Window {
    let length = NonZeroMillis::new(number(length, bits % 33).max(SHORTEST)).unwrap();
    let segments = NonZeroU32::new(u32::from(segments) << (more % 7)).unwrap_or(NonZeroU32::MIN);
    let algorithm = match algorithm % 6 {
        0 => Algorithm::SlidingWindow { segments },
        1 => Algorithm::FixedWindow,
        2 => return Window::calendar_month(),
        5 => {
            let name = CalendarName::new("1d-Europe/Paris").unwrap();
            let edge = |n: u8| Millis::new(number(burst, more)) + length.get() * n.into();
            return Window::calendar(length, Calendar { name, edges: Edges::new([0, 1, 2, 3].map(edge)) });
        }
        3 => Algorithm::TokenBucket { burst: Units::new(number(burst, more)) },
        _ => Algorithm::Concurrency,
    };
    Window { length, algorithm }
}

/// What somebody else writes.
const FOREIGN: [&str; 22] = [
    "0",
    "1",
    "-1",
    "1.5",
    "1e300",
    "inf",
    "nan",
    "0x7f",
    "",
    "9007199254740991",
    "9007199254740990",
    "1700000000000",
    "1:2;3:4",
    "0 0 0 0",
    "7 0 28333333 0",
    "3 28333334 28333333 9007199254740991",
    "9007199254740991 28333333 28333333 0",
    "1 1 99999999999 1",
    "1 2 3",
    "99999999999999999999:7",
    "settled",
    "\u{1}\u{93}junk",
];

const FIELDS: [&str; 11] = ["s", "l", "o", "i", "u", "d", "a", "r", "28333333", "1180555", "0"];

/// What windows must have in them.
#[derive(Default)]
struct Books(Vec<Spent>);

/// What was charged at one time.
struct Spent {
    id: String,
    at: u64,
    /// The cost to each window that stays.
    costs: Vec<u64>,
    is_open: bool,
    /// Whether it may have been charged again since.
    has_grown: bool,
}

impl Books {
    fn spend(&mut self, id: &str, at: u64, charges: &[Charge], is_open: bool) {
        let costs = charges.iter().map(|charge| charge.window.algorithm.units(charge.cost).get()).collect();
        self.0.push(Spent { id: id.to_owned(), at, costs, is_open, has_grown: false });
    }

    fn open(&mut self, id: &str) -> Option<&mut Spent> {
        self.0.iter_mut().rev().find(|one| one.id == id && one.is_open)
    }

    /// The reservation `id` has been charged, or charged anew, while it stays open.
    fn grow(&mut self, id: &str, now: u64) {
        if self.open(id).is_none() {
            self.spend(id, now, &[], true);
        }
        self.open(id).into_iter().for_each(|one| one.has_grown = true);
    }

    /// The leases of the reservation `id` end, while it stays open.
    fn detach(&mut self, id: &str, now: u64, charges: &[Charge]) {
        self.grow(id, now);
        if let Some(one) = self.open(id) {
            for (cost, charge) in one.costs.iter_mut().zip(charges) {
                if charge.window.algorithm == Algorithm::Concurrency {
                    *cost = 0;
                }
            }
        }
    }

    /// The reservation `id` is settled: a surplus is given back, and an excess charged now.
    fn settle(&mut self, id: &str, now: u64, charges: &[Charge]) {
        let kept = charges.iter().map(|charge| charge.window.algorithm.units_kept(charge.cost).get());
        let mut excess: Vec<u64> = kept.collect();
        if let Some(one) = self.open(id) {
            one.is_open = false;
            for (cost, kept) in one.costs.iter_mut().zip(&mut excess) {
                let charged = *cost;
                *cost = charged.min(*kept);
                *kept -= *cost;
            }
            if one.has_grown {
                return;
            }
        }
        self.0.push(Spent { id: id.to_owned(), at: now, costs: excess, is_open: false, has_grown: false });
    }

    /// Checks an admission now: no trailing window of an enforced limit has more than the limit, no period more than
    /// it, and no bucket more than its burst and its rate.
    fn check(&self, charges: &[Charge], now: u64) {
        for (n, charge) in charges.iter().enumerate().filter(|(_, charge)| charge.enforced) {
            let (limit, length) = (u128::from(charge.limit.get()), charge.window.length.get().get());
            let index = |period: Period, at: u64| period.index(Millis::new(at));
            let mut sum = 0;
            for one in self.0.iter().rev() {
                let counts = match charge.window.algorithm {
                    Algorithm::SlidingWindow { .. } | Algorithm::Concurrency => one.at + length > now,
                    Algorithm::FixedWindow => {
                        let period = Period::Length(charge.window.length);
                        index(period, one.at) == index(period, now)
                    }
                    Algorithm::CalendarWindow(Calendar { edges, .. }) => {
                        let period = Period::Calendar(edges, charge.window.length);
                        index(period, one.at) == index(period, now)
                    }
                    Algorithm::CalendarMonth => index(Period::Month, one.at) == index(Period::Month, now),
                    Algorithm::TokenBucket { .. } => true,
                };
                if !counts {
                    break;
                }
                sum += u128::from(one.costs.get(n).copied().unwrap_or(0));
                let most = match charge.window.algorithm {
                    Algorithm::TokenBucket { burst } => {
                        u128::from(burst.get())
                            + (limit * u128::from(now - one.at)).div_ceil(u128::from(length))
                    }
                    _ => limit,
                };
                assert!(sum <= most, "{sum} of {most} at {now} for {charge:?}");
            }
        }
    }
}

/// Runs a call. Fails if it takes long, or fails in another way than scripts say.
fn run(redis: &Redis, call: &Call<'_>) -> Option<Vec<i64>> {
    let begun = Instant::now();
    let [invocation] = &Invocation::of_calls(std::slice::from_ref(call), false)[..] else {
        panic!("{call:?}")
    };
    let reply: RedisResult<Value> = redis.try_ask(invocation.by_hash());
    assert!(begun.elapsed() < SOON, "{:?} for {call:?}", begun.elapsed());
    match invocation.replies(reply).next().unwrap().1 {
        Ok(integers) => Some(integers),
        Err(why) => {
            let why = why.to_string();
            let is_expected =
                why.contains("the reservation has ") && why.contains(" windows, the settlement ");
            assert!(is_expected, "{why} from {call:?}");
            None
        }
    }
}

/// The keys that `call` touches.
fn keys(call: &Call<'_>) -> Vec<String> {
    call.record().into_iter().chain(call.keys().flatten()).collect()
}

/// The seven bytes of a window, its limit, and the steps.
struct Input<'a> {
    windows: Vec<([u8; 7], Window)>,
    steps: &'a [u8],
}

fn read(data: &[u8]) -> Option<Input<'_>> {
    let (number, rest) = data.split_first()?;
    let (windows, steps) = rest.split_at_checked((usize::from(*number % 4) + 1) * 7)?;
    let windows = windows.chunks_exact(7).map(|bytes| {
        let bytes: [u8; 7] = bytes.try_into().unwrap();
        (bytes, window(bytes))
    });
    Some(Input { windows: windows.collect(), steps })
}

fuzz_target!(|data: &[u8]| {
    let Some(Input { windows, steps }) = read(data) else { return };
    REDIS.with(|redis| steps_on(redis, &windows, steps));
});

fn steps_on(redis: &Redis, windows: &[([u8; 7], Window)], steps: &[u8]) {
    let () = redis.ask(&redis::cmd("FLUSHALL"));
    let (mut now, mut has_stepped_back) = (BEGIN, false);
    let mut foreign: HashSet<String> = HashSet::new();
    let mut books = Books::default();
    for step in steps.chunks_exact(6) {
        let [kind, id, cost, bits, pause, more] = step.try_into().unwrap();
        now += number(pause, more % 33);
        let id = (id % 8).to_string();
        // Settlements may have another number of windows than their reservation.
        let len = if kind & 64 == 0 { windows.len() } else { usize::from(more) % windows.len() + 1 };
        let charge = |(n, (bytes, window)): (usize, &([u8; 7], Window))| Charge {
            identity: "me".into(),
            name: n.to_string().into(),
            window: *window,
            limit: Units::new(number(bytes[6], bytes[4])),
            cost: Units::new(number(cost, bits).min(MAX_EXACT) >> n),
            enforced: bytes[0] & 128 == 0,
            warn_at: None,
        };
        let charges: Vec<Charge> = windows.iter().take(len).enumerate().map(charge).collect();
        let scopes = [ScopeCharges { scope: "team".into(), charges }];
        let Ok(groups) = call::groups("", &id, &scopes) else { return };
        let [group] = &groups[..] else { panic!("{groups:?}") };
        let charges = &scopes[0].charges;
        let if_absent = (more & 1 != 0).then_some(IfAbsent::Charge);
        let settle = Settle {
            id: id.clone(),
            if_absent,
            extend: matches!(kind % 16, 9 | 10),
            charges: scopes.to_vec(),
            ..Settle::default()
        };
        let open = OpenResponse { id: id.clone(), charges: scopes.to_vec(), ..OpenResponse::default() };
        let call = match kind % 16 {
            0..=5 => {
                if reserve(redis, group, charges, &id, now) {
                    books.spend(&id, now, charges, true);
                    if foreign.is_empty() && !has_stepped_back {
                        books.check(charges, now);
                    }
                }
                continue;
            }
            6..=10 => group.settle(&settle, now),
            11 => group.detach(&open, now),
            12 => group.peek(now),
            13 => {
                now = now.saturating_sub(number(cost, bits % 33)).max(1);
                has_stepped_back = true;
                continue;
            }
            _ => {
                let keys = keys(&group.reserve(&id, now));
                let key = &keys[usize::from(cost) % keys.len()];
                write_foreign(redis, key, bits, more);
                foreign.insert(key.clone());
                continue;
            }
        };
        match (kind % 16, run(redis, &call)) {
            (_, None) => continue,
            (12, Some(reply)) => {
                let states = call::window_states(&reply).expect("four integers for each window");
                assert_eq!(states.len(), charges.len());
            }
            (_, Some(reply)) if reply == [0] => {}
            (kind, Some(reply)) => {
                let (code, windows) = reply.split_first().expect("a code");
                let states = call::window_states(windows).expect("four integers for each window");
                assert_eq!(states.len(), charges.len());
                match (kind, code) {
                    (6..=8, 1) => books.settle(&id, now, charges),
                    (11, 1) => books.detach(&id, now, charges),
                    (9..=11, 1 | 2) => books.grow(&id, now),
                    _ => panic!("{kind}: {reply:?}"),
                }
            }
        }
        all_expire(redis, &keys(&call), &foreign);
    }
}

/// Reserves. Returns whether the reservation was admitted, and charged.
fn reserve(redis: &Redis, group: &Group<'_>, charges: &[Charge], id: &str, now: u64) -> bool {
    let call = group.reserve(id, now);
    let is_known: bool = redis.ask(redis::cmd("EXISTS").arg(call.record()));
    let reply = run(redis, &call).expect("no error");
    let (first, states) = reply.split_first().expect("an integer");
    let states = call::window_states(states).expect("four integers for each window");
    assert!(states.len() == charges.len() && matches!(first, 0 | 1), "{reply:?}");
    if *first == 0 || is_known {
        return false;
    }
    for (charge, state) in charges.iter().zip(&states).filter(|(charge, _)| charge.enforced) {
        assert_eq!(state.fit, Fit::Now);
        assert!(state.used <= charge.window.capacity(charge.limit), "{state:?} of {charge:?}");
    }
    true
}

fn write_foreign(redis: &Redis, key: &str, what: u8, value: u8) {
    let value = FOREIGN[usize::from(value) % FOREIGN.len()];
    let field = FIELDS[usize::from(what) % FIELDS.len()];
    let command = match what {
        0..=199 => redis::cmd("HSET").arg(key).arg(field).arg(value).clone(),
        200..=229 => redis::cmd("SET").arg(key).arg(value).clone(),
        230..=239 => redis::cmd("SADD").arg(key).arg(value).clone(),
        _ => redis::cmd("DEL").arg(key).clone(),
    };
    // A value of another type stays what it is.
    let _ = redis.try_ask(&command);
}

/// Every key that nobody else has written into expires.
fn all_expire(redis: &Redis, keys: &[String], foreign: &HashSet<String>) {
    for key in keys.iter().filter(|key| !foreign.contains(*key)) {
        let left: i64 = redis.ask(redis::cmd("PTTL").arg(key));
        assert_ne!(left, -1, "{key} never expires");
    }
}
