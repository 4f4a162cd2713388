//! A plugin with a configuration: what the three kinds have in common. A warm pool of instances, each of which took the
//! configuration, and calls that get one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla_schema::Schema;
use wasmtime::Store;

use crate::call_error::CallError;
use crate::columns::{Chunk, Columns};
use crate::contract::{Asked, Exports, Pairs};
use crate::digest::Digest;
use crate::engine::Runtime;
use crate::instance::{Guest, Instance, Prepared, TEXT_BYTES_MAX};
use crate::manifest::{Kind, Manifest, shorten};
use crate::pool::{Pool, Turn};
use crate::reads::Reads;

/// What a binding hands to its plugin besides records.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The text, empty where none is set.
    pub config: String,
    /// The blobs that the manifest asks for, by name.
    pub assets: Vec<(String, Arc<[u8]>)>,
}

/// A configuration without assets.
impl From<&str> for Setup {
    fn from(config: &str) -> Self {
        Self { config: config.to_owned(), assets: Vec::new() }
    }
}

/// A plugin as compiled code, shared by all topics that use it.
pub(crate) struct Loaded {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    pub(crate) prepared: Prepared,
}

/// A plugin with a configuration. Calls block and may come from any thread; calls in flight go on when another version
/// takes over, for as long as a caller holds it.
pub(crate) struct Binding {
    plugin: Arc<Loaded>,
    setup: Setup,
    /// What it reads with this configuration: no more than its manifest says.
    reads: Reads,
    pool: Arc<Pool>,
    call_deadline_ms: u64,
    memory_bytes: u64,
    memory_held: Arc<AtomicU64>,
}

/// How one call ended: with an answer, and why not otherwise. The instance that is fit for another call comes along.
type Called<R> = Result<(Instance, R), Box<(Option<Instance>, CallError)>>;

impl Binding {
    /// Binds the plugin to a configuration and starts a first instance, which checks the configuration.
    pub(crate) fn new(plugin: Arc<Loaded>, setup: Setup) -> Result<Self, CallError> {
        check_setup(&plugin, &setup)?;
        let limits = &plugin.runtime.limits;
        let pool = Arc::new(Pool::new(limits.concurrent_calls_max));
        let idle = Arc::downgrade(&pool);
        plugin.runtime.register(idle);
        let mut binding = Self {
            call_deadline_ms: plugin.manifest.call_ms.unwrap_or(limits.call_deadline_ms),
            memory_bytes: plugin.manifest.memory_bytes.unwrap_or(limits.memory_bytes),
            reads: plugin.manifest.reads.clone(),
            setup,
            memory_held: Arc::default(),
            plugin,
            pool,
        };
        let (first, said) = binding.start()?;
        binding.reads = narrowed(&binding.plugin.manifest, &said)?;
        binding.turn()?.give_back(first);
        Ok(binding)
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.plugin.digest
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        &self.plugin.manifest
    }

    pub(crate) fn config(&self) -> &str {
        &self.setup.config
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    pub(crate) fn memory_held_bytes(&self) -> u64 {
        self.memory_held.load(Ordering::Relaxed)
    }

    /// Asks about records in as many calls as the limits want, with one turn for all of them. `number_bytes` is how long
    /// the number is that an answer has for each record. Each answer is checked by `take`, together with the most bytes that
    /// its columns may have; an error ends the asking.
    pub(crate) fn ask<R>(
        &self,
        columns: &Columns,
        number_bytes: usize,
        call: impl Fn(&Exports, &mut Store<Guest>, &Chunk<'_>) -> wasmtime::Result<Result<R, String>>,
        mut take: impl FnMut(&Chunk<'_>, R, usize) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        if columns.reads() != &self.reads {
            return Err(CallError::WrongColumns);
        }
        let (limits, manifest) = (&self.plugin.runtime.limits, &self.plugin.manifest);
        let records_max = manifest.records_per_call_max.map_or(limits.records_per_call_max, |records| records as usize);
        let mut turn = self.turn()?;
        for chunk in columns.chunks(records_max, limits.bytes_per_call_max) {
            let answer_max = limits.answer_bytes_to(chunk.byte_size());
            let answer_max = manifest.answer_bytes_max.map_or(answer_max, |bytes| answer_max.min(bytes as usize));
            let numbers = chunk.records.saturating_mul(number_bytes);
            // Twice what a right answer takes, so that a wrong one can still be told from an attack on the host's memory.
            let data_bytes = numbers.saturating_add(answer_max).saturating_mul(2).saturating_add(TEXT_BYTES_MAX);
            let answer = self.ask_once(&mut turn, data_bytes, |exports, store| call(exports, store, &chunk))?;
            if let Err(error) = take(&chunk, answer, answer_max) {
                // Nothing in an instance that breaks the contract can be trusted.
                drop(turn.take());
                return Err(error);
            }
        }
        Ok(())
    }

    fn turn(&self) -> Result<Turn<'_>, CallError> {
        let waited_ms = self.plugin.runtime.limits.turn_wait_ms;
        self.pool.turn(Duration::from_millis(waited_ms)).ok_or(CallError::Busy { waited_ms })
    }

    fn ask_once<R>(
        &self,
        turn: &mut Turn<'_>,
        data_bytes: usize,
        call: impl Fn(&Exports, &mut Store<Guest>) -> wasmtime::Result<Result<R, String>>,
    ) -> Result<R, CallError> {
        let instance = match turn.take() {
            Some(warm) => warm,
            None => self.start()?.0,
        };
        let called = match self.call(instance, data_bytes, &call) {
            // The answer to a batch follows from the batch alone, so it can be asked for again once others made room.
            Err(failed) if matches!(*failed, (None, CallError::MemoryTotal { .. })) => {
                self.plugin.runtime.drop_idle();
                self.call(self.start()?.0, data_bytes, &call)
            }
            called => called,
        };
        match called {
            Ok((instance, answer)) => {
                turn.give_back(instance);
                Ok(answer)
            }
            Err(failed) => {
                let (survivor, error) = *failed;
                if let Some(instance) = survivor {
                    turn.give_back(instance);
                }
                Err(error)
            }
        }
    }

    fn call<R>(
        &self,
        mut instance: Instance,
        data_bytes: usize,
        call: impl Fn(&Exports, &mut Store<Guest>) -> wasmtime::Result<Result<R, String>>,
    ) -> Called<R> {
        match instance.call(&self.plugin.runtime.clock, self.call_deadline_ms, data_bytes, call) {
            Err(stop) => Err(Box::new((None, stop.into()))),
            Ok(Err(reason)) => Err(Box::new((Some(instance), CallError::Refused { reason: shorten(&reason) }))),
            Ok(Ok(answer)) => Ok((instance, answer)),
        }
    }

    /// A fresh instance that has taken the configuration, and what it says to that.
    fn start(&self) -> Result<(Instance, Pairs), CallError> {
        match self.try_start() {
            Err(CallError::MemoryTotal { .. }) => {
                self.plugin.runtime.drop_idle();
                self.try_start()
            }
            started => started,
        }
    }

    fn try_start(&self) -> Result<(Instance, Pairs), CallError> {
        let Loaded { runtime, prepared, .. } = &*self.plugin;
        let limits = &runtime.limits;
        let slot =
            runtime.instance_slot().ok_or(CallError::TooManyInstances { instances_max: limits.instances_max })?;
        let mut instance = Instance::create(prepared, slot, self.memory_bytes, Arc::clone(&self.memory_held))?;
        let Setup { config, assets } = &self.setup;
        let assets: Vec<_> = assets.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect();
        let said = instance
            .call(&runtime.clock, limits.start_deadline_ms, TEXT_BYTES_MAX, |plugin, store| {
                plugin.init(store, config, &assets)
            })?
            .map_err(|reason| CallError::ConfigRefused { reason: shorten(&reason) })?;
        Ok((instance, said))
    }
}

/// What the context of a call says, as far as the plugin reads it.
pub(crate) fn context<'a>(reads: &Reads, topic: &'a str, partition: &'a str) -> Vec<(&'static str, &'a str)> {
    let topic = reads.topic.then_some(("topic", topic));
    let partition = reads.partition.then_some(("partition", partition));
    topic.into_iter().chain(partition).collect()
}

/// A call about the records of a chunk.
pub(crate) fn asked<'a>(chunk: &'a Chunk<'a>, context: &'a [(&'a str, &'a str)]) -> Asked<'a> {
    Asked { context, records: chunk.records as u32, columns: &chunk.columns }
}

/// What can be told before an instance is asked.
fn check_setup(plugin: &Loaded, setup: &Setup) -> Result<(), CallError> {
    let limits = &plugin.runtime.limits;
    let (bytes, bytes_max) = (setup.config.len(), limits.config_bytes_max);
    if bytes > bytes_max {
        return Err(CallError::ConfigTooLarge { bytes, bytes_max });
    }
    if let Some(schema) = &plugin.manifest.config_schema {
        let misfit = |reason: String| CallError::ConfigMisfit { reason };
        let schema = Schema::parse(schema).map_err(|error| misfit(error.to_string()))?;
        schema.check_text(&setup.config).map_err(|error| misfit(shorten(&error.to_string())))?;
    }
    let is_given = |name: &&String| setup.assets.iter().any(|(given, _)| given == *name);
    if let Some(name) = plugin.manifest.assets.iter().find(|name| !is_given(name)) {
        return Err(CallError::NoAsset { name: name.clone() });
    }
    let (bytes, bytes_max) = (setup.assets.iter().map(|(_, asset)| asset.len()).sum(), limits.asset_bytes_max);
    if bytes > bytes_max {
        return Err(CallError::AssetsTooLarge { bytes, bytes_max });
    }
    Ok(())
}

/// What the plugin reads with its configuration.
fn narrowed(manifest: &Manifest, said: &Pairs) -> Result<Reads, CallError> {
    let refused = |reason: String| CallError::ConfigRefused { reason };
    let mut reads = manifest.reads.clone();
    for (name, text) in said {
        match name.as_str() {
            "reads" => {
                let narrow = Reads::parse(text, manifest.kind == Kind::DeadLetterPolicy);
                let wrong = |expected| {
                    refused(format!("`init` answered that it reads `{}`, expected {expected}", shorten(text)))
                };
                let narrow = narrow.map_err(wrong)?;
                if !narrow.is_within(&manifest.reads) {
                    let all = manifest.reads.names().join(",");
                    return Err(refused(format!(
                        "`init` answered that it reads `{}`, its manifest has `{all}`",
                        shorten(text)
                    )));
                }
                reads = narrow;
            }
            free if free.starts_with("x-") || free.starts_with("hint.") => {}
            other => {
                return Err(refused(format!("`init` answered `{}`, which this host does not know", shorten(other))));
            }
        }
    }
    Ok(reads)
}
