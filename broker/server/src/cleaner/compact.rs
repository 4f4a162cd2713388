//! Which partition is compacted next: the one whose records wait too long, then the one with the greatest share of bytes
//! that are not compacted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_front::{Charge, Memory, Use};
use ottla_log::{CleanError, CleanOptions, Dirtiness, Offset};
use ottla_wire::ProducerId;
use ottla_wire::record::BatchHeader;

use super::stats::name;
use super::{CleanerOptions, Shared};
use crate::clock;
use crate::config::TopicSettings;
use crate::partition::Partition;
use crate::topics::Topic;
use ottla_coordinator::sequence::Tail;

/// Memory for keys that a compaction has in any case: some forty thousand.
const KEY_MAP_BYTES_MIN: usize = 1 << 20;

/// A partition to compact.
struct Due {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    is_late: bool,
    ratio: f64,
}

impl Shared {
    /// One look at every compacted partition, and one compaction of each that needs it, the most urgent first.
    pub(super) fn compact_all(&self) {
        let _round = self.round.lock();
        let mut due = self.find_due();
        due.sort_by(|a, b| b.is_late.cmp(&a.is_late).then(b.ratio.total_cmp(&a.ratio)));
        for Due { topic, partition, .. } in due {
            if self.should_stop() {
                return;
            }
            self.compact(&topic, &partition);
        }
        self.stats.compacted_all();
    }

    fn find_due(&self) -> Vec<Due> {
        let now_ms = clock::now_ms();
        let (mut due, mut ratios) = (Vec::new(), BTreeMap::new());
        for topic in self.topics.all() {
            let settings = topic.settings();
            if !settings.cleanup_policy.compact {
                continue;
            }
            for partition in &topic.partitions {
                if self.should_stop() {
                    return Vec::new();
                }
                if partition.log.is_offline() || partition.log.is_deleted() {
                    continue;
                }
                let round = Round::new(self.options, &settings, partition.log.high_watermark(), now_ms);
                let looked = partition.log.dirtiness(&round.options(&|_| false, &|| false));
                match looked {
                    Ok(dirtiness) => {
                        let ratio = dirtiness.ratio();
                        ratios.insert(name(partition), ratio);
                        if let Some(is_late) = is_due(&dirtiness, &settings, now_ms) {
                            let (topic, partition) = (Arc::clone(&topic), Arc::clone(partition));
                            due.push(Due { topic, partition, is_late, ratio });
                        }
                    }
                    Err(error) => self.note_compaction(partition, &error),
                }
            }
        }
        self.stats.looked(&ratios);
        due
    }

    fn compact(&self, topic: &Topic, partition: &Arc<Partition>) {
        let settings = topic.settings();
        loop {
            let visible = partition.log.high_watermark();
            let upto = match self.topics.save(topic) {
                Ok(saved) => visible.min(saved.upto(partition.index)),
                Err(error) => {
                    self.stats.failed(partition, error.to_string());
                    tracing::warn!(?partition, %error, "not compacted: its producers are not written down");
                    return;
                }
            };
            let tails = tails(partition);
            let is_producer_end = |header: &BatchHeader| {
                let end = Tail { epoch: header.producer_epoch, last: header.last_sequence() };
                tails.get(&header.producer_id) == Some(&end)
            };
            let should_stop = || self.should_stop() || partition.log.is_deleted();
            let (bounds, _charge) = within(&self.memory, self.options);
            let round = Round::new(bounds, &settings, upto, clock::now_ms());
            match partition.log.compact(&round.options(&is_producer_end, &should_stop)) {
                Ok(report) => {
                    self.stats.compacted(partition, &report);
                    if report.segments_replaced > 0 {
                        let (records, bytes) = (report.records_removed, report.bytes_freed);
                        tracing::info!(?partition, records, bytes, keys = report.keys, "compacted");
                    }
                    if !report.is_partial || self.should_stop() {
                        return;
                    }
                }
                Err(error) => return self.note_compaction(partition, &error),
            }
        }
    }

    fn note_compaction(&self, partition: &Partition, error: &CleanError) {
        match error {
            CleanError::Stopped | CleanError::Deleted | CleanError::Closed => {}
            error => {
                tracing::warn!(?partition, %error, "not compacted");
                self.stats.failed(partition, error.to_string());
            }
        }
    }
}

/// The bounds of a compaction within the memory that is free, which is charged for them: with a smaller map of keys there are
/// more rounds. It always gets the least that it needs, since old records could not go otherwise.
fn within(memory: &Arc<Memory>, bounds: CleanerOptions) -> (CleanerOptions, Charge) {
    let room = (memory.free() / 4).max(KEY_MAP_BYTES_MIN);
    let bounds = CleanerOptions { key_map_bytes_max: bounds.key_map_bytes_max.min(room), ..bounds };
    let mut charge = memory.charge(Use::Compaction);
    charge.set(bounds.key_map_bytes_max.saturating_add(bounds.unpacked_bytes_max));
    (bounds, charge)
}

/// Whether a partition is to be compacted, and whether it is late.
fn is_due(dirtiness: &Dirtiness, settings: &TopicSettings, now_ms: i64) -> Option<bool> {
    let is_late = dirtiness.dirty_bytes > 0
        && dirtiness
            .oldest_dirty_ms
            .is_some_and(|oldest| now_ms.saturating_sub(oldest) > settings.max_compaction_lag_ms);
    let is_dirty = dirtiness.dirty_bytes > 0 && dirtiness.ratio() >= settings.min_cleanable_dirty_ratio;
    let is_expired = dirtiness.next_horizon_ms.is_some_and(|horizon| horizon < now_ms);
    (is_late || is_dirty || is_expired).then_some(is_late)
}

/// Where the producers that are known end.
fn tails(partition: &Partition) -> HashMap<ProducerId, Tail> {
    partition.intake().sequences.iter().map(|(id, producer)| (id, producer.tail)).collect()
}

/// One compaction with the settings in force.
struct Round<'a> {
    bounds: CleanerOptions,
    settings: &'a TopicSettings,
    upto: Offset,
    now_ms: i64,
}

impl<'a> Round<'a> {
    fn new(bounds: CleanerOptions, settings: &'a TopicSettings, upto: Offset, now_ms: i64) -> Self {
        Self { bounds, settings, upto, now_ms }
    }

    fn options<'o>(
        &self,
        is_producer_end: &'o dyn Fn(&BatchHeader) -> bool,
        should_stop: &'o dyn Fn() -> bool,
    ) -> CleanOptions<'o> {
        CleanOptions {
            upto: self.upto,
            now_ms: self.now_ms,
            delete_retention_ms: self.settings.delete_retention_ms,
            min_compaction_lag_ms: self.settings.min_compaction_lag_ms,
            key_map_bytes_max: self.bounds.key_map_bytes_max,
            unpacked_bytes_max: self.bounds.unpacked_bytes_max,
            io_bytes_per_second: self.bounds.io_bytes_per_second,
            is_producer_end,
            should_stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_compaction_is_charged_and_takes_fewer_keys_where_memory_is_short() {
        let bounds = CleanerOptions {
            retention_interval: Duration::ZERO,
            backoff: Duration::ZERO,
            key_map_bytes_max: 16 << 20,
            unpacked_bytes_max: 4 << 20,
            io_bytes_per_second: 0,
        };
        let memory = Memory::new(100 << 20);
        let map_bytes = |memory| within(memory, bounds).0.key_map_bytes_max;
        let (_, charge) = within(&memory, bounds);
        assert_eq!(memory.used(Use::Compaction), 20 << 20);
        drop(charge);
        assert_eq!((map_bytes(&memory), memory.used(Use::Compaction)), (16 << 20, 0));
        let mut others = memory.charge(Use::Requests);
        others.set(80 << 20);
        assert_eq!(map_bytes(&memory), 5 << 20);
        others.set(200 << 20);
        assert_eq!(map_bytes(&memory), KEY_MAP_BYTES_MIN);
    }
}
