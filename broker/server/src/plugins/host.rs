//! The plugin host as the settings of the broker want it.

use ottla_plugin_host::{Compiler, Host, HostOptions, Limits};

use crate::config::Config;

/// The hidden subcommand of the binary that compiles a plugin.
const COMPILE_SUBCOMMAND: &str = "__compile";

/// A host whose store is in the data directory. Nothing is opened before the first plugin.
pub(crate) fn plugin_host(config: &Config) -> Host {
    let program = config.plugin_compiler.clone().or_else(|| std::env::current_exe().ok()).unwrap_or_default();
    Host::new(HostOptions {
        store_dir: config.data_dir.join("plugins"),
        compiler: Compiler { program, args: vec![COMPILE_SUBCOMMAND.into()] },
        limits: Limits {
            plugin_bytes_max: config.plugin_max_bytes,
            memory_bytes: config.plugin_memory_bytes,
            memory_total_bytes: config.plugin_memory_total_bytes,
            call_deadline_ms: config.plugin_call_ms,
            // So that no worker waits for a turn while its batch has to be answered.
            concurrent_calls_max: config.route_workers_per_topic(),
            ..Limits::default()
        },
    })
}
