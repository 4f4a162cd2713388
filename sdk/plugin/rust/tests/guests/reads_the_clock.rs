//! A plugin that asks for the time with each record. It imports nothing, and fails at the first record: plugins are given no clock.

use std::time::Instant;

use ottla_plugin::{Partitioner, Placement, Reads, Record, partitioner};

struct ReadsTheClock;

impl Partitioner for ReadsTheClock {
    const READS: Reads = Reads::KEY;

    fn new(_config: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn partition(&self, _record: &Record<'_>, partitions: u32) -> Placement {
        (Instant::now().elapsed().subsec_nanos() % partitions).into()
    }
}

partitioner!(ReadsTheClock);
