//! The process in the metrics that every Prometheus client has, under the same names:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>. Where the system has no `/proc`,
//! they are left out.

use procfs::process::{LimitValue, Process as Proc};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

/// Reads the process whenever somebody asks.
#[derive(Debug)]
pub(super) struct Process;

/// What the system knows of it.
struct State {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
    max_files: f64,
    start_seconds: f64,
}

impl State {
    fn read() -> ProcResult<Self> {
        let process = Proc::myself()?;
        let stat = process.stat()?;
        let max_files = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Unlimited => f64::INFINITY,
            LimitValue::Value(files) => files as f64,
        };
        let ticks = ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: (stat.rss * page_size()) as f64,
            virtual_bytes: stat.vsize as f64,
            open_files: process.fd_count()? as f64,
            max_files,
            start_seconds: boot_time_secs()? as f64 + stat.starttime as f64 / ticks,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(state) = State::read() else { return Ok(()) };
        let cpu = ConstCounter::new(state.cpu_seconds);
        let help = "User and system processor time";
        let of = encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?;
        cpu.encode(of)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in use", state.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that is mapped", state.virtual_bytes),
            ("process_open_fds", "Open files, connections among them", state.open_files),
            ("process_max_fds", "The most files that may be open", state.max_files),
            ("process_start_time_seconds", "When it was started, since the epoch", state.start_seconds),
        ] {
            let gauge = ConstGauge::new(value);
            let of = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(of)?;
        }
        Ok(())
    }
}
