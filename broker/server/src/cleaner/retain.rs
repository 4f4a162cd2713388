//! Segments that are too old or too many go, and segments without appends are closed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use ottla_log::{Offset, RetainError, Retention};

use super::Shared;
use crate::clock;
use crate::config::TopicSettings;
use crate::partition::Partition;
use crate::topics::Topic;

impl Shared {
    /// One look at every partition.
    pub(super) fn retain_all(&self) {
        let _round = self.round.lock();
        for topic in self.topics.all() {
            if self.should_stop() {
                return;
            }
            self.retain_topic(&topic);
        }
        self.stats.retained();
    }

    fn retain_topic(&self, topic: &Topic) {
        let settings = topic.settings();
        let now_ms = clock::now_ms();
        let mut due = Vec::new();
        for partition in topic.partitions.iter().filter(|partition| !partition.log.is_offline()) {
            let rolled = partition.log.roll_if_due(roll_ms(partition, &settings), now_ms);
            self.note(partition, rolled.map(|_| ()));
            self.note(partition, partition.log.finish_removals());
            if !settings.cleanup_policy.delete {
                continue;
            }
            let upto = partition.log.high_watermark();
            match partition.log.retained_from(&retention(&settings), upto, now_ms) {
                Ok(start) if start > partition.log.log_start_offset() => due.push((partition, upto)),
                Ok(_) => {}
                Err(error) => self.note(partition, Err(error)),
            }
        }
        if due.is_empty() {
            return;
        }
        let saved = self.topics.save(topic).unwrap_or_else(|error| {
            // A full disk, for one: space has to come from somewhere, and some of it can.
            tracing::warn!(topic = %topic.name, %error, "only segments go whose producers were written down before");
            topic.partitions.last_saved()
        });
        for (partition, visible) in due {
            self.remove(partition, &settings, visible.min(saved.upto(partition.index)), now_ms);
        }
    }

    fn remove(&self, partition: &Arc<Partition>, settings: &TopicSettings, upto: Offset, now_ms: i64) {
        match partition.log.delete_old_segments(&retention(settings), upto, now_ms) {
            Ok(removed) => {
                if removed.segments > 0 {
                    let log_start = partition.log.log_start_offset().get();
                    tracing::info!(?partition, removed.segments, removed.bytes, log_start, "old segments removed");
                }
                self.stats.removed(removed);
            }
            Err(error) => self.note(partition, Err(error)),
        }
    }

    fn note(&self, partition: &Partition, outcome: Result<(), RetainError>) {
        match outcome {
            Ok(()) | Err(RetainError::Deleted | RetainError::Closed) => {}
            Err(error) => {
                tracing::warn!(?partition, %error, "old segments stay");
                self.stats.failed(partition, error.to_string());
            }
        }
    }
}

fn retention(settings: &TopicSettings) -> Retention {
    Retention { retention_ms: settings.retention_ms, retention_bytes: settings.retention_bytes }
}

/// After how long a segment is closed. The random part is the same every time for one segment, so that partitions that
/// began together do not all roll together.
fn roll_ms(partition: &Partition, settings: &TopicSettings) -> i64 {
    let jitter_max = settings.segment_jitter_ms.min(settings.segment_ms.saturating_sub(1));
    let mut hasher = DefaultHasher::new();
    (&*partition.topic, partition.index).hash(&mut hasher);
    let jitter_ms = (hasher.finish() % (jitter_max.max(0) as u64 + 1)) as i64;
    let roll_ms = settings.segment_ms - jitter_ms;
    // What has to be compacted has to be closed before.
    if settings.cleanup_policy.compact { roll_ms.min(settings.max_compaction_lag_ms) } else { roll_ms }
}
