//! A partitioner bound to a topic: it names the partition of every record.

use std::fmt;
use std::sync::Arc;

use crate::answer::{self, Refused};
use crate::binding::{Binding, Loaded, Setup, asked, context};
use crate::call_error::CallError;
use crate::columns::Columns;
use crate::contract::Said;
use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::reads::Reads;

/// The answer for a record that stays where its producer put it.
pub const STAYS: i32 = -1;
/// The answer for a record that the plugin refuses.
pub const REFUSED: i32 = -2;

/// Where a batch goes; nothing else about it reaches the plugin besides its columns.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// The partition that the batch was addressed to.
    pub partition: i32,
    /// Partitions of the topic, at least one.
    pub partition_count: u32,
}

/// A partitioner for one topic. Calls block and may come from any thread; calls in flight go on when another version
/// takes over, for as long as a caller holds the `Arc`.
pub struct Partitioner {
    binding: Binding,
}

impl Partitioner {
    pub(crate) fn new(plugin: Arc<Loaded>, setup: Setup) -> Result<Self, CallError> {
        Ok(Self { binding: Binding::new(plugin, setup)? })
    }

    /// The plugin's name in the store.
    pub fn digest(&self) -> &Digest {
        self.binding.digest()
    }

    /// Linear memory of its instances, those that wait for a call included, in bytes.
    pub fn memory_held_bytes(&self) -> u64 {
        self.binding.memory_held_bytes()
    }

    /// What the plugin says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.binding.manifest()
    }

    /// Which parts of a record the columns must hold.
    pub fn reads(&self) -> &Reads {
        self.binding.reads()
    }

    /// Asks for the partition of every record. On success `answer` holds one per record, each below the partition count, or
    /// [`STAYS`], or [`REFUSED`], and the refused ones come back with their reasons; otherwise it is empty.
    ///
    /// Blocks for as long as the limits allow. A plugin may use 512 KiB of the calling thread's stack, so that thread
    /// should have 1 MiB or more, as threads of the standard library and of tokio do.
    pub fn partition(
        &self,
        context_of: &Context<'_>,
        columns: &Columns,
        answer: &mut Vec<i32>,
    ) -> Result<Vec<Refused>, CallError> {
        answer.clear();
        if !(1..=i32::MAX as u32).contains(&context_of.partition_count) {
            return Err(CallError::NoPartitions);
        }
        let partition_count = context_of.partition_count;
        let partition = partition_text(self.reads(), context_of);
        let pairs = context(self.reads(), context_of.topic, &partition);
        let mut refused = Vec::new();
        let asked = self.binding.ask(
            columns,
            size_of::<i32>(),
            |plugin, store, chunk| plugin.partition(store, asked(chunk, &pairs), partition_count),
            |chunk, said: Said<i32>, bytes_max| {
                let (expected, found) = (chunk.records, said.numbers.len());
                if found != expected {
                    return Err(CallError::WrongCount { expected, found });
                }
                let is_wrong = |partition: &i32| !(REFUSED..partition_count as i32).contains(partition);
                if let Some(at) = said.numbers.iter().position(is_wrong) {
                    let partition = said.numbers.get(at).copied().unwrap_or_default();
                    return Err(CallError::OutOfRange { record: chunk.first + at, partition, partition_count });
                }
                let columns = answer::Columns::check(said.columns, expected, bytes_max)?;
                log(self.digest(), &columns.log);
                for (at, _) in said.numbers.iter().enumerate().filter(|(_, partition)| **partition == REFUSED) {
                    refused.push(columns.refused(at, chunk.first, &self.manifest().codes, false)?);
                }
                if answer.is_empty() {
                    *answer = said.numbers;
                } else {
                    answer.extend_from_slice(&said.numbers);
                }
                Ok(())
            },
        );
        asked.inspect_err(|_| answer.clear())?;
        Ok(refused)
    }
}

/// The number of the partition, for a plugin that reads it.
pub(crate) fn partition_text(reads: &Reads, context: &Context<'_>) -> String {
    if reads.partition { context.partition.to_string() } else { String::new() }
}

/// Writes down what a guest has to say to people.
pub(crate) fn log(digest: &Digest, lines: &[String]) {
    for line in lines {
        tracing::debug!(plugin = %digest, line, "a plugin says");
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitioner")
            .field("digest", self.digest())
            .field("config", &self.binding.config())
            .finish_non_exhaustive()
    }
}
