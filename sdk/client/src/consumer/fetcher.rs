//! A fetcher: one connection to one broker, one request at a time, for the partitions led there that want data and are
//! not with the other fetcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_wire::message::{FetchPartition, FetchRequest, FetchTopic};

use tokio::time::Instant;

use super::assignment::ConsumerState;
use super::intake::{self, Taken};
use crate::error::ConnectionError;
use crate::net::Answer;

/// The last version that names topics; the next one wants their ids.
const CEILING: i16 = 12;

/// Answers without data that may come at once: after a seek, the first one often does.
const HASTY_ANSWERS_MAX: u32 = 3;

/// A partition asked for in one request.
pub(super) struct Asked {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) generation: u64,
    pub(super) offset: i64,
    pub(super) last_epoch: i32,
    pub(super) bytes_max: i32,
}

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<ConsumerState>, node: i32, channel: u8) {
    let mut hasty = 0;
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
        let asked_at = Instant::now();
        let taken = match fetch(&shared, node, channel, &asked, free_bytes).await {
            Ok(answer) => intake::take_in(&shared, &asked, &answer),
            Err(error) => Err(error),
        };
        let mut pause = Duration::ZERO;
        match taken {
            Ok(Taken { progress, throttle }) => {
                pause = throttle;
                // A broker that was told to wait for data and answers at once, without any, would be asked for ever.
                let early = !progress && asked_at.elapsed() < shared.fetch_wait() / 2;
                hasty = if early { hasty + 1 } else { 0 };
                if hasty > HASTY_ANSWERS_MAX {
                    let backoff = shared.backoff().pause_ms(hasty - HASTY_ANSWERS_MAX, u64::from(channel));
                    pause = pause.max(Duration::from_millis(backoff));
                }
            }
            Err(error) => give_back(&shared, &asked, &error),
        }
        shared.work.notify_waiters();
        rest(&shared, pause).await;
    }
}

/// Asks for nothing for this long, unless the consumer is closed meanwhile.
async fn rest(shared: &ConsumerState, pause: Duration) {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        let mut work = std::pin::pin!(shared.work.notified());
        work.as_mut().enable();
        if shared.closed.load(Ordering::Acquire) || tokio::time::timeout_at(until, work).await.is_err() {
            return;
        }
    }
}

/// The partitions to ask for, marked as under way.
fn choose(shared: &ConsumerState, node: i32) -> (Vec<Asked>, usize) {
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
            last_epoch: cursor.last_epoch(),
            bytes_max: cursor.bytes_max,
        });
    }
    (asked, free_bytes)
}

/// Sleeps until something changes, or the pause of a partition is over.
async fn wait(shared: &ConsumerState, node: i32, work: impl Future<Output = ()>) {
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
    shared: &ConsumerState,
    node: i32,
    channel: u8,
    asked: &[Asked],
    free_bytes: usize,
) -> Result<Answer, ConnectionError> {
    let config = &shared.config;
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for part in asked {
        topics.entry(&part.topic).or_default().push(FetchPartition {
            partition: part.partition,
            fetch_offset: part.offset,
            last_fetched_epoch: part.last_epoch,
            partition_max_bytes: part.bytes_max,
            ..FetchPartition::default()
        });
    }
    let topic = |(name, partitions): (&'_ str, _)| FetchTopic {
        topic: name.to_owned().into(),
        partitions,
        ..FetchTopic::default()
    };
    // A batch that did not fit is asked for in full, beyond the usual bound.
    let usual = config.fetch_bytes_max.min(i32::try_from(free_bytes).unwrap_or(i32::MAX));
    let grown = asked.iter().map(|part| part.bytes_max).filter(|bytes| *bytes > config.partition_bytes_max).max();
    let request = FetchRequest {
        isolation_level: config.isolation.code(),
        max_wait_ms: config.fetch_wait_ms_max,
        min_bytes: config.fetch_bytes_min,
        max_bytes: usual.max(grown.unwrap_or(0)),
        topics: topics.into_iter().map(topic).collect(),
        ..FetchRequest::default()
    };
    let patience = shared.cluster.request_timeout() + shared.fetch_wait();
    let connection = shared.cluster.broker(node, channel).await?;
    connection.ask(&request, CEILING, patience).await
}

/// No answer: the partitions are asked for again after a pause, perhaps elsewhere.
fn give_back(shared: &ConsumerState, asked: &[Asked], error: &ConnectionError) {
    if shared.closed.load(Ordering::Acquire) {
        return;
    }
    tracing::debug!(%error, "the consumer tries on");
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    let mut state = shared.state();
    for part in asked {
        let cursor = state.cursor(&part.topic, part.partition);
        if let Some(cursor) = cursor.filter(|cursor| cursor.generation == part.generation) {
            cursor.busy = false;
            cursor.leader = None;
            cursor.back_off(now_ms, backoff, error.clone().into());
        }
    }
    drop(state);
    shared.arrival.notify_waiters();
}
