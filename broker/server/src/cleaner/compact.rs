//! Which partition is compacted next: the one whose records wait too long, then the one with the greatest share of bytes
//! that are not compacted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

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
            let round = Round::new(self.options, &settings, upto, clock::now_ms());
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
