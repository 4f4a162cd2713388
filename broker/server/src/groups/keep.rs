//! The task of a shard: loads it, says what became durable, wakes it when something is due, ends it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ottla_coordinator::group::{Shard, Topics};
use ottla_front::ShutdownWatch;
use ottla_wire::Offset;

use super::AllGroups;
use super::load::{LoadError, load};
use super::shard::LiveShard;

/// Between a failure and the next try.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// Keeps a shard until the broker stops or its partition is gone.
pub(super) async fn keep(groups: &Arc<AllGroups>, live: &LiveShard) {
    let mut stop = groups.stop.clone();
    while !stop.has_begun() {
        match loaded(groups, live, &mut stop).await {
            Ok((shard, topics)) => {
                live.open(groups, shard, topics);
                serve(groups, live, &mut stop).await;
            }
            Err(LoadError::Stopping) => break,
            Err(error) => {
                tracing::error!(partition = ?live.partition, "groups cannot be loaded: {error}");
                live.fail(groups);
            }
        }
        let log = &live.partition.log;
        if let Some(reason) = log.offline_reason() {
            tracing::error!(
                partition = ?live.partition, directory = %log.directory().display(),
                "the groups of this partition have no coordinator: its log directory is offline ({reason}). Their members wait \
                 until the disk is mended and the broker is started again"
            );
            break;
        }
        if log.is_deleted() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(RELOAD_PAUSE) => {}
            () = stop.begun() => {}
        }
    }
    live.fail(groups);
}

/// The shard as its partition says, with the topics of the moment.
async fn loaded(
    groups: &Arc<AllGroups>,
    live: &LiveShard,
    stop: &mut ShutdownWatch,
) -> Result<(Shard, Arc<Topics>), LoadError> {
    let partition = Arc::clone(&live.partition);
    // After a failure something may still be on its way to the disk: it counts.
    tokio::select! {
        durable = partition.watermark.wait_for(partition.log.end_offset()) => durable?,
        () = stop.begun() => return Err(LoadError::Stopping),
    }
    let topics = Arc::clone(&groups.view().topics);
    let shard = Shard::new(groups.config(), Arc::clone(&topics));
    let (stop, unpacked_bytes_max) = (stop.clone(), groups.unpacked_bytes_max);
    let loading = groups.loads.run(move || load(shard, &partition, unpacked_bytes_max, &stop));
    let shard = loading.await.map_err(|error| LoadError::Panicked(error.to_string()))??;
    Ok((shard, topics))
}

/// Serves until a write fails, the partition goes offline or the broker stops.
async fn serve(groups: &Arc<AllGroups>, live: &LiveShard, stop: &mut ShutdownWatch) {
    loop {
        live.advance(groups, &groups.view().topics);
        let due = live.due();
        if due.failed {
            return;
        }
        tokio::select! {
            () = live.rung() => {}
            reached = reached(live, due.durable_at) => if !reached {
                live.fail(groups);
                return;
            },
            () = groups.clock.reaches(due.wake_at_ms) => {}
            () = stop.begun() => {
                // What was appended is as good as durable: it is answered with what it came to.
                let all = reached(live, due.all_durable_at);
                if due.all_durable_at.is_some() && tokio::time::timeout(groups.stop_patience, all).await.is_ok() {
                    live.advance(groups, &groups.view().topics);
                }
                return;
            }
        }
    }
}

/// Whether everything below `end` became durable; for ever where there is nothing to wait for.
async fn reached(live: &LiveShard, end: Option<Offset>) -> bool {
    match end {
        Some(end) => live.partition.watermark.wait_for(end).await.is_ok(),
        None => pending().await,
    }
}
