//! Envoy's callbacks, and what each mode does in them.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, MapType};
use serde_json::Value;
use std::hint::black_box;
use std::rc::Rc;

/// The headers that `floor` adds to a response: as many as the limiter does, with four limits.
const ADDED: [&str; 9] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { mode: Rc::new(Mode::Empty) }));
}}

enum Mode {
    Empty,
    Floor,
    Refuse { headers: Vec<(String, String)>, body: String },
}

struct Root {
    mode: Rc<Mode>,
}

struct Stream {
    mode: Rc<Mode>,
}

impl Mode {
    /// The mode of a configuration; `None` if there is no such mode.
    fn of(configuration: &[u8]) -> Option<Self> {
        let configuration: Value = serde_json::from_slice(configuration).ok()?;
        match configuration.get("mode")?.as_str()? {
            "empty" => Some(Self::Empty),
            "floor" => Some(Self::Floor),
            "refuse" => {
                let headers = serde_json::from_value(configuration.get("headers")?.clone()).ok()?;
                Some(Self::Refuse { headers, body: configuration.get("body")?.as_str()?.to_owned() })
            }
            _ => None,
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let configuration = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size);
        let mode = configuration.ok().flatten().and_then(|bytes| Mode::of(&bytes));
        mode.map(|mode| self.mode = Rc::new(mode)).is_some()
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { mode: Rc::clone(&self.mode) }))
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match &*self.mode {
            Mode::Empty => Action::Continue,
            Mode::Floor => {
                let _ = black_box(hostcalls::get_map_bytes(MapType::HttpRequestHeaders));
                if end_of_stream { Action::Continue } else { Action::Pause }
            }
            Mode::Refuse { headers, body } => {
                let _ = black_box(hostcalls::get_map_bytes(MapType::HttpRequestHeaders));
                let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let _ = hostcalls::send_http_response(429, headers, Some(body.as_bytes()));
                Action::Pause
            }
        }
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        if !matches!(*self.mode, Mode::Floor) {
            return Action::Continue;
        }
        if !end_of_stream {
            return Action::Pause;
        }
        let _ = black_box(hostcalls::get_buffer(BufferType::HttpRequestBody, 0, size));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if matches!(*self.mode, Mode::Floor) {
            let _ = black_box(hostcalls::get_map_bytes(MapType::HttpResponseHeaders));
            for name in ADDED {
                let _ = hostcalls::add_map_value(MapType::HttpResponseHeaders, name, "1000");
            }
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, _: bool) -> Action {
        if matches!(*self.mode, Mode::Floor) && size > 0 {
            let _ = black_box(hostcalls::get_buffer(BufferType::HttpResponseBody, 0, size));
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if matches!(*self.mode, Mode::Floor) {
            let _ = hostcalls::set_property(vec!["floor.decision"], Some(b"admitted"));
        }
    }
}
