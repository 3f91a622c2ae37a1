//! The boundary to Envoy: the only file that speaks proxy-wasm. Callbacks translate and decide nothing.
//!
//! Each comment that links to `docs/envoy.md` marks code that relies on a fact about Envoy or the SDK, measured there.
//! Two facts hold for the whole file:
//!
//! - docs/envoy.md#panicking-wrappers: the SDK's wrappers panic on any status that they do not expect. So all calls go
//!   through `hostcalls`, each in a phase in which it is known to work, and values are read as bytes.
//! - docs/envoy.md#crashes: a panic ends the VM with all requests of its worker, and a second borrow of the worker
//!   would panic. Reads of headers, bodies, shared data and the clock bring no callback, so they may happen under a
//!   borrow; streams are resumed and answered, and callouts sent, after it.

use crate::answer::Reply;
use crate::codec::header_map::HeaderMap;
use crate::config::{Config, Fingerprint, Store};
use crate::identity::RequestView;
use crate::quantity::Millis;
use crate::request::BodyEdit;
use crate::session::{Amended, Directive, Effects, Event, HeaderEdits, ResponseFlags, ResponseView};
use crate::store::Failure;
use crate::store::local::SharedData;
use crate::store::roll::{Seat, Vm};
use crate::store::sidecar::{Callout, Kind};
use crate::store::version::{self, SidecarVersion};
use crate::store::{corrections, unasked};
use crate::telemetry::access_log::LogFields;
use crate::telemetry::series::{Count, Distribution, Gauge, MAX_SERIES};
use crate::telemetry::stats::Report;
use crate::worker::{Turn, Worker};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType, Status};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::ops::Range;
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The shortest period of the tick. docs/envoy.md#waking-the-root-context: Envoy's timers have no shorter one.
const SHORTEST_TICK: Millis = Millis::new(1);

/// The period of the tick, which serves deadlines and reports metrics. docs/envoy.md#waking-the-root-context: the tick
/// does not wake requests, so it need not be short.
const TICK: Millis = Millis::new(50);

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, running: None, is_retiring: false }));
}}

/// One configuration in one worker. docs/envoy.md#contexts: Envoy creates one root context per configuration and VM.
struct Root {
    id: u32,
    running: Option<Running>,
    /// Whether Envoy has retired this configuration and waits for its last settlements.
    is_retiring: bool,
}

/// The state of a root context that has been configured.
struct Running {
    worker: SharedWorker,
    wake: Rc<Wake>,
    config: Arc<Config>,
    /// Callouts under way, by Envoy's token.
    callouts: HashMap<u32, Kind>,
    sidecar_version: SidecarVersion,
    metrics: Metrics,
    /// The period of the tick, and when the next one comes.
    period: Millis,
    next_tick: Millis,
}

/// Envoy's ids of metrics. docs/envoy.md#metrics: they are the same in every VM, and stay defined.
#[derive(Default)]
struct Metrics {
    counters: HashMap<Count, u32>,
    histograms: HashMap<Distribution, u32>,
    gauges: HashMap<Gauge, u32>,
}

/// One request. docs/envoy.md#contexts: Envoy creates one stream context per request.
struct Stream {
    id: u32,
    worker: SharedWorker,
    wake: Rc<Wake>,
    /// Its place among the requests that metrics show.
    _seat: Option<Seat>,
}

/// How streams wake their root context: through a shared queue. docs/envoy.md#waking-the-root-context: each post brings
/// a callback of its own, and one serves every stream that has work for it, so only the first of them posts.
struct Wake {
    queue: u32,
    is_posted: Cell<bool>,
}

thread_local! {
    /// This VM. docs/envoy.md#contexts: the main thread has one too, which ticks, and one that Envoy drops before a
    /// tick.
    static VM: Rc<Vm> = Rc::new(Vm::new(RandomState::new().hash_one(0), now()));

    /// The workers of this VM's root contexts, the oldest first.
    static WORKERS: RefCell<Vec<Weak<RefCell<Worker<SharedMap>>>>> = const { RefCell::new(Vec::new()) };
}

type SharedWorker = Rc<RefCell<Worker<SharedMap>>>;

/// One of the two messages of an HTTP exchange.
#[derive(Clone, Copy)]
enum Message {
    Request,
    Response,
}

/// A message of the current stream, with its headers once they have been read. docs/envoy.md#host-call-costs: two
/// headers that are present cost more than the whole map.
struct Current {
    map: MapType,
    headers: OnceCell<HeaderMap>,
}

/// Envoy's shared data.
#[derive(Clone, Copy, Debug)]
struct SharedMap;

impl Context for Root {
    // docs/envoy.md#the-root-context-makes-the-calls: every callout ends here, whatever became of the streams that it
    // serves.
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(running) = &mut self.running else { return };
        let Some(kind) = running.callouts.remove(&token) else { return };
        let now = now();
        let (answer, of_prompts) = callout_answer(headers, body_size, &mut running.sidecar_version, now);
        if answer.is_ok() {
            running.worker.borrow_mut().hear_of_corrections(kind, of_prompts.as_deref());
        }
        let answer = answer.as_deref().map_err(Clone::clone);
        let turn = running.worker.borrow_mut().callout_ended(kind, answer, now);
        running.carry_out(turn, self.id);
        running.hasten_tick(now);
        self.finish_retiring();
    }

    // docs/envoy.md#retired-root-contexts: if this returns false, Envoy keeps the context until it calls `done`, so
    // that the last settlements arrive. docs/envoy.md#drain-and-exit: an exiting Envoy does not wait.
    fn on_done(&mut self) -> bool {
        self.is_retiring = true;
        if let Some(running) = &mut self.running {
            let changes = running.worker.borrow_mut().retire(now());
            running.metrics.change(changes);
        }
        self.tick();
        self.hand_over();
        self.is_idle()
    }
}

impl RootContext for Root {
    // docs/envoy.md#configuration-formats: the bytes are text or serialised protobuf. docs/envoy.md#reloads: if this
    // returns false, Envoy rejects the update and the old configuration stays in force.
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = buffer(BufferType::PluginConfiguration, size);
        let config = match Config::from_bytes(&bytes) {
            Ok(config) => Arc::new(config),
            Err(error) => {
                log::error!("llm-rate-limit: the configuration is refused:\n{error}");
                return false;
            }
        };
        self.running = Running::start(self.id, config, Fingerprint::of(&bytes));
        self.running.is_some()
    }

    fn on_tick(&mut self) {
        self.tick();
        self.finish_retiring();
    }

    fn on_queue_ready(&mut self, _queue: u32) {
        let Some(running) = &mut self.running else { return };
        running.wake.receive();
        let now = now();
        let turn = running.worker.borrow_mut().turn(now);
        running.carry_out(turn, self.id);
        running.hasten_tick(now);
    }

    // docs/envoy.md#reloads: new streams come to the newest root context and stay with it.
    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let running = self.running.as_ref()?;
        let (worker, wake) = (Rc::clone(&running.worker), Rc::clone(&running.wake));
        let seat = worker.borrow().serve();
        Some(Box::new(Stream { id, worker, wake, _seat: seat }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn tick(&mut self) {
        let Some(running) = &mut self.running else { return };
        // If Envoy has lost a post, this serves whoever waits for it.
        running.wake.is_posted.set(false);
        let turn = running.worker.borrow_mut().tick(&request_body, &now);
        running.carry_out(turn, self.id);
        // The tick may have worked for a while, and the next one comes a period after its end.
        let now = now();
        running.next_tick = now + running.period;
        running.schedule_tick(now + TICK, now);
    }

    fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.worker.borrow().is_idle())
    }

    /// Hands what has not arrived to the newest root context that can take it. docs/envoy.md#retired-root-contexts: of
    /// two that wait and had the same configuration, Envoy keeps one.
    fn hand_over(&self) {
        let Some(running) = &self.running else { return };
        let all = WORKERS.with_borrow(Clone::clone);
        let others = all.iter().rev().filter_map(Weak::upgrade).filter(|it| !Rc::ptr_eq(it, &running.worker));
        let mut worker = running.worker.borrow_mut();
        for other in others {
            if worker.is_idle() || other.borrow_mut().take_over(&mut worker, now()) {
                return;
            }
        }
    }

    /// Lets Envoy delete a retired context once its last settlement has arrived, or another context brings it.
    fn finish_retiring(&mut self) {
        if !self.is_retiring {
            return;
        }
        self.hand_over();
        if self.is_idle() {
            self.is_retiring = false;
            // docs/envoy.md#retired-root-contexts
            let _ = hostcalls::done();
        }
    }
}

impl Running {
    fn start(root: u32, config: Arc<Config>, fingerprint: Fingerprint) -> Option<Self> {
        // docs/envoy.md#contexts: root contexts of different workers have the same id, so the seed must be random.
        let seed = RandomState::new().hash_one(root);
        // docs/envoy.md#contexts: the main thread configures the plugin before any worker does, so the local store may
        // create its shards here.
        let worker = Worker::new(Arc::clone(&config), SharedMap, seed);
        // docs/envoy.md#reloads: the name of the filter stays the same.
        let name = hostcalls::get_property(vec!["plugin_name"]).ok().flatten().unwrap_or_default();
        let member = VM.with(|vm| vm.enrol(&String::from_utf8_lossy(&name)));
        let worker = worker.on_roll(SharedMap, member, fingerprint);
        // docs/envoy.md#queue-names: two root contexts that registered one name would share one queue, and Envoy would
        // wake only the last.
        let queue = hostcalls::register_shared_queue(&format!("llm-rate-limit/{seed:016x}/{root}")).ok()?;
        hostcalls::set_tick_period(Duration::from_millis(TICK.get())).ok()?;
        let worker = Rc::new(RefCell::new(worker));
        WORKERS.with_borrow_mut(|workers| {
            workers.retain(|worker| worker.strong_count() > 0);
            workers.push(Rc::downgrade(&worker));
        });
        Some(Self {
            worker,
            wake: Rc::new(Wake { queue, is_posted: Cell::new(false) }),
            config,
            callouts: HashMap::new(),
            sidecar_version: SidecarVersion::default(),
            metrics: Metrics::at_start(),
            period: TICK,
            next_tick: now() + TICK,
        })
    }

    /// Resumes or answers the turn's streams and sends its callouts. A callout that cannot be sent has failed, which
    /// brings another turn.
    fn carry_out(&mut self, turn: Turn, root: u32) {
        let mut turns = vec![turn];
        while let Some(turn) = turns.pop() {
            for (stream, effects) in turn.effects {
                // docs/envoy.md#effective-context: the calls below act on the stream. If it is gone, this fails, and
                // they would act on the stream before.
                if hostcalls::set_effective_context(stream).is_ok() {
                    // docs/envoy.md#held-bodies: its headers and body are held, and can be edited.
                    edit_headers(MapType::HttpRequestHeaders, &effects.headers, None);
                    if let Some(edit) = &effects.body {
                        edit_request_body(edit);
                    }
                    amend(&effects.amended, None);
                    write_log(effects.log);
                    match effects.directive {
                        Some(Directive::Continue) => drop(hostcalls::resume_http_request()),
                        Some(Directive::Reply(reply)) => send(&reply),
                        Some(Directive::Pause) | None => {}
                    }
                }
            }
            // docs/envoy.md#effective-context: otherwise the callouts would belong to the last stream.
            let _ = hostcalls::set_effective_context(root);
            self.metrics.report(turn.metrics);
            self.metrics.change(turn.gauges);
            for callout in turn.callouts {
                let kind = callout.kind;
                match self.dispatch(&callout) {
                    Ok(token) => drop(self.callouts.insert(token, kind)),
                    Err(why) => {
                        turns.push(self.worker.borrow_mut().callout_ended(kind, Err(why.into()), now()));
                    }
                }
            }
        }
    }

    /// Sends a callout and returns Envoy's token for it. docs/envoy.md#group-commit: each callout carries a batch.
    fn dispatch(&self, callout: &Callout) -> Result<u32, String> {
        let Store::Redis(store) = self.config.store() else { return Err("no sidecar is configured".into()) };
        let bearer = store.auth_token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let version = version::NEWEST.to_string();
        let mut headers = vec![
            (":method", "POST"),
            (":path", callout.kind.path()),
            (":authority", store.cluster.as_str()),
            ("content-type", "application/json"),
            (version::HEADER, version.as_str()),
        ];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let asked = self.worker.borrow().asks_for_corrections();
        headers.extend(asked.as_deref().map(|asked| (corrections::HEADER, asked)));
        headers.extend(callout.unasked.as_deref().map(|refused| (unasked::HEADER, refused)));
        // docs/envoy.md#failed-callouts: an unknown cluster is an error here; every other failure is an answer without
        // headers.
        hostcalls::dispatch_http_call(
            &store.cluster,
            headers,
            Some(&callout.body),
            Vec::new(),
            callout.timeout,
        )
        .map_err(|status| match status {
            Status::BadArgument => format!("Envoy has no cluster {:?}", store.cluster),
            other => format!("Envoy cannot call the cluster {:?}: {other:?}", store.cluster),
        })
    }

    /// Lets Envoy tick earlier, if there is an earlier deadline. Whatever comes in between never delays a tick:
    /// requests that have work to do wait for it.
    fn hasten_tick(&mut self, now: Millis) {
        if self.next_tick > now {
            self.schedule_tick(self.next_tick, now);
        }
    }

    /// Lets Envoy tick at the next deadline, or at `usual` if that is earlier. docs/envoy.md#waking-the-root-context:
    /// setting the period starts it anew, so this sets it only to move the tick.
    fn schedule_tick(&mut self, usual: Millis, now: Millis) {
        let due = self.worker.borrow().next_due();
        // By a clock that was set back, the usual time may be hours away.
        let usual = usual.min(now + TICK);
        let next = due.map_or(usual, |due| due.min(usual)).max(now + SHORTEST_TICK);
        let period = next - now;
        if next != self.next_tick && hostcalls::set_tick_period(Duration::from_millis(period.get())).is_ok() {
            self.period = period;
            self.next_tick = next;
        }
    }
}

impl Metrics {
    /// Those that are known from the start. docs/envoy.md#metrics: a metric appears when it is defined.
    fn at_start() -> Self {
        let mut metrics = Self::default();
        for count in Count::at_start() {
            metrics.counter(count);
        }
        for gauge in Gauge::AT_START {
            metrics.gauge(gauge);
        }
        metrics
    }

    fn counter(&mut self, count: Count) -> Option<u32> {
        id(&mut self.counters, count, MetricType::Counter, Count::name)
    }

    fn gauge(&mut self, gauge: Gauge) -> Option<u32> {
        id(&mut self.gauges, gauge, MetricType::Gauge, |gauge| gauge.name())
    }

    /// Changes gauges. docs/envoy.md#metrics: the changes of all workers add up.
    fn change(&mut self, gauges: Vec<(Gauge, i64)>) {
        for (gauge, change) in gauges {
            if let Some(metric) = self.gauge(gauge) {
                let _ = hostcalls::increment_metric(metric, change);
            }
        }
    }

    /// Adds to counters, and gives histograms their values. docs/envoy.md#metrics: the increments of all workers add
    /// up. What has labels of the configuration is defined when it first counts.
    fn report(&mut self, report: Report) {
        for (count, n) in report.counts {
            if let Some(metric) = self.counter(count) {
                let _ = hostcalls::increment_metric(metric, i64::try_from(n).unwrap_or(i64::MAX));
            }
        }
        for (distribution, value) in report.values {
            let histograms = &mut self.histograms;
            if let Some(metric) = id(histograms, distribution, MetricType::Histogram, |it| it.name()) {
                let _ = hostcalls::record_metric(metric, value);
            }
        }
    }
}

/// Envoy's id of a time series, which is defined if it is not among the `known`. None if there are too many.
fn id<T: Eq + Hash>(
    known: &mut HashMap<T, u32>,
    series: T,
    kind: MetricType,
    name: impl Fn(&T) -> String,
) -> Option<u32> {
    if let Some(id) = known.get(&series) {
        return Some(*id);
    }
    if known.len() >= MAX_SERIES {
        return None;
    }
    let id = hostcalls::define_metric(kind, &name(&series)).ok()?;
    known.insert(series, id);
    Some(id)
}

// docs/envoy.md#callback-order has the callbacks of a request in their order.
impl HttpContext for Stream {
    // docs/envoy.md#released-headers: the request's headers can be read and edited here, and later only while they are
    // held. docs/envoy.md#held-headers: `Pause` holds them.
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let request = Current::new(MapType::HttpRequestHeaders);
        let event = Event::RequestHeaders { request: &request, end_of_stream };
        self.handle(Message::Request, event, Some(&request))
    }

    // docs/envoy.md#growing-bodies: `size` covers all of the body that has arrived, so only the last callback reads it.
    // docs/envoy.md#buffer-limits: Envoy answers a body that is too large by itself.
    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.request_body(Some(size), end_of_stream)
    }

    // docs/envoy.md#request-trailers: trailers end the body and do not report its size.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.request_body(None, true)
    }

    // docs/envoy.md#local-replies: Envoy calls this for the filter's own replies too. The session of a request that was
    // refused is idle, and ignores the event.
    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        let response = Current::new(MapType::HttpResponseHeaders);
        let event = Event::ResponseHeaders { response: &response, end_of_stream };
        self.handle(Message::Response, event, Some(&response))
    }

    // docs/envoy.md#response-chunks: `size` covers this chunk alone. docs/envoy.md#streams-that-never-end: the last
    // chunk may never come.
    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let buffer = || buffer(BufferType::HttpResponseBody, size);
        self.handle(Message::Response, Event::ResponseBody { buffer: &buffer, end_of_stream }, None)
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.handle(Message::Response, Event::ResponseTrailers, None)
    }

    // docs/envoy.md#a-stream-ends-twice: this is the first end, before Envoy writes the access log.
    fn on_log(&mut self) {
        self.handle(Message::Response, Event::StreamDone { flags: &response_flags }, None);
    }
}

impl Context for Stream {
    // docs/envoy.md#a-stream-ends-twice: this is the second end, after Envoy has written the access log.
    fn on_done(&mut self) -> bool {
        self.handle(Message::Response, Event::StreamDone { flags: &response_flags }, None);
        true
    }
}

impl Stream {
    fn request_body(&self, size: Option<usize>, end_of_stream: bool) -> Action {
        let buffer = |range| buffer_part(BufferType::HttpRequestBody, range);
        let effects = self.worker.borrow_mut().body(self.id, &buffer, size, end_of_stream, &now);
        self.apply(Message::Request, None, effects)
    }

    /// Brings an event to the request, and its effects to Envoy. The event is about `message`, `current` if it has
    /// just begun.
    fn handle(&self, message: Message, event: Event<'_>, current: Option<&Current>) -> Action {
        let effects = self.worker.borrow_mut().on(self.id, event, &now);
        self.apply(message, current, effects)
    }

    fn apply(&self, message: Message, current: Option<&Current>, effects: Effects) -> Action {
        edit_headers(message.headers(), &effects.headers, current.and_then(|current| current.headers.get()));
        match (message, &effects.body) {
            (Message::Request, Some(edit)) => edit_request_body(edit),
            (Message::Response, Some(edit)) => edit_body(BufferType::HttpResponseBody, edit),
            (_, None) => {}
        }
        amend(&effects.amended, current.and_then(|current| current.headers.get()));
        write_log(effects.log);
        if effects.wake {
            self.wake.post();
        }
        match effects.directive {
            Some(Directive::Continue) | None => Action::Continue,
            Some(Directive::Pause) => Action::Pause,
            Some(Directive::Reply(reply)) => {
                send(&reply);
                Action::Pause
            }
        }
    }
}

impl Wake {
    // docs/envoy.md#waking-the-root-context: Envoy runs `on_queue_ready` in the next turn of the event loop.
    fn post(&self) {
        if !self.is_posted.get() {
            self.is_posted.set(hostcalls::enqueue_shared_queue(self.queue, Some(&[1])).is_ok());
        }
    }

    fn receive(&self) {
        self.is_posted.set(false);
        let _ = hostcalls::dequeue_shared_queue(self.queue);
    }
}

impl Message {
    const fn headers(self) -> MapType {
        match self {
            Self::Request => MapType::HttpRequestHeaders,
            Self::Response => MapType::HttpResponseHeaders,
        }
    }
}

impl Current {
    const fn new(map: MapType) -> Self {
        Self { map, headers: OnceCell::new() }
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get_or_init(|| headers(self.map)).get(name)
    }
}

impl RequestView for Current {
    fn header(&self, name: &str) -> Option<String> {
        self.header(name)
    }

    // docs/envoy.md#client-address: `source.address` is the address that Envoy trusts, unlike `x-forwarded-for`.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        property(path)
    }
}

impl ResponseView for Current {
    fn header(&self, name: &str) -> Option<String> {
        self.header(name)
    }

    // docs/envoy.md#envoys-own-replies: the attributes of a response are known when its headers come.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        property(path)
    }

    // docs/envoy.md#host-call-costs: one header costs half of what all cost.
    fn status(&self) -> u16 {
        const STATUS: &str = ":status";
        let status = match self.headers.get() {
            Some(headers) => headers.get(STATUS),
            None => header(self.map, STATUS),
        };
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

// docs/envoy.md#shared-data: one map per process. It survives reloads and crashes, and never frees a key.
// docs/envoy.md#hot-restart: the new process begins with an empty map.
impl SharedData for SharedMap {
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
        let (value, version) = hostcalls::get_shared_data(key).ok()?;
        Some((value?, NonZeroU32::new(version?)?))
    }

    // docs/envoy.md#shared-data: version 0 means any version, hence `NonZeroU32`.
    fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool {
        hostcalls::set_shared_data(key, Some(value), Some(version.get())).is_ok()
    }

    // docs/envoy.md#shared-data: two workers that create one key both succeed, and one of them loses its write.
    fn create(&self, key: &str, value: &[u8]) {
        let _ = hostcalls::set_shared_data(key, Some(value), None);
    }
}

/// The value of a header; U+FFFD replaces what is not UTF-8. docs/envoy.md#panicking-wrappers: as bytes, because the
/// SDK panics where it makes a string of them. docs/envoy.md#host-call-costs: a header that is absent costs little.
fn header(map: MapType, name: &str) -> Option<String> {
    let value = hostcalls::get_map_value_bytes(map, name).ok().flatten()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// One of Envoy's attributes of the current stream.
fn property(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// The response flags of the current stream; none if they cannot be read. docs/envoy.md#who-ended-a-stream: they are
/// final when it ends.
fn response_flags() -> ResponseFlags {
    let flags =
        property(&["response", "flags"]).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    ResponseFlags(flags.unwrap_or_default())
}

/// All headers of a message, as Envoy writes them; none if they cannot be read. The SDK's own function allocates every
/// name and value, and panics on a name that is not UTF-8 (docs/envoy.md#panicking-wrappers).
fn headers(map: MapType) -> HeaderMap {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    }
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both places are valid, and Envoy writes to them before it returns.
    let status = unsafe { proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size) };
    if status != Status::Ok as u32 || data.is_null() {
        return HeaderMap::default();
    }
    // SAFETY: Envoy has got these bytes from the SDK's `proxy_on_memory_allocate`, which makes a vector of just this
    // size and leaves it to the caller.
    HeaderMap::new(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// The first `size` bytes of a buffer; none if it cannot be read.
fn buffer(buffer: BufferType, size: usize) -> Vec<u8> {
    buffer_part(buffer, 0..size)
}

/// Some bytes of a buffer; none if they cannot be read.
fn buffer_part(buffer: BufferType, range: Range<usize>) -> Vec<u8> {
    hostcalls::get_buffer(buffer, range.start, range.len()).ok().flatten().unwrap_or_default()
}

/// Some bytes of the body of the request of `stream`, which is held; none if the stream is gone.
/// docs/envoy.md#held-bodies: the root context reads it too.
fn request_body(stream: u32, range: Range<usize>) -> Vec<u8> {
    if hostcalls::set_effective_context(stream).is_err() {
        return Vec::new();
    }
    buffer_part(BufferType::HttpRequestBody, range)
}

/// The body of the sidecar's answer to a callout, or the reason why there is none; and its header about the counts of
/// prompts.
fn callout_answer(
    headers: usize,
    body_size: usize,
    sidecar: &mut SidecarVersion,
    now: Millis,
) -> (Result<Vec<u8>, Failure>, Option<String>) {
    // docs/envoy.md#failed-callouts: Envoy reports no more than this.
    if headers == 0 {
        return (Err("the callout timed out, was reset or found no healthy host".into()), None);
    }
    let headers = self::headers(MapType::HttpCallResponseHeaders);
    if let Err(why) = sidecar.check(headers.get(version::HEADER).as_deref(), now) {
        return (Err(why), None);
    }
    let body = buffer(BufferType::HttpCallResponseBody, body_size);
    let answer = match headers.get(":status").as_deref() {
        Some("200") => Ok(body),
        status => Err(Failure::of_status(status, &body)),
    };
    (answer, headers.get(corrections::HEADER))
}

/// Answers the current stream. docs/envoy.md#local-replies: Envoy sends the reply after this callback, through the
/// filter's own response callbacks.
fn send(reply: &Reply) {
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _ = hostcalls::send_http_response(reply.status, headers, Some(&reply.body));
}

/// Edits headers that have not gone on (docs/envoy.md#released-headers). docs/envoy.md#host-call-costs: a few single
/// edits cost less than writing the whole map, and one that changes nothing costs nearly as much as one that does. So
/// if the headers are `known`, those that are not there are not removed, nor those that get another value, and those
/// that are new are added, for which Envoy need not look for them.
fn edit_headers(map: MapType, edits: &HeaderEdits, known: Option<&HeaderMap>) {
    if edits.remove.is_empty() && edits.set.is_empty() {
        return;
    }
    let present: Option<Vec<&[u8]>> = known.map(|headers| headers.names().collect());
    let count = |name: &str| {
        let present = present.as_ref()?;
        Some(present.iter().filter(|known| **known == name.as_bytes()).count())
    };
    let is_set = |removed: &str| edits.set.iter().any(|(name, _)| *name == removed);
    let may_stay = |name| match count(name) {
        Some(0) => true,
        Some(1) => is_set(name),
        _ => false,
    };
    for name in edits.remove.iter().filter(|name| !may_stay(name)) {
        let _ = hostcalls::set_map_value_bytes(map, name, None);
    }
    for (name, value) in &edits.set {
        let value = value.as_bytes();
        let _ = match count(name) {
            Some(0) => hostcalls::add_map_value_bytes(map, name, value),
            _ => hostcalls::set_map_value_bytes(map, name, Some(value)),
        };
    }
}

/// Edits the beginning of the body, and `content-length` if the request has it. docs/envoy.md#released-headers: a
/// session edits a body only while it holds the headers.
fn edit_request_body(edit: &BodyEdit) {
    const LENGTH: &str = "content-length";
    let map = MapType::HttpRequestHeaders;
    if let Some(length) = header(map, LENGTH).and_then(|length| length.parse::<usize>().ok()) {
        let edited = length.saturating_sub(edit.replaced).saturating_add(edit.with.len()).to_string();
        let _ = hostcalls::set_map_value_bytes(map, LENGTH, Some(edited.as_bytes()));
    }
    edit_body(BufferType::HttpRequestBody, edit);
}

/// Replaces a part of a buffer. docs/envoy.md#response-chunks: the buffer of a response has one chunk.
/// docs/envoy.md#edits-of-buffers: Envoy replaces none but the first bytes, so those before the part go with it.
fn edit_body(buffer: BufferType, edit: &BodyEdit) {
    let BodyEdit { after, replaced, ref with } = *edit;
    if after == 0 {
        let _ = hostcalls::set_buffer(buffer, 0, replaced, with);
        return;
    }
    let mut bytes = buffer_part(buffer, 0..after);
    // Without them, nothing can be replaced.
    if bytes.len() == after {
        bytes.extend_from_slice(with);
        let _ = hostcalls::set_buffer(buffer, 0, after.saturating_add(replaced), &bytes);
    }
}

/// Changes a request that is held, for a limit over which it goes on. `known` are its headers, if they were read.
/// docs/envoy.md#routes-are-chosen-before-filters: Envoy has chosen the route by what the client sent, and chooses anew
/// only if its choice is cleared.
fn amend(amended: &Amended, known: Option<&HeaderMap>) {
    if let Some(edit) = &amended.model {
        edit_request_body(edit);
    }
    let map = MapType::HttpRequestHeaders;
    let mut has_changed = false;
    for (name, value) in &amended.routes {
        let is_there = || match known {
            Some(headers) => headers.names().any(|known| known == name.as_bytes()),
            None => header(map, name).is_some(),
        };
        if value.is_some() || is_there() {
            let value = value.as_ref().map(|value| value.as_bytes());
            has_changed |= hostcalls::set_map_value_bytes(map, name, value).is_ok();
        }
    }
    if has_changed {
        let _ = hostcalls::call_foreign_function("clear_route_cache", None);
    }
}

/// Writes fields for the access log into the current stream. docs/envoy.md#filter-state: a property that the filter
/// sets is filter state, and must be set in `on_log` at the latest.
fn write_log(fields: LogFields) {
    for (field, value) in fields {
        let _ = hostcalls::set_property(vec![field.name()], Some(value.as_bytes()));
    }
}

/// The time since the epoch. docs/envoy.md#clock: it jumps when somebody sets the clock.
fn now() -> Millis {
    let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok());
    now.map_or(Millis::ZERO, |now| Millis::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)))
}
