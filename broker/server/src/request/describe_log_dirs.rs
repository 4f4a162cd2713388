//! DescribeLogDirs, versions 1-4.
//!
//! Behaviour: every log directory with the partitions in it, those that were asked for or all, their bytes as Kafka counts
//! them (batches in segments, nothing reserved or derived), and from v4 on the size of the disk and what is left of it. A
//! directory that is offline says KAFKA_STORAGE_ERROR and names no partitions.
//! Not supported: nothing is missing; partitions are never moved between directories, so no lag is ever told.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ottla_wire::message::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use ottla_wire::{ErrorCode, Str};

use super::{CloseReason, Peer, RequestHead, Response, decoded};
use crate::broker::Broker;
use crate::log_dirs::LogDirectory;

/// Serves DescribeLogDirs. Sizes are asked of the disk.
pub(super) fn respond(
    broker: &Arc<Broker>,
    _peer: &Arc<Peer>,
    head: RequestHead,
    frame: &[u8],
) -> Result<Response, CloseReason> {
    let request: DescribeLogDirsRequest<'_> = decoded(head, frame)?;
    let wanted: Option<HashSet<(&str, i32)>> = request.topics.as_ref().map(|topics| {
        let named = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.topic, *index)));
        named.collect()
    });
    let results = broker.log.all().iter().map(|directory| describe(directory, wanted.as_ref()));
    Ok(Response::of(head, &DescribeLogDirsResponse { results: results.collect(), ..Default::default() }))
}

fn describe(directory: &LogDirectory, wanted: Option<&HashSet<(&str, i32)>>) -> DescribeLogDirsResult<'static> {
    let path = std::path::absolute(directory.path()).unwrap_or_else(|_| directory.path().to_path_buf());
    let described = DescribeLogDirsResult { log_dir: Str::Owned(path.display().to_string()), ..Default::default() };
    if !directory.is_online() {
        return DescribeLogDirsResult { error_code: ErrorCode::KafkaStorageError, ..described };
    }
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in directory.log().partitions() {
        let name = log.name();
        if wanted.is_none_or(|wanted| wanted.contains(&(name.topic.as_str(), name.index))) {
            topics.entry(name.topic.clone()).or_default().push(DescribeLogDirsPartition {
                partition_index: name.index,
                partition_size: log.stored_bytes() as i64,
                ..Default::default()
            });
        }
    }
    let topics =
        topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic { name: Str::Owned(name), partitions });
    let described = DescribeLogDirsResult { topics: topics.collect(), ..described };
    match rustix::fs::statvfs(directory.path()) {
        Ok(disk) => {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
            DescribeLogDirsResult { total_bytes: bytes(disk.f_blocks), usable_bytes: bytes(disk.f_bavail), ..described }
        }
        Err(error) => {
            tracing::warn!(directory = %directory.path().display(), %error, "the size of a disk is not known");
            described
        }
    }
}
