//! A plugin bound to a topic: a warm pool of instances that names the partition of every record.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::columns::{Chunk, Columns};
use crate::digest::Digest;
use crate::engine::Runtime;
use crate::instance::{Instance, Prepared, Stop, TEXT_BYTES_MAX};
use crate::manifest::{Manifest, Reads, shorten};
use crate::pool::{Pool, Turn};

/// Where a batch goes; nothing else about it reaches the plugin besides its columns.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// Partitions of the topic, at least one.
    pub partition_count: u32,
}

/// Why a call gave no answer. The instance that failed is gone; the next call gets a fresh one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum CallError {
    #[error("the plugin failed: {reason}")]
    Trap { reason: String },
    #[error("the plugin did not finish within {allowed_ms} ms")]
    Deadline { allowed_ms: u64 },
    #[error("the plugin wanted {wanted_bytes} bytes of memory, {allowed_bytes} are allowed")]
    Memory { wanted_bytes: u64, allowed_bytes: u64 },
    #[error("all plugins together are at their {allowed_bytes} bytes of memory")]
    MemoryTotal { allowed_bytes: u64 },
    #[error("the plugin refused the batch: {reason}")]
    Refused { reason: String },
    #[error("the plugin answered for {found} records, {expected} were asked")]
    WrongCount { expected: usize, found: usize },
    #[error("the plugin sent record {record} to partition {partition} of {partition_count}")]
    OutOfRange { record: usize, partition: u32, partition_count: u32 },
    #[error("the plugin refused its configuration: {reason}")]
    ConfigRefused { reason: String },
    #[error("the plugin was busy for {waited_ms} ms")]
    Busy { waited_ms: u64 },
    #[error("too many plugin instances are alive ({instances_max})")]
    TooManyInstances { instances_max: u32 },
    #[error("the topic has no partitions")]
    NoPartitions,
    #[error("the columns hold other parts of the records than the plugin reads")]
    WrongColumns,
}

/// A plugin as compiled code, shared by all topics that use it.
pub(crate) struct Loaded {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) prepared: Prepared,
}

/// A partitioner for one topic. Calls block and may come from any thread; calls in flight go on when another version
/// takes over, for as long as a caller holds the `Arc`.
pub struct Partitioner {
    plugin: Arc<Loaded>,
    config: String,
    pool: Arc<Pool>,
    call_deadline_ms: u64,
    memory_bytes: u64,
    memory_held: Arc<AtomicU64>,
}

impl Partitioner {
    /// Binds the plugin to a configuration and starts a first instance, which checks the configuration.
    pub(crate) fn new(plugin: Arc<Loaded>, config: &str) -> Result<Self, CallError> {
        let limits = &plugin.runtime.limits;
        let pool = Arc::new(Pool::new(limits.concurrent_calls_max));
        let idle = Arc::downgrade(&pool);
        plugin.runtime.register(idle);
        let partitioner = Self {
            call_deadline_ms: plugin.manifest.call_ms.unwrap_or(limits.call_deadline_ms),
            memory_bytes: plugin.manifest.memory_bytes.unwrap_or(limits.memory_bytes),
            config: config.to_owned(),
            memory_held: Arc::default(),
            plugin,
            pool,
        };
        let mut turn = partitioner.turn()?;
        let first = partitioner.start()?;
        turn.give_back(first);
        drop(turn);
        Ok(partitioner)
    }

    /// The plugin's name in the store.
    pub fn digest(&self) -> &Digest {
        &self.plugin.digest
    }

    /// Linear memory of its instances, those that wait for a call included, in bytes.
    pub fn memory_held_bytes(&self) -> u64 {
        self.memory_held.load(Ordering::Relaxed)
    }

    /// What the plugin says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.plugin.manifest
    }

    /// Which parts of a record the columns must hold.
    pub fn reads(&self) -> Reads {
        self.plugin.manifest.reads
    }

    /// Asks for the partition of every record. On success `answer` holds one per record, each below the partition count;
    /// otherwise it is empty.
    ///
    /// Blocks for as long as the limits allow. A plugin may use 512 KiB of the calling thread's stack, so that thread
    /// should have 1 MiB or more, as threads of the standard library and of tokio do.
    pub fn partition(&self, context: &Context<'_>, columns: &Columns, answer: &mut Vec<u32>) -> Result<(), CallError> {
        answer.clear();
        if context.partition_count == 0 {
            return Err(CallError::NoPartitions);
        }
        if columns.reads() != self.reads() {
            return Err(CallError::WrongColumns);
        }
        let limits = &self.plugin.runtime.limits;
        let mut turn = self.turn()?;
        for chunk in columns.chunks(limits.records_per_call_max, limits.bytes_per_call_max) {
            if let Err(error) = self.ask(&mut turn, context, &chunk, answer) {
                answer.clear();
                return Err(error);
            }
        }
        Ok(())
    }

    fn turn(&self) -> Result<Turn<'_>, CallError> {
        let waited_ms = self.plugin.runtime.limits.turn_wait_ms;
        self.pool.turn(Duration::from_millis(waited_ms)).ok_or(CallError::Busy { waited_ms })
    }

    fn ask(
        &self,
        turn: &mut Turn<'_>,
        context: &Context<'_>,
        chunk: &Chunk<'_>,
        answer: &mut Vec<u32>,
    ) -> Result<(), CallError> {
        let instance = match turn.take() {
            Some(warm) => warm,
            None => self.start()?,
        };
        match self.ask_instance(instance, context, chunk, answer) {
            // The answer to a batch follows from the batch alone, so it can be asked for again once others made room.
            Err((None, CallError::MemoryTotal { .. })) => {
                self.plugin.runtime.drop_idle();
                let again = self.ask_instance(self.start()?, context, chunk, answer);
                again.map(|instance| turn.give_back(instance)).map_err(|(_, error)| error)
            }
            Err((survivor, error)) => {
                if let Some(instance) = survivor {
                    turn.give_back(instance);
                }
                Err(error)
            }
            Ok(instance) => {
                turn.give_back(instance);
                Ok(())
            }
        }
    }

    /// One call. The instance comes back if it can be used again.
    fn ask_instance(
        &self,
        mut instance: Instance,
        context: &Context<'_>,
        chunk: &Chunk<'_>,
        answer: &mut Vec<u32>,
    ) -> Result<Instance, (Option<Instance>, CallError)> {
        let topic = [("topic", context.topic)];
        let pairs: &[_] = if self.reads().topic { &topic } else { &[] };
        let (records, partition_count) = (chunk.records, context.partition_count);
        // Twice what a right answer takes, so that a wrong count can still be told from an attack on the host's memory.
        let data_bytes = records.saturating_mul(2 * size_of::<u32>()).saturating_add(TEXT_BYTES_MAX);
        let answered = instance.call(&self.plugin.runtime.clock, self.call_deadline_ms, data_bytes, |plugin, store| {
            let partitioner = plugin.ottla_plugin_partitioner();
            partitioner.call_partition(store, pairs, records as u32, partition_count, chunk.columns())
        });
        let partitions = match answered {
            Err(stop) => return Err((None, stop.into())),
            Ok(Err(reason)) => return Err((Some(instance), CallError::Refused { reason: shorten(&reason) })),
            Ok(Ok(partitions)) => partitions,
        };
        if partitions.len() != records {
            return Err((None, CallError::WrongCount { expected: records, found: partitions.len() }));
        }
        if let Some(at) = partitions.iter().position(|&partition| partition >= partition_count) {
            let partition = partitions.get(at).copied().unwrap_or_default();
            return Err((None, CallError::OutOfRange { record: answer.len() + at, partition, partition_count }));
        }
        if answer.is_empty() {
            *answer = partitions;
        } else {
            answer.extend_from_slice(&partitions);
        }
        Ok(instance)
    }

    /// A fresh instance that has taken the configuration.
    fn start(&self) -> Result<Instance, CallError> {
        match self.try_start() {
            Err(CallError::MemoryTotal { .. }) => {
                self.plugin.runtime.drop_idle();
                self.try_start()
            }
            started => started,
        }
    }

    fn try_start(&self) -> Result<Instance, CallError> {
        let Loaded { runtime, prepared, .. } = &*self.plugin;
        let limits = &runtime.limits;
        let slot =
            runtime.instance_slot().ok_or(CallError::TooManyInstances { instances_max: limits.instances_max })?;
        let mut instance = Instance::create(prepared, slot, self.memory_bytes, Arc::clone(&self.memory_held))?;
        instance
            .call(&runtime.clock, limits.start_deadline_ms, TEXT_BYTES_MAX, |plugin, store| {
                plugin.ottla_plugin_partitioner().call_init(store, &self.config)
            })?
            .map_err(|reason| CallError::ConfigRefused { reason: shorten(&reason) })?;
        Ok(instance)
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitioner")
            .field("digest", self.digest())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl From<Stop> for CallError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Deadline { allowed } => Self::Deadline { allowed_ms: allowed.as_millis() as u64 },
            Stop::Memory { wanted_bytes, allowed_bytes } => Self::Memory { wanted_bytes, allowed_bytes },
            Stop::MemoryTotal { allowed_bytes } => Self::MemoryTotal { allowed_bytes },
            Stop::Trap { reason } | Stop::WrongTypes { reason } => Self::Trap { reason },
        }
    }
}
