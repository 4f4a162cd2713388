//! A fetch response, partition by partition: batches are checked, decompressed and put before the reader, errors are
//! sorted into those that pass and those that do not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;
use ottla_wire::message::{FetchResponse, PartitionData};
use ottla_wire::record::{BatchError, batches};

use super::StartFrom;
use super::assignment::ConsumerState;
use super::fetcher::Asked;
use crate::config::{Isolation, OffsetReset};
use crate::core::transactions::Aborted;
use crate::core::unpack::{OpenFault, OpenedBatch};
use crate::error::{ConnectionError, ConsumeError};
use crate::net::Answer;

/// What an answer came to.
pub(super) struct Taken {
    /// Something new was in it.
    pub(super) progress: bool,
    /// How long the broker wants to be left alone (KIP-219).
    pub(super) throttle: Duration,
}

/// What a partition's part of the answer comes to.
struct Harvest {
    batches: Vec<OpenedBatch>,
    /// The first offset behind all that was looked at, and the leader epoch before it.
    next_fetch: i64,
    last_epoch: i32,
    error: Option<ConsumeError>,
    /// The first batch did not fit: ask for this much next time.
    bytes_max: Option<i32>,
}

/// Takes in an answer; partitions it leaves out, or whose reader moved on meanwhile, are asked for again.
pub(super) fn take_in(shared: &ConsumerState, asked: &[Asked], answer: &Answer) -> Result<Taken, ConnectionError> {
    let response: FetchResponse<'_> = answer.decode()?;
    let parts: HashMap<(&str, i32), &PartitionData<'_>> = response
        .responses
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|part| ((&*topic.topic, part.partition_index), part)))
        .collect();
    // Unpacking takes time and memory: no lock is held, and nothing is unpacked that has no room.
    let mut room = shared.state().free_bytes(&shared.config).max(1);
    let mut progress = false;
    for part in asked {
        match parts.get(&(&*part.topic, part.partition)).filter(|_| response.error_code == ErrorCode::None) {
            Some(data) if data.error_code == ErrorCode::None && data.diverging_epoch.end_offset >= 0 => {
                cut_back(shared, part, data.diverging_epoch.end_offset);
                progress = true;
            }
            Some(data) if data.error_code == ErrorCode::None => {
                let harvest = harvest(shared, part, data, answer, &mut room);
                progress |= store(shared, part, data, harvest);
            }
            Some(data) => refuse(shared, part, data),
            None if response.error_code == ErrorCode::None => {
                let reason = format!("it leaves out {}-{}", part.topic, part.partition).into();
                let address = Arc::clone(&answer.address);
                let left_out = ConnectionError::Malformed { address, api: "Fetch", reason };
                ask_again(shared, part, false, left_out.into());
            }
            None => {
                let (topic, partition) = (Arc::clone(&part.topic), part.partition);
                let code = response.error_code;
                ask_again(shared, part, false, ConsumeError::Refused { topic, partition, code });
            }
        }
    }
    shared.arrival.notify_waiters();
    let throttle = Duration::from_millis(response.throttle_time_ms.max(0).unsigned_abs().into());
    Ok(Taken { progress, throttle })
}

fn harvest(
    shared: &ConsumerState,
    part: &Asked,
    data: &PartitionData<'_>,
    answer: &Answer,
    room: &mut usize,
) -> Harvest {
    let config = &shared.config;
    let corrupt = |offset: i64, reason: String| ConsumeError::Corrupt {
        topic: Arc::clone(&part.topic),
        partition: part.partition,
        offset,
        reason: reason.into(),
    };
    let too_large = |offset, max, setting| ConsumeError::BatchTooLarge {
        topic: Arc::clone(&part.topic),
        partition: part.partition,
        offset,
        max,
        setting,
    };
    let mut harvest = Harvest {
        batches: Vec::new(),
        next_fetch: part.offset,
        last_epoch: part.last_epoch,
        error: None,
        bytes_max: None,
    };
    let committed_only = config.isolation == Isolation::ReadCommitted;
    let aborted = data.aborted_transactions.as_deref().filter(|_| committed_only);
    let mut aborted = Aborted::new(aborted.unwrap_or_default());
    let mut first = true;
    for batch in batches(data.records.bytes()) {
        let next_fetch = harvest.next_fetch;
        let batch = match batch {
            Ok(batch) => batch,
            // The end of the answer cuts a batch: the rest comes with the next one.
            Err(BatchError::Truncated { .. }) if !first => break,
            // More was asked for than it claims to need, and brokers answer the first batch whole (KIP-74): it lies.
            Err(error @ BatchError::Truncated { needed, .. }) if needed <= part.bytes_max.max(0) as usize => {
                harvest.error = Some(corrupt(next_fetch, error.to_string()));
                break;
            }
            Err(BatchError::Truncated { needed, .. }) if needed <= config.client.response_bytes_max => {
                harvest.bytes_max = Some(i32::try_from(needed).unwrap_or(i32::MAX).max(part.bytes_max));
                break;
            }
            Err(BatchError::Truncated { .. }) => {
                let max = config.client.response_bytes_max;
                harvest.error = Some(too_large(next_fetch, max, "response_bytes_max"));
                break;
            }
            Err(error) => {
                harvest.error = Some(corrupt(next_fetch, error.to_string()));
                break;
            }
        };
        first = false;
        let header = batch.header;
        let (base, end) = (header.base_offset.get(), header.next_offset().get());
        if base < 0 || end <= base {
            harvest.error = Some(corrupt(next_fetch, format!("a batch claims the offsets {base} to {end}")));
            break;
        }
        if end <= next_fetch {
            // From before the position: brokers may send the whole of what they have in one piece.
            continue;
        }
        let ascends = harvest.batches.last().is_none_or(|last| base >= last.header.next_offset().get());
        if !ascends {
            harvest.error = Some(corrupt(next_fetch, format!("the batch of offset {base} overlaps the one before it")));
            break;
        }
        if aborted.skips(&batch) {
            harvest.next_fetch = end;
            harvest.last_epoch = header.partition_leader_epoch.get();
            continue;
        }
        if *room == 0 && !harvest.batches.is_empty() {
            // Unpacked, it is more than asked for: the rest is fetched again when there is room.
            break;
        }
        match OpenedBatch::open(&answer.frame, &batch, part.offset, config.batch_bytes_max, config.check_crcs) {
            Ok(opened) => {
                *room = room.saturating_sub(opened.bytes());
                harvest.batches.push(opened);
                harvest.next_fetch = end;
                harvest.last_epoch = header.partition_leader_epoch.get();
            }
            Err(OpenFault::Corrupt(reason)) => {
                harvest.error = Some(corrupt(next_fetch.max(base), reason));
                break;
            }
            Err(OpenFault::TooLarge) => {
                harvest.error = Some(too_large(next_fetch.max(base), config.batch_bytes_max, "batch_bytes_max"));
                break;
            }
        }
    }
    harvest
}

/// Puts the harvest before the reader. Returns whether there was something new in it.
fn store(shared: &ConsumerState, part: &Asked, data: &PartitionData<'_>, harvest: Harvest) -> bool {
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    let mut state = shared.state();
    let cursor = state.cursor(&part.topic, part.partition);
    let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) else { return true };
    cursor.busy = false;
    cursor.high_watermark = data.high_watermark;
    let before = cursor.fetched_bytes();
    let Harvest { batches, next_fetch, last_epoch, error, bytes_max } = harvest;
    let news = next_fetch > part.offset || bytes_max.is_some();
    for batch in batches {
        cursor.take_in(batch);
    }
    cursor.skip_to(next_fetch, last_epoch);
    cursor.bytes_max = bytes_max.unwrap_or(shared.config.partition_bytes_max);
    match error {
        Some(error) => cursor.fail(error),
        None if news || data.records.bytes().is_empty() => cursor.succeed(),
        // Bytes, and none of them new: do not spin.
        None => {
            let (topic, partition, offset) = (Arc::clone(&part.topic), part.partition, part.offset);
            let reason = "the broker answers with batches from before it".into();
            cursor.back_off(now_ms, backoff, ConsumeError::Corrupt { topic, partition, offset, reason });
        }
    }
    let added = cursor.fetched_bytes() - before;
    state.add_fetched(added);
    news
}

/// The broker refuses this partition.
fn refuse(shared: &ConsumerState, part: &Asked, data: &PartitionData<'_>) {
    let code = data.error_code;
    if code == ErrorCode::OffsetOutOfRange {
        return reset(shared, part, data.log_start_offset);
    }
    let (topic, partition) = (Arc::clone(&part.topic), part.partition);
    let error = ConsumeError::Refused { topic, partition, code };
    if code.is_retriable() {
        return ask_again(shared, part, true, error);
    }
    with_asked(shared, part, |cursor| cursor.fail(error));
}

/// The log that was read ends at `end`, what lies behind it is another one (KIP-320).
fn cut_back(shared: &ConsumerState, part: &Asked, end: i64) {
    let (topic, partition) = (Arc::clone(&part.topic), part.partition);
    tracing::warn!(%topic, partition, end, "the log was cut back by a change of leader");
    with_asked(shared, part, |cursor| {
        let offset = cursor.position().unwrap_or(part.offset);
        if !cursor.diverge(end) {
            return;
        }
        match shared.config.offset_reset {
            OffsetReset::Fail => cursor.fail(ConsumeError::Truncated { topic, partition, offset, end }),
            OffsetReset::Earliest | OffsetReset::Latest => cursor.start_at(end),
        }
    });
    shared.recount();
}

/// The position is not in the log.
fn reset(shared: &ConsumerState, part: &Asked, start: i64) {
    let Asked { partition, offset, .. } = *part;
    tracing::info!(topic = %part.topic, partition, offset, start, "offset out of range");
    with_asked(shared, part, |cursor| match shared.config.offset_reset {
        OffsetReset::Earliest => cursor.restart(StartFrom::Earliest),
        OffsetReset::Latest => cursor.restart(StartFrom::Latest),
        OffsetReset::Fail => {
            let topic = Arc::clone(&part.topic);
            cursor.fail(ConsumeError::OffsetOutOfRange { topic, partition, offset, start });
        }
    });
}

fn ask_again(shared: &ConsumerState, part: &Asked, leader_moved: bool, why: ConsumeError) {
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    with_asked(shared, part, |cursor| {
        if leader_moved {
            cursor.leader = None;
        }
        cursor.back_off(now_ms, backoff, why);
    });
}

/// Runs `f` unless the reader moved on since the question.
fn with_asked(shared: &ConsumerState, part: &Asked, f: impl FnOnce(&mut crate::core::cursor::Cursor)) {
    let mut state = shared.state();
    let cursor = state.cursor(&part.topic, part.partition);
    if let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) {
        cursor.busy = false;
        f(cursor);
    }
}
