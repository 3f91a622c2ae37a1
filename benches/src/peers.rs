//! Other gateways beside this one, as far as a registry has them: LiteLLM's proxy, from PyPI, with a limit on requests
//! and one on tokens for the key. It keeps them in its process.

use crate::cases::{CONNECTIONS, Shape};
use crate::load::Load;
use crate::processes::{cpu_micros, memory};
use crate::rounds::Effort;
use crate::stacks::{Key, Kind, Stacks};
use crate::statistics::{self, Spread};
use llm_rate_limit_tests::process::{Process, free_port};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The variable that names LiteLLM's program. Without it, no peer is measured.
pub const LITELLM: &str = "LITELLM_BIN";

/// How long it may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(180);

/// Gives every key both limits. LiteLLM has them in a database otherwise.
const LIMITS: &str = "from litellm.proxy._types import UserAPIKeyAuth


async def auth(request, api_key: str) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=1_000_000_000, tpm_limit=1_000_000_000_000)
";

/// A gateway in a turn: requests a second, the median of a lone request, and the processor time of a request.
type Turn = [f64; 3];

/// The table of peers, or a sentence if there are none.
pub fn measure(stacks: &mut Stacks, upstream: SocketAddr, effort: Effort) -> String {
    let title = "## Peers\n\n";
    let nowhere = "agentgateway, Envoy AI Gateway, Limitador's server and Envoy's ratelimit service are in none of \
                   the registries that the build uses";
    let Ok(program) = std::env::var(LITELLM) else {
        return format!("{title}Not measured: `make bench PEERS=1` fetches LiteLLM from PyPI; {nowhere}.\n");
    };
    let litellm = LiteLlm::start(&program, upstream);
    let names = ["bare Envoy", "local, all token limits, settled", "LiteLLM, requests and tokens limited"];
    let mut turns: [Vec<Turn>; 3] = Default::default();
    let mut resident = [0.0; 3];
    for _ in 0..effort.rounds.min(3) {
        for (at, turns) in turns.iter_mut().enumerate() {
            let (address, id) = match at {
                0 => of(stacks, Kind::Bare),
                1 => of(stacks, Kind::Local),
                _ => (litellm.address, litellm.process.id()),
            };
            turns.push(turn(address, id, effort));
            resident[at] = memory(id);
        }
    }
    let mut text = format!(
        "{title}The same small chats to LiteLLM's proxy, from PyPI, with one worker and limits on requests and tokens \
         that it keeps in its process; {nowhere}.\n\n| | requests/s | of bare Envoy's | lone p50, µs | processor, µs | \
         memory, MB |\n|---|---|---|---|---|---|\n"
    );
    let bare = turns[0].clone();
    for ((name, turns), resident) in names.iter().zip(&turns).zip(resident) {
        let [rate, lone, cpu] = [0, 1, 2].map(|at| Spread::of(turns.iter().map(|turn| turn[at])).median);
        let ratio = Spread::of(turns.iter().zip(&bare).map(|(turn, bare)| turn[0] / bare[0])).median;
        let _ = writeln!(
            text,
            "| {name} | {rate:.0} | {ratio:.3} | {lone:.0} | {cpu:.0} | {:.0} |",
            resident / 1e6
        );
    }
    text
}

fn of(stacks: &mut Stacks, kind: Kind) -> (SocketAddr, u32) {
    let envoy = &stacks.get(kind, 1, false).envoy;
    (envoy.address(), envoy.id())
}

fn turn(address: SocketAddr, id: u32, effort: Effort) -> Turn {
    let request = Shape::json(100).request(&Key::All.of(0));
    let load = Load { connections: CONNECTIONS, requests: vec![request].into(), status: 200 };
    let measured = load.run(address, effort.turn / 2, effort.turn, || cpu_micros(id));
    let lone = Load { connections: 1, ..load }.run(address, effort.turn / 4, effort.turn / 2, || ());
    let requests = measured.micros.len() as f64;
    let [before, after] = measured.snapshots;
    [requests / measured.seconds, statistics::at(&lone.micros, 0.5), (after - before) / requests]
}

/// A running proxy; killed when dropped.
struct LiteLlm {
    process: Process,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl LiteLlm {
    fn start(program: &str, upstream: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        fs::write(directory.path().join("limits.py"), LIMITS).unwrap();
        // JSON is YAML.
        let configuration = json!({
            "model_list": [{
                "model_name": "gpt-4o",
                "litellm_params": {
                    "model": "openai/gpt-4o", "api_key": "upstream", "api_base": format!("http://{upstream}/v1"),
                },
            }],
            "general_settings": {"custom_auth": "limits.auth", "master_key": format!("sk-{:064x}", 1)},
            "litellm_settings": {"telemetry": false},
        });
        fs::write(directory.path().join("config.yaml"), configuration.to_string()).unwrap();
        let mut command = Command::new(program);
        command.args(["--config", "config.yaml", "--host", "127.0.0.1", "--telemetry", "False"]);
        command.arg("--port").arg(address.port().to_string()).current_dir(directory.path());
        command.envs([("LITELLM_LOG", "ERROR"), ("LITELLM_LOCAL_MODEL_COST_MAP", "True")]);
        command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
        let mut process = Process::start("litellm", command);
        process.wait_until("listening", STARTS_WITHIN, |_| TcpStream::connect(address).is_ok());
        Self { process, address, _directory: directory }
    }
}
