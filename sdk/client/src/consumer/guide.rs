//! The task that gets partitions ready to be fetched: finds leaders, turns starts into offsets, sets a pair of fetchers
//! to work for every broker that leads something.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_wire::ErrorCode;

use super::assignment::Shared;
use super::{StartFrom, fetcher};
use crate::core::cursor::Cursor;
use crate::error::ConsumeError;
use crate::net::{OffsetAnswer, OffsetQuestion, Topics, timestamp_of};

/// Fetchers per broker. While one waits in a long poll, the other one fetches what became wanted meanwhile.
const FETCHERS: u8 = 2;

/// A topic is gone when this many looks in a row did not find it: a few seconds, with the usual pauses.
const LOOKS_UNTIL_GONE: u32 = 8;

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut served = HashSet::new();
    loop {
        let mut work = std::pin::pin!(shared.work.notified());
        work.as_mut().enable();
        if shared.closed.load(Ordering::Acquire) {
            break;
        }
        find_leaders(&shared).await;
        resolve_starts(&shared).await;
        let leaders: Vec<i32> = shared.state().cursors.iter().filter_map(|cursor| cursor.leader).collect();
        for leader in leaders {
            if served.insert(leader) {
                for lane in 0..FETCHERS {
                    shared.cluster.runtime().spawn(fetcher::run(Arc::clone(&shared), leader, lane + 1));
                }
            }
        }
        let pause = next_look(&shared);
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// When the earliest pause of a partition that needs us is over; else when metadata is old.
fn next_look(shared: &Shared) -> Duration {
    let now_ms = shared.now_ms();
    let state = shared.state();
    let needy = state.cursors.iter().filter(|cursor| needs_guide(cursor));
    let next_ms = needy.map(|cursor| cursor.retry_at_ms.saturating_sub(now_ms).max(1)).min();
    Duration::from_millis(next_ms.unwrap_or(shared.config.client.metadata_age_ms_max))
}

fn needs_guide(cursor: &Cursor) -> bool {
    cursor.leader.is_none() || cursor.unresolved_start().is_some()
}

async fn find_leaders(shared: &Arc<Shared>) {
    let now_ms = shared.now_ms();
    let topics: HashSet<Arc<str>> = {
        let state = shared.state();
        let lost = state.cursors.iter().filter(|cursor| cursor.leader.is_none() && cursor.retry_at_ms <= now_ms);
        lost.map(|cursor| Arc::clone(&cursor.topic)).collect()
    };
    if topics.is_empty() {
        return;
    }
    let topics: Vec<_> = topics.into_iter().collect();
    let answer = shared.cluster.refresh(Topics::Named(&topics), false).await;
    let now_ms = shared.now_ms();
    let backoff = shared.backoff();
    match answer {
        Ok(metadata) => {
            shared.note_contact();
            let mut told = false;
            let mut state = shared.state();
            for cursor in state.cursors.iter_mut().filter(|cursor| cursor.leader.is_none()) {
                cursor.leader = metadata.leader(&cursor.topic, cursor.partition);
                if cursor.leader.is_some() {
                    continue;
                }
                cursor.back_off(now_ms, backoff);
                let known = metadata.topics.get(&cursor.topic);
                let unknown = known.is_none_or(|topic| topic.error == ErrorCode::UnknownTopicOrPartition);
                if unknown && cursor.failures() >= LOOKS_UNTIL_GONE {
                    let topic = Arc::clone(&cursor.topic);
                    cursor.fail(ConsumeError::UnknownTopic { topic });
                    told = true;
                }
            }
            drop(state);
            // Fetchers sleep until they hear that a partition is theirs again.
            shared.work.notify_waiters();
            if told {
                shared.arrival.notify_waiters();
            }
        }
        Err(error) => {
            shared.note_silence(&error);
            let mut state = shared.state();
            for cursor in state.cursors.iter_mut().filter(|cursor| cursor.leader.is_none()) {
                cursor.back_off(now_ms, backoff);
            }
            drop(state);
            shared.arrival.notify_waiters();
        }
    }
}

async fn resolve_starts(shared: &Arc<Shared>) {
    let now_ms = shared.now_ms();
    let mut asked = Vec::new();
    {
        let mut state = shared.state();
        for cursor in state.cursors.iter_mut().filter(|cursor| cursor.leader.is_some() && cursor.may_ask(now_ms)) {
            if let Some(start) = cursor.unresolved_start() {
                asked.push((Arc::clone(&cursor.topic), cursor.partition, cursor.generation, start));
            }
        }
    }
    if asked.is_empty() {
        return;
    }
    let question = |(topic, partition, _, start): &(Arc<str>, i32, u64, StartFrom)| OffsetQuestion {
        topic: Arc::clone(topic),
        partition: *partition,
        timestamp: timestamp_of(*start),
    };
    let answers = shared.cluster.list_offsets(asked.iter().map(question).collect()).await;
    let now_ms = shared.now_ms();
    let backoff = shared.backoff();
    match &answers {
        Ok(_) => shared.note_contact(),
        Err(error) => shared.note_silence(error),
    }
    {
        let mut state = shared.state();
        for (topic, partition, generation, start) in asked {
            let Some(cursor) = state.cursor(&topic, partition).filter(|cursor| cursor.generation == generation) else {
                continue;
            };
            let answer = answers.as_ref().ok().and_then(|answers| answers.get(&(Arc::clone(&topic), partition)));
            match answer {
                Some(OffsetAnswer::Found(Some(offset))) => {
                    cursor.succeed();
                    cursor.start_at(*offset);
                }
                // No record is that young: what comes next is.
                Some(OffsetAnswer::Found(None)) if matches!(start, StartFrom::Timestamp(_)) => {
                    cursor.seek(StartFrom::Latest);
                }
                Some(OffsetAnswer::Refused(code)) if !code.is_retriable() => {
                    cursor.fail(ConsumeError::Refused { topic, partition, code: *code });
                }
                _ => {
                    cursor.leader = None;
                    cursor.back_off(now_ms, backoff);
                }
            }
        }
    }
    shared.work.notify_waiters();
    shared.arrival.notify_waiters();
}
