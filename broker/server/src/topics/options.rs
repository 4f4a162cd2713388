//! What partitions are to be: their options, and several of them made or changed at a time.

use std::sync::atomic::{AtomicI32, Ordering};

use ottla_log::{PartitionLog, PartitionOptions};

use super::{Topic, TopicChangeError};
use crate::config::TopicSettings;

/// Partitions that are made or changed at the same time: their syncs share journal commits of the file system.
pub(super) const PARTITIONS_AT_ONCE: usize = 16;

pub(super) fn partition_options(settings: &TopicSettings) -> PartitionOptions {
    PartitionOptions {
        durability: settings.durability,
        segment_bytes: settings.segment_bytes_in_force(),
        index_interval_bytes: settings.index_interval_bytes as u32,
    }
}

/// Gives all partitions of a topic their options; where that fails for one, it may have been done for others.
pub(super) fn set_all_options(topic: &Topic, options: PartitionOptions) -> Result<(), TopicChangeError> {
    for_each_partition(topic.partitions.len() as i32, PARTITIONS_AT_ONCE, |index| match topic.partition(index) {
        Some(partition) => set_options(&partition.log, options),
        None => Ok(()),
    })?;
    Ok(())
}

pub(super) fn set_options(log: &PartitionLog, options: PartitionOptions) -> Result<(), TopicChangeError> {
    // One that is offline gets them at the start that finds it online: the metadata is what counts.
    if log.options() == options || log.is_offline() {
        return Ok(());
    }
    log.set_options(options).map_err(|error| TopicChangeError::Log(error.to_string()))
}

/// Does something for every partition, so many at a time; the results come by index, or the first error.
pub(super) fn for_each_partition<T: Send>(
    count: i32,
    at_once: usize,
    work: impl Fn(i32) -> Result<T, TopicChangeError> + Sync,
) -> Result<Vec<T>, TopicChangeError> {
    let next = AtomicI32::new(0);
    let some = || -> Result<Vec<(i32, T)>, TopicChangeError> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            done.push((index, work(index).inspect_err(|_| next.store(count, Ordering::Relaxed))?));
        }
    };
    let threads = at_once.min(usize::try_from(count).unwrap_or(0));
    if threads <= 1 {
        return some().map(|done| done.into_iter().map(|(_, value)| value).collect());
    }
    let parts: Result<Vec<_>, _> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(TopicChangeError::Panicked))).collect()
    });
    let mut done: Vec<(i32, T)> = parts?.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, value)| value).collect())
}
