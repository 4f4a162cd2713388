//! What the broker says while it runs: log lines on stderr, `info` and above unless `OTTLA_LOG` says otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

/// The variable that chooses what is logged, in the words of `tracing`: `debug`, `ottla_broker=trace,info` …
pub(crate) const LOG_VARIABLE: &str = "OTTLA_LOG";

/// Begins logging. Calling it again, as tests do, changes nothing.
pub(crate) fn init() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter).with_target(false);
    let _ = lines.with_ansi(stderr().is_terminal()).try_init();
}
