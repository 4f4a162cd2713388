//! A shard from the records of its partition.

use ottla_coordinator::group::Shard;
use ottla_front::ShutdownWatch;
use ottla_log::LocateError;
use ottla_wire::record::{Batch, batches};

use crate::partition::{Partition, PartitionOffline};

/// How much of the partition is in memory at a time.
const READ_BYTES_MAX: u32 = 1 << 20;

/// Why a shard was not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// The broker stops.
    #[error("the broker stops")]
    Stopping,
    /// Its log directory is offline, or the topic was deleted.
    #[error(transparent)]
    Offline(#[from] PartitionOffline),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] LocateError),
    /// A defect of the broker.
    #[error("loading panicked: {0}")]
    Panicked(String),
}

/// Replays every record of the partition that is durable. Blocks on the disk.
///
/// What is damaged is passed over and said in the log: a group that lost a record is better than none that can be used.
pub(super) fn load(
    mut shard: Shard,
    partition: &Partition,
    unpacked_bytes_max: usize,
    stop: &ShutdownWatch,
) -> Result<Shard, LoadError> {
    let upto = partition.watermark.high();
    let mut next = partition.log.log_start_offset();
    while next < upto {
        if stop.has_begun() {
            return Err(LoadError::Stopping);
        }
        match partition.log.read_batches(next, READ_BYTES_MAX, upto) {
            Ok(Some((bytes, range))) => {
                replay(&mut shard, partition, &bytes, unpacked_bytes_max);
                next = range.next_offset;
            }
            Ok(None) => break,
            Err(LocateError::Corrupt { from, to }) if to > next => {
                tracing::error!(
                    ?partition,
                    "groups and offsets may be older than they were: offsets {from} to {to} are damaged",
                    from = from.get(),
                    to = to.get()
                );
                next = to;
            }
            // Records were deleted since.
            Err(LocateError::OutOfRange { start, .. }) if start > next => next = start,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shard)
}

fn replay(shard: &mut Shard, partition: &Partition, bytes: &[u8], unpacked_bytes_max: usize) {
    for batch in batches(bytes) {
        let replayed = batch.map_err(|error| error.to_string()).and_then(|batch| {
            if batch.header.is_control() { Ok(()) } else { replay_batch(shard, partition, &batch, unpacked_bytes_max) }
        });
        if let Err(error) = replayed {
            tracing::error!(?partition, "a batch of groups and offsets does not read: {error}");
        }
    }
}

fn replay_batch(
    shard: &mut Shard,
    partition: &Partition,
    batch: &Batch<'_>,
    unpacked_bytes_max: usize,
) -> Result<(), String> {
    let records = batch.records(unpacked_bytes_max).map_err(|error| error.to_string())?;
    for record in &records {
        let record = record.map_err(|error| error.to_string())?;
        let Some(key) = record.key else { continue };
        if let Err(error) = shard.replay(key, record.value) {
            let offset = batch.header.offset_of(&record).get();
            tracing::warn!(?partition, offset, "a record of groups and offsets does not read: {error}");
        }
    }
    Ok(())
}
