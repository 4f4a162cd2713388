//! What a fetch can be answered with at this moment: for each partition an error, or a range of a segment file.
//!
//! Ranges hold whole batches only, end at the high watermark, and respect the limits of the request with one exception:
//! the first batch of the first partition that has one is always sent, however large, so that a consumer moves on
//! (KIP-74).

use std::sync::Arc;

use ottla_coordinator::fetch_session::{TopicRef, WantedPartition};
use ottla_log::{FileRange, LocateError, PartitionLog};
use ottla_wire::message::{EpochEndOffset, FetchPartition, LeaderIdAndEpoch};
use ottla_wire::{ErrorCode, LeaderEpoch, Offset};

use super::wanted::{Wanted, unknown};
use crate::broker::Broker;
use crate::partition::Partition;
use crate::partition::watermark::{Bell, Registration};
use crate::topics::Topic;

/// An answer in the making.
pub(crate) struct Plan {
    /// One entry per partition that is wanted.
    pub partitions: Vec<Planned>,
    bytes: u32,
    /// Bytes that could be read, also those that a limit or the end of a batch keeps out of this answer: the client
    /// waits for these to come, not for an answer that fits its limits to the byte.
    available: u64,
    bytes_max: u32,
    /// Something is to be said that does not wait for more records.
    urgent: bool,
}

/// Whether the thread that makes a plan may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is on a thread that serves connections.
    None,
    /// It is on a thread of its own.
    Any,
}

/// The plan needs a thread that may wait for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitsForDisk;

/// What one partition contributes.
pub(crate) struct Planned {
    /// The partition, where there is one.
    pub partition: Option<Arc<Partition>>,
    /// What is wrong, if anything.
    pub error_code: ErrorCode,
    /// The high watermark, -1 where there is none to tell.
    pub high_watermark: i64,
    /// The first offset, -1 where there is none to tell.
    pub log_start_offset: i64,
    /// Where the client's history and ours part ways (KIP-595).
    pub diverging: EpochEndOffset,
    /// The leader, for a client that believes in an earlier one (KIP-951).
    pub current_leader: LeaderIdAndEpoch,
    /// The batches.
    pub range: Option<FileRange>,
}

impl Plan {
    /// Looks at every partition that is wanted. Nothing is decided where it would have to wait and may not.
    pub(crate) fn make(broker: &Broker, wanted: &Wanted, patience: Patience) -> Result<Self, WaitsForDisk> {
        let mut plan = Self {
            partitions: Vec::with_capacity(wanted.partitions().len()),
            bytes: 0,
            available: 0,
            bytes_max: wanted.bytes_max.min(broker.config.fetch_max_bytes as u32),
            urgent: wanted.partitions().is_empty(),
        };
        // Partitions of one topic mostly stand together.
        for same_topic in wanted.partitions().chunk_by(|one, next| one.topic == next.topic) {
            let Some(WantedPartition { topic, .. }) = same_topic.first() else { continue };
            let found = match topic {
                TopicRef::Name(name) => broker.topics.get(name),
                TopicRef::Id(id) => broker.topics.get_by_id(id),
            };
            for WantedPartition { partition, .. } in same_topic {
                let planned = match &found {
                    Some(found) => plan.add(broker, found, partition, patience)?,
                    None => plan.refuse(unknown(topic)),
                };
                plan.partitions.push(planned);
            }
        }
        Ok(plan)
    }

    /// Whether it is worth sending before the time is up.
    pub(crate) fn is_due(&self, wanted: &Wanted) -> bool {
        self.urgent || self.available >= u64::from(self.bytes_max.min(wanted.bytes_min))
    }

    /// Rings `bell` when one of the partitions has something new.
    pub(crate) fn watch(&self, bell: &Arc<Bell>) -> Vec<Registration> {
        let healthy = self.partitions.iter().filter(|planned| planned.error_code == ErrorCode::None);
        let watched = healthy.filter_map(|planned| Some((planned.partition.as_ref()?, planned.high_watermark)));
        watched.map(|(partition, high)| partition.watermark.ring(bell, Offset(high).advance(1))).collect()
    }

    fn add(
        &mut self,
        broker: &Broker,
        topic: &Topic,
        wanted: &FetchPartition,
        patience: Patience,
    ) -> Result<Planned, WaitsForDisk> {
        let Some(partition) = topic.partition(wanted.partition) else {
            return Ok(self.refuse(ErrorCode::UnknownTopicOrPartition));
        };
        let log = &partition.log;
        if log.is_offline() {
            return Ok(self.refuse(ErrorCode::KafkaStorageError));
        }
        if let Err(error_code) = check_leader_epoch(log, wanted.current_leader_epoch) {
            let leader = LeaderIdAndEpoch { leader_id: broker.node_id, leader_epoch: log.leader_epoch().get() };
            return Ok(Planned { current_leader: leader, ..self.refuse(error_code) });
        }
        let high = partition.watermark.high();
        let mut planned = Planned {
            partition: Some(Arc::clone(partition)),
            error_code: ErrorCode::None,
            high_watermark: high.get(),
            log_start_offset: log.log_start_offset().get(),
            diverging: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            range: None,
        };
        if let Some(diverging) = divergence(log, wanted) {
            self.urgent = true;
            planned.diverging = diverging;
            return Ok(planned);
        }
        let offset = Offset(wanted.fetch_offset);
        if offset < log.log_start_offset() || offset > log.end_offset().max(high) {
            return Ok(self.fail(planned, ErrorCode::OffsetOutOfRange));
        }
        if offset >= high {
            // Nothing to read, and if the partition is offline nothing ever will be.
            return Ok(if partition.watermark.is_offline() {
                self.fail(planned, ErrorCode::KafkaStorageError)
            } else {
                planned
            });
        }
        // What is there is all there will ever be: waiting for more would only ask again and again.
        self.urgent |= partition.watermark.is_offline();
        let room = self.bytes_max.saturating_sub(self.bytes).min(wanted.partition_max_bytes.max(0) as u32);
        if room == 0 && self.bytes > 0 {
            return Ok(planned);
        }
        if patience == Patience::None && log.may_wait(offset) {
            return Err(WaitsForDisk);
        }
        Ok(match find(log, offset, room, high, patience)? {
            // The log returns one batch at least; only the first of the whole answer may be larger than there is room.
            Ok(Some(range)) => {
                let more_behind = range.next_offset < high;
                self.available += u64::from(if more_behind { range.bytes.max(room) } else { range.bytes });
                if self.bytes == 0 || range.bytes <= room {
                    self.bytes = self.bytes.saturating_add(range.bytes);
                    planned.range = Some(range);
                }
                planned
            }
            Ok(None) => planned,
            Err(error) => {
                let error_code = locate_failed(broker, partition, &error);
                self.fail(planned, error_code)
            }
        })
    }

    fn fail(&mut self, planned: Planned, error_code: ErrorCode) -> Planned {
        self.urgent = true;
        Planned { error_code, ..planned }
    }

    fn refuse(&mut self, error_code: ErrorCode) -> Planned {
        let planned = Planned {
            partition: None,
            error_code,
            high_watermark: -1,
            log_start_offset: -1,
            diverging: EpochEndOffset::default(),
            current_leader: LeaderIdAndEpoch::default(),
            range: None,
        };
        self.fail(planned, error_code)
    }
}

/// Attempts to find sound batches, each of which finds other damage.
const ATTEMPTS_MAX: usize = 100;

/// Finds batches whose bytes were seen to be sound. Those that this process has not checked yet are checked first;
/// damage is kept out of what is found then, so that exactly the offsets that are lost answer an error.
fn find(
    log: &PartitionLog,
    offset: Offset,
    room: u32,
    high: Offset,
    patience: Patience,
) -> Result<Result<Option<FileRange>, LocateError>, WaitsForDisk> {
    let mut attempts = 0;
    loop {
        let located = log.locate(offset, room, high);
        let Ok(Some(range)) = &located else { return Ok(located) };
        if range.is_checked() {
            return Ok(located);
        }
        if patience == Patience::None {
            return Err(WaitsForDisk);
        }
        attempts += 1;
        match log.check(range) {
            Ok(()) => return Ok(located),
            Err(LocateError::Corrupt { .. }) if attempts < ATTEMPTS_MAX => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// Whether the client and the broker believe in the same leader (KIP-320); -1 is a client that does not say.
pub(crate) fn check_leader_epoch(log: &PartitionLog, current: i32) -> Result<(), ErrorCode> {
    let ours = log.leader_epoch().get();
    match current {
        -1 => Ok(()),
        older if older < ours => Err(ErrorCode::FencedLeaderEpoch),
        newer if newer > ours => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the log the client read, which ended in `last_fetched_epoch` at `fetch_offset`, stops being this log.
fn divergence(log: &PartitionLog, wanted: &FetchPartition) -> Option<EpochEndOffset> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end_offset) = log.epoch_end_offset(LeaderEpoch(wanted.last_fetched_epoch))?;
    let parted = epoch.get() < wanted.last_fetched_epoch || end_offset.get() < wanted.fetch_offset;
    parted.then(|| EpochEndOffset { epoch: epoch.get(), end_offset: end_offset.get() })
}

fn locate_failed(broker: &Broker, partition: &Partition, error: &LocateError) -> ErrorCode {
    let (topic, index) = (&partition.topic, partition.index);
    match error {
        LocateError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LocateError::Corrupt { .. } => {
            broker.metrics.damaged_reads.inc();
            tracing::error!("a fetch from {topic}-{index} met damage: {error}");
            ErrorCode::CorruptMessage
        }
        LocateError::Io { .. } => {
            broker.metrics.front.read_errors.inc();
            tracing::error!("a fetch from {topic}-{index} failed: {error}");
            ErrorCode::KafkaStorageError
        }
    }
}
