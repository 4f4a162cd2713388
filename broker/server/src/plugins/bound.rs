//! A plugin as one topic uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ottla_plugin_host::{CallError, Digest, Kind, Partitioner, Serializer};
use parking_lot::Mutex;

use super::{PluginStats, Resolved, Verdicts};
use crate::config::{PluginRef, TopicSettings};

/// Between two log lines about the same plugin on the same topic, in milliseconds. What happens between is counted.
const COMPLAINT_INTERVAL_MS: i64 = 10_000;

/// What a topic says about its plugin of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

    /// The topic setting that names the plugin.
    pub fn setting(&self) -> &'static str {
        match self.kind {
            Kind::Serializer => "ottla.serializer",
            _ => "ottla.partitioner",
        }
    }

    /// The plugins that a topic names, whatever their modes.
    pub fn all(settings: &'a TopicSettings) -> Vec<Self> {
        let partitioner = settings.partitioner.as_ref();
        let partitioner = partitioner.map(|plugin| Self::partitioner(plugin, &settings.partitioner_config));
        let serializer = settings.serializer.as_ref();
        let serializer = serializer.map(|plugin| Self::serializer(plugin, &settings.serializer_config));
        partitioner.into_iter().chain(serializer).collect()
    }

    /// The serializer of a topic.
    pub fn serializer(plugin: &'a PluginRef, config: &'a str) -> Self {
        Self { kind: Kind::Serializer, plugin, config }
    }
}

/// A plugin of one kind, loaded with the configuration of a topic.
#[derive(Debug, Clone)]
pub enum Instance {
    /// Names the partition of each record.
    Partitioner(Arc<Partitioner>),
    /// Accepts, rewrites or refuses each record.
    Serializer(Arc<Serializer>),
}

impl Instance {
    fn digest(&self) -> &Digest {
        match self {
            Self::Partitioner(plugin) => plugin.digest(),
            Self::Serializer(plugin) => plugin.digest(),
        }
    }

    fn memory_held_bytes(&self) -> u64 {
        match self {
            Self::Partitioner(plugin) => plugin.memory_held_bytes(),
            Self::Serializer(plugin) => plugin.memory_held_bytes(),
        }
    }
}

/// A plugin, ready to be called for a topic.
#[derive(Debug)]
pub struct BoundPlugin {
    name: String,
    version: i32,
    config: String,
    instance: Instance,
    /// The generation of the registry for which this is known to be the right version.
    confirmed: AtomicU64,
    complained_ms: AtomicI64,
    unmentioned: Mutex<Option<Unmentioned>>,
    stats: Arc<PluginStats>,
}

/// Failures that no log line has told yet: how many, and the last one.
#[derive(Debug)]
struct Unmentioned {
    count: u64,
    topic: String,
    partition: i32,
    reason: String,
}

impl BoundPlugin {
    pub(super) fn new(name: &str, version: i32, instance: Instance, config: &str, stats: Arc<PluginStats>) -> Self {
        Self {
            name: name.to_owned(),
            version,
            config: config.to_owned(),
            instance,
            confirmed: AtomicU64::new(u64::MAX),
            complained_ms: AtomicI64::new(i64::MIN),
            unmentioned: Mutex::default(),
            stats,
        }
    }

    /// What to call.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The component: its name in the store.
    pub fn digest(&self) -> &Digest {
        self.instance.digest()
    }

    /// Linear memory of its instances, in bytes.
    pub fn memory_held_bytes(&self) -> u64 {
        self.instance.memory_held_bytes()
    }

    /// `name@version`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which version of it this is.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Counts a batch that the plugin was asked about.
    pub(crate) fn note(&self, took: Duration, failure: Option<&CallError>) {
        self.stats.note(took, failure);
    }

    /// Counts the verdicts on the records of a batch.
    pub(crate) fn note_records(&self, verdicts: Verdicts) {
        self.stats.note_records(verdicts);
    }

    /// Writes a log line about a failure, unless there was one moments ago: then it is counted, and told with the next one,
    /// after a while, or when the version goes.
    pub fn complain(&self, topic: &str, partition: i32, reason: &str) {
        let now_ms = crate::clock::now_ms();
        let last_ms = self.complained_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(last_ms) >= COMPLAINT_INTERVAL_MS;
        let mine =
            || self.complained_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() {
            self.tell_unmentioned();
            let (plugin, version) = (&self.name, self.version);
            tracing::warn!(plugin, version, topic, partition, reason, "plugin failed, the batch was refused");
        } else {
            let mut unmentioned = self.unmentioned.lock();
            let count = unmentioned.as_ref().map_or(0, |before| before.count) + 1;
            *unmentioned = Some(Unmentioned { count, topic: topic.to_owned(), partition, reason: reason.to_owned() });
        }
    }

    /// Writes one log line about all failures that had none.
    fn tell_unmentioned(&self) {
        let unmentioned = self.unmentioned.lock().take();
        let Some(Unmentioned { count: more, topic, partition, reason }) = unmentioned else { return };
        let (plugin, version) = (&self.name, self.version);
        tracing::warn!(
            plugin,
            version,
            topic,
            partition,
            reason,
            more,
            "plugin went on failing, the batches were refused"
        );
    }

    /// The same where the last log line is not of this moment.
    pub(super) fn tell_unmentioned_when_due(&self) {
        let since_ms = crate::clock::now_ms().saturating_sub(self.complained_ms.load(Ordering::Relaxed));
        if since_ms >= COMPLAINT_INTERVAL_MS {
            self.tell_unmentioned();
        }
    }

    /// Whether it is what the topic asks for, as far as the topic says.
    pub(super) fn serves(&self, binding: Binding<'_>) -> bool {
        self.name == binding.plugin.name
            && self.config == binding.config
            && binding.plugin.version.is_none_or(|version| version == self.version)
    }

    pub(super) fn is(&self, resolved: Resolved) -> bool {
        self.version == resolved.version && *self.digest() == resolved.digest
    }

    pub(super) fn is_confirmed(&self, generation: u64) -> bool {
        self.confirmed.load(Ordering::Acquire) == generation
    }

    pub(super) fn confirm(&self, generation: u64) {
        self.confirmed.store(generation, Ordering::Release);
    }
}

/// A version that is replaced leaves nothing untold.
impl Drop for BoundPlugin {
    fn drop(&mut self) {
        self.tell_unmentioned();
    }
}
