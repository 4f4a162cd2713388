//! A plugin as one topic uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use ottla_plugin_host::{Kind, Partitioner};

use super::Resolved;
use crate::config::PluginRef;

/// Between two log lines about the same plugin on the same topic, in milliseconds. What happens between is counted.
const COMPLAINT_INTERVAL_MS: i64 = 10_000;

/// What a topic says about its plugin of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// What the plugin is to do.
    pub kind: Kind,
    /// The plugin.
    pub plugin: &'a PluginRef,
    /// The text handed to it.
    pub config: &'a str,
}

impl<'a> Binding<'a> {
    /// The partitioner of a topic.
    pub fn partitioner(plugin: &'a PluginRef, config: &'a str) -> Self {
        Self { kind: Kind::Partitioner, plugin, config }
    }
}

/// A partitioner, ready to be called for a topic.
#[derive(Debug)]
pub struct BoundPlugin {
    name: String,
    version: i32,
    config: String,
    partitioner: Arc<Partitioner>,
    /// The generation of the registry for which this is known to be the right version.
    confirmed: AtomicU64,
    complained_ms: AtomicI64,
    unmentioned: AtomicU64,
}

impl BoundPlugin {
    pub(super) fn new(name: &str, version: i32, partitioner: Arc<Partitioner>, config: &str) -> Self {
        Self {
            name: name.to_owned(),
            version,
            config: config.to_owned(),
            partitioner,
            confirmed: AtomicU64::new(u64::MAX),
            complained_ms: AtomicI64::new(i64::MIN),
            unmentioned: AtomicU64::new(0),
        }
    }

    /// What to call.
    pub fn partitioner(&self) -> &Partitioner {
        &self.partitioner
    }

    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Writes a log line about a failure, unless there was one moments ago.
    pub fn complain(&self, topic: &str, partition: i32, reason: &str) {
        let now_ms = crate::clock::now_ms();
        let last_ms = self.complained_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= COMPLAINT_INTERVAL_MS;
        let mine =
            || self.complained_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() {
            let unmentioned = self.unmentioned.swap(0, Ordering::Relaxed);
            tracing::warn!(
                plugin = self.name,
                version = self.version,
                topic,
                partition,
                reason,
                more_since_last = unmentioned,
                "plugin failed, the batch was refused"
            );
        } else {
            self.unmentioned.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether it is what the topic asks for, as far as the topic says.
    pub(super) fn serves(&self, binding: Binding<'_>) -> bool {
        self.name == binding.plugin.name
            && self.config == binding.config
            && binding.plugin.version.is_none_or(|version| version == self.version)
    }

    pub(super) fn is(&self, resolved: Resolved) -> bool {
        self.version == resolved.version && *self.partitioner.digest() == resolved.digest
    }

    pub(super) fn is_confirmed(&self, generation: u64) -> bool {
        self.confirmed.load(Ordering::Acquire) == generation
    }

    pub(super) fn confirm(&self, generation: u64) {
        self.confirmed.store(generation, Ordering::Release);
    }
}
