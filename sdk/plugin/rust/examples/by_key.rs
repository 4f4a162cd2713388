//! Routes by key as Kafka's Java client does, whatever client sent the record. Records without a key count as an empty
//! one, so that they share a partition.
//!
//! Built as a component: `cargo build --example by_key --target wasm32-unknown-unknown`, with the linker of the README.

use ottla_plugin::{Partitioner, Reads, Record, hash, partitioner};

struct ByKey;

impl Partitioner for ByKey {
    const READS: Reads = Reads::KEY;

    fn new(_config: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn partition(&self, record: &Record<'_>, partitions: u32) -> u32 {
        hash::kafka_partition(record.key().unwrap_or_default(), partitions)
    }
}

partitioner!(ByKey);
