//! What the kernel knows of this process, under the names that every Prometheus client gives it.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::text::{Labels, Page};

/// Ticks of a second in `/proc`: a constant of Linux towards programs, at any tick rate of the kernel.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds what can be read.
pub(super) fn add(page: &mut Page) {
    let times = Times::read().unwrap_or_default();
    page.fraction_counter("process_cpu_seconds_total", "Processor time of the process, user and system", times.cpu);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of_status = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let limit = getrlimit(Resource::Nofile).current.map(|files| files as f64);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    let gauges = [
        ("process_resident_memory_bytes", "Memory of the process in RAM", of_status("VmRSS").map(|kib| kib * 1024.0)),
        ("process_virtual_memory_bytes", "Address space of the process", of_status("VmSize").map(|kib| kib * 1024.0)),
        ("process_threads", "Threads of the process", of_status("Threads")),
        ("process_open_fds", "Open files and connections of the process", open),
        ("process_max_fds", "Files and connections that the process may have open", limit),
        ("process_start_time_seconds", "When the process started, in seconds since 1970", times.started),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value.map(|value| (Labels::new(), value)));
    }
}

/// What `/proc/self/stat` says, in seconds.
#[derive(Debug, Default)]
struct Times {
    /// Processor time.
    cpu: f64,
    /// The start, since 1970.
    started: Option<f64>,
}

impl Times {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name in parentheses, which may hold anything. The third one is the first behind it.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let seconds = |field: usize| fields.get(field - 3)?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_SECOND);
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = machine.lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
        let (user, system) = (seconds(14)?, seconds(15)?);
        Some(Self { cpu: user + system, started: booted.zip(seconds(22)).map(|(booted, after)| booted + after) })
    }
}
