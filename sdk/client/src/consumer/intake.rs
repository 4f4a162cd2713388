//! A fetch response, partition by partition: batches are checked, decompressed and put before the reader, errors are
//! sorted into those that pass and those that do not.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_wire::ErrorCode;
use ottla_wire::message::{FetchResponse, PartitionData};
use ottla_wire::record::{BatchError, batches};

use super::StartFrom;
use super::assignment::Shared;
use super::fetcher::Asked;
use crate::config::OffsetReset;
use crate::core::unpack::{OpenFault, OpenedBatch};
use crate::error::ConsumeError;
use crate::net::Answer;

/// What a partition's part of the answer comes to.
#[derive(Default)]
struct Harvest {
    batches: Vec<OpenedBatch>,
    /// The first offset behind all that was looked at.
    next_fetch: i64,
    error: Option<ConsumeError>,
    /// The first batch did not fit: ask for this much next time.
    bytes_max: Option<i32>,
}

/// Takes in an answer; partitions it leaves out, or whose reader moved on meanwhile, are asked for again.
pub(super) fn take_in(shared: &Shared, asked: &[Asked], answer: &Answer) {
    let response: FetchResponse<'_> = match answer.decode() {
        Ok(response) => response,
        Err(error) => {
            tracing::warn!(%error, "a fetch answer is of no use");
            FetchResponse::default()
        }
    };
    let parts: HashMap<(&str, i32), &PartitionData<'_>> = response
        .responses
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|part| ((&*topic.topic, part.partition_index), part)))
        .collect();
    // Unpacking takes time and memory: no lock is held, and nothing is unpacked that has no room.
    let mut room = shared.state().free_bytes(&shared.config).max(1);
    for part in asked {
        match parts.get(&(&*part.topic, part.partition)).filter(|_| response.error_code == ErrorCode::None) {
            Some(data) if data.error_code == ErrorCode::None => {
                let harvest = harvest(shared, part, data, answer, &mut room);
                store(shared, part, data, harvest);
            }
            Some(data) => refuse(shared, part, data),
            None => ask_again(shared, part, false),
        }
    }
    shared.arrival.notify_waiters();
}

fn harvest(shared: &Shared, part: &Asked, data: &PartitionData<'_>, answer: &Answer, room: &mut usize) -> Harvest {
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
    let mut harvest = Harvest { next_fetch: part.offset, ..Harvest::default() };
    let mut first = true;
    for batch in batches(data.records.bytes()) {
        let next_fetch = harvest.next_fetch;
        let batch = match batch {
            Ok(batch) => batch,
            // The end of the answer cuts a batch: the rest comes with the next one.
            Err(BatchError::Truncated { .. }) if !first => break,
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
        if header.is_control() {
            harvest.next_fetch = end;
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

fn store(shared: &Shared, part: &Asked, data: &PartitionData<'_>, harvest: Harvest) {
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    let mut state = shared.state();
    let cursor = state.cursor(&part.topic, part.partition);
    let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) else { return };
    cursor.busy = false;
    cursor.high_watermark = data.high_watermark;
    let before = cursor.fetched_bytes();
    let Harvest { batches, next_fetch, error, bytes_max } = harvest;
    let progress = next_fetch > part.offset || data.records.bytes().is_empty() || bytes_max.is_some();
    for batch in batches {
        cursor.take_in(batch);
    }
    cursor.skip_to(next_fetch);
    cursor.bytes_max = bytes_max.unwrap_or(shared.config.partition_bytes_max);
    match error {
        Some(error) => cursor.fail(error),
        None if progress => cursor.succeed(),
        // Bytes, and none of them new: do not spin.
        None => cursor.back_off(now_ms, backoff),
    }
    let added = cursor.fetched_bytes() - before;
    state.add_fetched(added);
}

/// The broker refuses this partition.
fn refuse(shared: &Shared, part: &Asked, data: &PartitionData<'_>) {
    let code = data.error_code;
    if code == ErrorCode::OffsetOutOfRange {
        return reset(shared, part, data.log_start_offset);
    }
    if code.is_retriable() {
        return ask_again(shared, part, true);
    }
    let (topic, partition) = (Arc::clone(&part.topic), part.partition);
    with_asked(shared, part, |cursor| cursor.fail(ConsumeError::Refused { topic, partition, code }));
}

/// The position is not in the log.
fn reset(shared: &Shared, part: &Asked, start: i64) {
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

fn ask_again(shared: &Shared, part: &Asked, leader_moved: bool) {
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    with_asked(shared, part, |cursor| {
        if leader_moved {
            cursor.leader = None;
        }
        cursor.back_off(now_ms, backoff);
    });
}

/// Runs `f` unless the reader moved on since the question.
fn with_asked(shared: &Shared, part: &Asked, f: impl FnOnce(&mut crate::core::cursor::Cursor)) {
    let mut state = shared.state();
    let cursor = state.cursor(&part.topic, part.partition);
    if let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) {
        cursor.busy = false;
        f(cursor);
    }
}
