//! What a plugin may cost.

use serde::{Deserialize, Serialize};

/// Bounds on everything that a plugin can use up. All of them hold per plugin unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest upload.
    pub plugin_bytes_max: u64,
    /// Processor time of the compile child, in seconds.
    pub compile_cpu_s: u64,
    /// Wall-clock time of the compile child, in seconds; it also covers waiting for a processor.
    pub compile_wall_s: u64,
    /// Memory (writable data) of the compile child.
    pub compile_memory_bytes: u64,
    /// Largest compiled form.
    pub compiled_bytes_max: u64,
    /// Linear memory of one instance.
    pub memory_bytes: u64,
    /// Linear memory of all instances of all plugins together.
    pub memory_total_bytes: u64,
    /// Processor time of one call. A call that waits for a processor on a busy machine gets more wall-clock time.
    pub call_deadline_ms: u64,
    /// The same for creating an instance: instantiation and `init`.
    pub start_deadline_ms: u64,
    /// Calls of one binding that run at the same time; more wait.
    pub concurrent_calls_max: usize,
    /// How long a call waits for its turn.
    pub turn_wait_ms: u64,
    /// Instances alive at the same time, of all plugins together.
    pub instances_max: u32,
    /// Most records handed over in one call; a larger batch takes several.
    pub records_per_call_max: usize,
    /// Most bytes handed over in one call, unless a single record is larger.
    pub bytes_per_call_max: usize,
    /// Bytes that a guest may answer besides twice what it was given.
    pub answer_bytes_more: usize,
    /// Largest configuration text.
    pub config_bytes_max: usize,
    /// Largest assets of one binding, together.
    pub asset_bytes_max: usize,
}

impl Limits {
    /// Most bytes that a guest may answer to the largest call.
    pub fn answer_bytes_max(&self) -> usize {
        self.answer_bytes_to(self.bytes_per_call_max)
    }

    /// Most bytes that a guest may answer to a call of so many bytes.
    pub fn answer_bytes_to(&self, call_bytes: usize) -> usize {
        call_bytes.saturating_mul(2).saturating_add(self.answer_bytes_more)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            plugin_bytes_max: 32 << 20,
            compile_cpu_s: 30,
            compile_wall_s: 90,
            compile_memory_bytes: 1 << 30,
            compiled_bytes_max: 512 << 20,
            memory_bytes: 32 << 20,
            memory_total_bytes: 256 << 20,
            call_deadline_ms: 100,
            start_deadline_ms: 500,
            // One processor stays free of plugins, so that a runaway one cannot hold them all.
            concurrent_calls_max: processors.saturating_sub(1).max(1),
            turn_wait_ms: 2000,
            instances_max: 512,
            records_per_call_max: 4096,
            bytes_per_call_max: 4 << 20,
            answer_bytes_more: 64 << 10,
            config_bytes_max: 256 << 10,
            asset_bytes_max: 16 << 20,
        }
    }
}
