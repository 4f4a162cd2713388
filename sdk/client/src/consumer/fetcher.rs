//! A fetcher: one connection to one broker, one request at a time, for the partitions led there that want data and are
//! not with the other fetcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_wire::message::{FetchPartition, FetchRequest, FetchTopic};

use super::assignment::Shared;
use super::intake;
use crate::error::ConnectionError;
use crate::net::Answer;

/// The last version that names topics; the next one wants their ids.
const CEILING: i16 = 12;

/// A partition asked for in one request.
pub(super) struct Asked {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) generation: u64,
    pub(super) offset: i64,
    pub(super) bytes_max: i32,
}

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<Shared>, node: i32, lane: u8) {
    loop {
        let mut work = std::pin::pin!(shared.work.notified());
        work.as_mut().enable();
        if shared.closed.load(Ordering::Acquire) {
            break;
        }
        let (asked, free_bytes) = choose(&shared, node);
        if asked.is_empty() {
            wait(&shared, node, work).await;
            continue;
        }
        match fetch(&shared, node, lane, &asked, free_bytes).await {
            Ok(answer) => {
                shared.note_contact();
                intake::take_in(&shared, &asked, &answer);
            }
            Err(error) => give_back(&shared, &asked, &error),
        }
        shared.work.notify_waiters();
    }
}

/// The partitions to ask for, marked as under way.
fn choose(shared: &Shared, node: i32) -> (Vec<Asked>, usize) {
    let now_ms = shared.now_ms();
    let mut state = shared.state();
    let free_bytes = state.free_bytes(&shared.config);
    if free_bytes == 0 {
        return (Vec::new(), 0);
    }
    let room = state.room(&shared.config, now_ms);
    let mut asked = Vec::new();
    for cursor in state.cursors.iter_mut().filter(|cursor| cursor.leader == Some(node) && cursor.wants_fetch(room)) {
        cursor.busy = true;
        asked.push(Asked {
            topic: Arc::clone(&cursor.topic),
            partition: cursor.partition,
            generation: cursor.generation,
            offset: cursor.next_fetch(),
            bytes_max: cursor.bytes_max,
        });
    }
    (asked, free_bytes)
}

/// Sleeps until something changes, or the pause of a partition is over.
async fn wait(shared: &Shared, node: i32, work: impl Future<Output = ()>) {
    let now_ms = shared.now_ms();
    let pause_ms = {
        let state = shared.state();
        let pausing = state.cursors.iter().filter(|cursor| cursor.leader == Some(node) && cursor.retry_at_ms > now_ms);
        pausing.map(|cursor| cursor.retry_at_ms - now_ms).min()
    };
    match pause_ms {
        Some(pause_ms) => {
            // Whichever comes first.
            let _ = tokio::time::timeout(Duration::from_millis(pause_ms), work).await;
        }
        None => work.await,
    }
}

async fn fetch(
    shared: &Shared,
    node: i32,
    lane: u8,
    asked: &[Asked],
    free_bytes: usize,
) -> Result<Answer, ConnectionError> {
    let config = &shared.config;
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for part in asked {
        topics.entry(&part.topic).or_default().push(FetchPartition {
            partition: part.partition,
            fetch_offset: part.offset,
            partition_max_bytes: part.bytes_max,
            ..FetchPartition::default()
        });
    }
    let topic = |(name, partitions): (&'_ str, _)| FetchTopic {
        topic: name.to_owned().into(),
        partitions,
        ..FetchTopic::default()
    };
    let request = FetchRequest {
        max_wait_ms: config.fetch_wait_ms_max,
        min_bytes: config.fetch_bytes_min,
        max_bytes: config.fetch_bytes_max.min(i32::try_from(free_bytes).unwrap_or(i32::MAX)),
        topics: topics.into_iter().map(topic).collect(),
        ..FetchRequest::default()
    };
    let patience = shared.cluster.request_timeout() + Duration::from_millis(config.fetch_wait_ms_max.max(0) as u64);
    let connection = shared.cluster.broker(node, lane).await?;
    connection.ask(&request, CEILING, patience).await
}

/// No answer: the partitions are asked for again after a pause, perhaps elsewhere.
fn give_back(shared: &Shared, asked: &[Asked], error: &ConnectionError) {
    if shared.closed.load(Ordering::Acquire) {
        return;
    }
    shared.note_silence(error);
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    let mut state = shared.state();
    for part in asked {
        let cursor = state.cursor(&part.topic, part.partition);
        if let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) {
            cursor.busy = false;
            cursor.leader = None;
            cursor.back_off(now_ms, backoff);
        }
    }
    drop(state);
    shared.arrival.notify_waiters();
}
