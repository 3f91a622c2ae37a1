//! The boundary to Envoy: the only file that speaks proxy-wasm. Callbacks translate and decide nothing.
//!
//! The SDK's wrappers panic on whatever they do not expect, such as a header map that has gone on, so everything here
//! goes through `hostcalls`, in the phase in which it is known to work. `RefCell` borrows end before the host is
//! called: a call may bring the next callback.

use crate::answer::Reply;
use crate::config::{Config, Store};
use crate::identity::RequestView;
use crate::quantity::Millis;
use crate::request::BodyEdit;
use crate::session::{Directive, Effects, Event, HeaderEdits, ResponseFlags, ResponseView};
use crate::store::local::SharedData;
use crate::store::sidecar::{Callout, Kind};
use crate::telemetry::access_log::LogFields;
use crate::telemetry::stats::Stat;
use crate::worker::{Turn, Worker};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use strum::IntoEnumIterator as _;

/// How often deadlines are served and metrics are handed over.
const TICK: Duration = Duration::from_millis(50);

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, running: None, leaving: false }));
}}

/// One configuration in one worker.
struct Root {
    id: u32,
    running: Option<Running>,
    /// Whether Envoy lets go of this configuration and waits for the last settlements.
    leaving: bool,
}

/// What exists once the filter is configured.
struct Running {
    worker: SharedWorker,
    /// This context's own shared queue: what is posted there comes back in the next turn of the event loop.
    queue: u32,
    config: Arc<Config>,
    /// Callouts under way, by the host's token.
    callouts: HashMap<u32, Kind>,
    /// Envoy's ids of our counters, by name.
    metrics: HashMap<Cow<'static, str>, u32>,
}

type SharedWorker = Rc<RefCell<Worker<Host>>>;

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(running) = &mut self.running else { return };
        let Some(kind) = running.callouts.remove(&token) else { return };
        let answer = callout_answer(headers, body_size);
        let answer = answer.as_deref().map_err(Clone::clone);
        let turn = running.worker.borrow_mut().callout_ended(kind, answer, now());
        running.carry_out(turn, self.id);
        self.leave_if_idle();
    }

    fn on_done(&mut self) -> bool {
        // docs/envoy.md#reloads: Envoy waits for `done` if this returns false, so that the last settlements arrive.
        self.leaving = true;
        self.take_turn();
        self.report();
        self.is_idle()
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = buffer(BufferType::PluginConfiguration, size);
        let config = match Config::from_bytes(&bytes) {
            Ok(config) => Arc::new(config),
            Err(error) => {
                log::error!("llm-rate-limit: the configuration is refused:\n{error}");
                return false;
            }
        };
        self.running = Running::start(self.id, config);
        self.running.is_some()
    }

    fn on_tick(&mut self) {
        self.take_turn();
        self.report();
        self.leave_if_idle();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        while let Ok(Some(_)) = hostcalls::dequeue_shared_queue(queue) {}
        self.take_turn();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let running = self.running.as_ref()?;
        Some(Box::new(Stream { id, worker: Rc::clone(&running.worker), queue: running.queue }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Root {
    fn take_turn(&mut self) {
        let Some(running) = &mut self.running else { return };
        let turn = running.worker.borrow_mut().turn(now());
        running.carry_out(turn, self.id);
    }

    fn report(&mut self) {
        if let Some(running) = &mut self.running {
            running.report();
        }
    }

    fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.worker.borrow().is_idle())
    }

    /// Tells Envoy that it may let go of this context, if it waits for that.
    fn leave_if_idle(&mut self) {
        if self.leaving && self.is_idle() {
            self.leaving = false;
            let _ = hostcalls::done();
        }
    }
}

impl Running {
    fn start(root: u32, config: Arc<Config>) -> Option<Self> {
        let seed = RandomState::new().hash_one(root);
        let worker = Worker::new(Arc::clone(&config), Host, seed);
        let queue = hostcalls::register_shared_queue(&format!("llm-rate-limit/{seed:016x}/{root}")).ok()?;
        hostcalls::set_tick_period(TICK).ok()?;
        let metric = |stat: Stat| Some((stat.name().into(), counter(stat.name())?));
        let metrics = Stat::iter().filter_map(metric).collect();
        let worker = Rc::new(RefCell::new(worker));
        Some(Self { worker, queue, config, callouts: HashMap::new(), metrics })
    }

    /// Sends the turn's callouts and resumes or answers its streams. A callout that cannot be sent has failed, which
    /// brings another turn.
    fn carry_out(&mut self, turn: Turn, root: u32) {
        let mut turns = vec![turn];
        while let Some(turn) = turns.pop() {
            for (stream, effects) in turn.effects {
                // docs/envoy.md#effective-context: this fails for a stream that is gone, and it is what makes the calls
                // below reach the stream and not the root context.
                if hostcalls::set_effective_context(stream).is_ok() {
                    write_log(effects.log);
                    match effects.directive {
                        Some(Directive::Continue) => drop(hostcalls::resume_http_request()),
                        Some(Directive::Reply(reply)) => send(&reply),
                        Some(Directive::Pause) | None => {}
                    }
                }
            }
            let _ = hostcalls::set_effective_context(root);
            for callout in turn.callouts {
                let kind = callout.kind;
                match self.dispatch(&callout) {
                    Ok(token) => drop(self.callouts.insert(token, kind)),
                    Err(why) => turns.push(self.worker.borrow_mut().callout_ended(kind, Err(why), now())),
                }
            }
        }
    }

    fn dispatch(&self, callout: &Callout) -> Result<u32, String> {
        let Store::Redis(store) = self.config.store() else { return Err("there is no sidecar".into()) };
        let bearer = store.auth_token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        let mut headers = vec![
            (":method", "POST"),
            (":path", callout.kind.path()),
            (":authority", store.cluster.as_str()),
            ("content-type", "application/json"),
        ];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        hostcalls::dispatch_http_call(
            &store.cluster,
            headers,
            Some(&callout.body),
            Vec::new(),
            callout.timeout,
        )
        .map_err(|status| format!("cluster {:?} cannot be called: {status:?}", store.cluster))
    }

    /// Hands what was counted over to Envoy.
    fn report(&mut self) {
        let counts = self.worker.borrow_mut().take_stats();
        for (name, count) in counts {
            let known = self.metrics.get(&name).copied();
            let Some(metric) = known.or_else(|| counter(&name)) else { continue };
            self.metrics.insert(name, metric);
            let _ = hostcalls::increment_metric(metric, i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// Envoy's id of the counter called `name`.
fn counter(name: &str) -> Option<u32> {
    hostcalls::define_metric(MetricType::Counter, name).ok()
}

/// Writes fields for the access log into the current stream's filter state.
fn write_log(fields: LogFields) {
    for (field, value) in fields {
        let _ = hostcalls::set_property(vec![field.name()], Some(value.as_bytes()));
    }
}

/// One request.
struct Stream {
    id: u32,
    worker: SharedWorker,
    queue: u32,
}

impl Stream {
    /// Brings an event to the request, and the effects to Envoy. `message` is the half of the exchange that the event
    /// is about.
    fn step(&self, message: Message, event: Event<'_>) -> Action {
        let effects = self.worker.borrow_mut().on(self.id, event, now());
        self.apply(message, effects)
    }

    fn apply(&self, message: Message, effects: Effects) -> Action {
        edit_headers(message.headers(), &effects.headers);
        match (message, &effects.body) {
            (Message::Request, Some(edit)) => edit_request_body(edit),
            (Message::Response, Some(edit)) => edit_body(BufferType::HttpResponseBody, edit),
            (_, None) => {}
        }
        write_log(effects.log);
        if effects.wake {
            // docs/envoy.md#the-root-context-makes-the-calls: it runs in the next turn of the event loop.
            let _ = hostcalls::enqueue_shared_queue(self.queue, Some(&[1]));
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

/// The half of an exchange.
#[derive(Clone, Copy)]
enum Message {
    Request,
    Response,
}

impl Message {
    const fn headers(self) -> MapType {
        match self {
            Self::Request => MapType::HttpRequestHeaders,
            Self::Response => MapType::HttpResponseHeaders,
        }
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.step(Message::Response, Event::StreamDone { flags: &response_flags });
        true
    }
}

impl HttpContext for Stream {
    // docs/envoy.md#a-stream-ends-twice: before Envoy writes the access log, and here, after it.
    fn on_log(&mut self) {
        self.step(Message::Response, Event::StreamDone { flags: &response_flags });
    }

    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.step(Message::Request, Event::RequestHeaders { request: &Host, end_of_stream })
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let buffer = || buffer(BufferType::HttpRequestBody, size);
        self.step(Message::Request, Event::RequestBody { buffer: &buffer, end_of_stream })
    }

    // docs/envoy.md#request-trailers: the size of the body is not said here, so all of it is read.
    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.on_http_request_body(usize::MAX, true)
    }

    // docs/envoy.md#local-replies: this runs for the filter's own replies too; such a request is over for its session.
    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.step(Message::Response, Event::ResponseHeaders { response: &ResponseHeaders, end_of_stream })
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        let buffer = || buffer(BufferType::HttpResponseBody, size);
        self.step(Message::Response, Event::ResponseBody { buffer: &buffer, end_of_stream })
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.step(Message::Response, Event::ResponseTrailers)
    }
}

/// Envoy, as the pure code sees it.
#[derive(Clone, Copy, Debug)]
struct Host;

impl RequestView for Host {
    fn header(&self, name: &str) -> Option<String> {
        header(MapType::HttpRequestHeaders, name)
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        hostcalls::get_property(path.to_vec()).ok().flatten()
    }
}

/// The headers of the current response.
#[derive(Clone, Copy, Debug)]
struct ResponseHeaders;

impl ResponseView for ResponseHeaders {
    fn header(&self, name: &str) -> Option<String> {
        header(MapType::HttpResponseHeaders, name)
    }
}

impl SharedData for Host {
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
        let (value, version) = hostcalls::get_shared_data(key).ok()?;
        Some((value?, NonZeroU32::new(version?)?))
    }

    fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool {
        hostcalls::set_shared_data(key, Some(value), Some(version.get())).is_ok()
    }

    fn create(&self, key: &str, value: &[u8]) {
        let _ = hostcalls::set_shared_data(key, Some(value), None);
    }
}

/// A header's value, without what is not UTF-8.
fn header(map: MapType, name: &str) -> Option<String> {
    let value = hostcalls::get_map_value_bytes(map, name).ok().flatten()?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// The response flags of the current stream; none if they cannot be read. docs/envoy.md#who-ended-a-stream: they are
/// final when it ends.
fn response_flags() -> ResponseFlags {
    let flags = hostcalls::get_property(vec!["response", "flags"]).ok().flatten();
    let flags = flags.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    ResponseFlags(flags.unwrap_or_default())
}

/// The first `size` bytes of a buffer; none if it cannot be read.
fn buffer(buffer: BufferType, size: usize) -> Vec<u8> {
    hostcalls::get_buffer(buffer, 0, size).ok().flatten().unwrap_or_default()
}

/// The body of a callout's answer, or why there is none.
fn callout_answer(headers: usize, body_size: usize) -> Result<Vec<u8>, String> {
    if headers == 0 {
        return Err("no answer came (timed out, refused or reset)".into());
    }
    let body = buffer(BufferType::HttpCallResponseBody, body_size);
    match header(MapType::HttpCallResponseHeaders, ":status").as_deref() {
        Some("200") => Ok(body),
        status => Err(format!(
            "the sidecar answered {}: {}",
            status.unwrap_or("without a status"),
            String::from_utf8_lossy(body.get(..200).unwrap_or(&body))
        )),
    }
}

fn send(reply: &Reply) {
    let headers = reply.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let _ = hostcalls::send_http_response(reply.status, headers, Some(&reply.body));
}

fn edit_headers(map: MapType, edits: &HeaderEdits) {
    for name in &edits.remove {
        let _ = hostcalls::set_map_value_bytes(map, name, None);
    }
    for (name, value) in &edits.set {
        let _ = hostcalls::set_map_value_bytes(map, name, Some(value.as_bytes()));
    }
}

/// Changes the beginning of the body, and its length if the headers tell it: they are still held back.
fn edit_request_body(edit: &BodyEdit) {
    const LENGTH: &str = "content-length";
    let map = MapType::HttpRequestHeaders;
    if let Some(length) = header(map, LENGTH).and_then(|length| length.parse::<usize>().ok()) {
        let edited = length.saturating_sub(edit.replaced).saturating_add(edit.with.len()).to_string();
        let _ = hostcalls::set_map_value_bytes(map, LENGTH, Some(edited.as_bytes()));
    }
    edit_body(BufferType::HttpRequestBody, edit);
}

fn edit_body(buffer: BufferType, edit: &BodyEdit) {
    let _ = hostcalls::set_buffer(buffer, 0, edit.replaced, &edit.with);
}

/// The time since the epoch.
fn now() -> Millis {
    let now = hostcalls::get_current_time().ok().and_then(|now| now.duration_since(UNIX_EPOCH).ok());
    now.map_or(Millis::ZERO, |now| Millis::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)))
}
