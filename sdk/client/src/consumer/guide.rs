//! The task that gets partitions ready to be fetched: finds leaders, turns starts into offsets, sets a pair of fetchers
//! to work for every broker that leads something. It waits for no broker: every question is a task of its own, so that a
//! broker that does not answer holds up its own partitions only.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_wire::ErrorCode;

use super::assignment::ConsumerState;
use super::{StartFrom, fetcher};
use crate::config::OffsetReset;
use crate::core::cursor::Cursor;
use crate::core::metadata::Metadata;
use crate::error::ConsumeError;
use crate::net::{OffsetAnswer, OffsetQuestion, Topics, timestamp_of};

/// Fetchers per broker. While one waits in a long poll, the other one fetches what became wanted meanwhile.
const FETCHERS: u8 = 2;

/// A topic is gone when this many looks in a row did not find it: a few seconds, with the usual pauses.
const LOOKS_UNTIL_GONE: u32 = 8;

/// Runs until the consumer is closed.
pub(super) async fn run(shared: Arc<ConsumerState>) {
    let mut served = HashSet::new();
    loop {
        let mut work = std::pin::pin!(shared.work.notified());
        work.as_mut().enable();
        if shared.closed.load(Ordering::Acquire) {
            break;
        }
        find_leaders(&shared);
        resolve_starts(&shared);
        let leaders: Vec<i32> = shared.state().cursors.iter().filter_map(|cursor| cursor.leader).collect();
        for leader in leaders {
            if served.insert(leader) {
                for channel in 0..FETCHERS {
                    shared.cluster.runtime().spawn(fetcher::run(Arc::clone(&shared), leader, channel + 1));
                }
            }
        }
        match next_look(&shared) {
            Some(pause) => {
                // Whichever comes first.
                let _ = tokio::time::timeout(pause, work).await;
            }
            None => work.await,
        }
    }
}

/// When the earliest pause of a partition that needs us is over. None: when an answer comes, or something is assigned.
fn next_look(shared: &ConsumerState) -> Option<Duration> {
    let now_ms = shared.now_ms();
    let looking = shared.looking.load(Ordering::Acquire);
    let state = shared.state();
    let needy = state.cursors.iter().filter(|cursor| match cursor.leader {
        None => !looking && !cursor.has_ended(),
        Some(_) => cursor.unresolved_start().is_some() && !cursor.busy,
    });
    let next_ms = needy.map(|cursor| cursor.retry_at_ms.saturating_sub(now_ms).max(1)).min();
    next_ms.map(Duration::from_millis)
}

/// Asks who leads the partitions that have no leader and whose pause is over; one question at a time.
fn find_leaders(shared: &Arc<ConsumerState>) {
    if shared.looking.load(Ordering::Acquire) {
        return;
    }
    let now_ms = shared.now_ms();
    let topics: HashSet<Arc<str>> = {
        let state = shared.state();
        let lost = state.cursors.iter().filter(|cursor| is_lost(cursor) && cursor.retry_at_ms <= now_ms);
        lost.map(|cursor| Arc::clone(&cursor.topic)).collect()
    };
    if topics.is_empty() {
        return;
    }
    shared.looking.store(true, Ordering::Release);
    let topics: Vec<_> = topics.into_iter().collect();
    let home = Arc::clone(shared);
    shared.cluster.runtime().spawn(async move {
        let answer = home.cluster.refresh(Topics::Named(&topics), false).await;
        let (now_ms, backoff) = (home.now_ms(), home.backoff());
        {
            let mut state = home.state();
            let concerned = |cursor: &&mut Cursor| is_lost(cursor) && topics.contains(&cursor.topic);
            for cursor in state.cursors.iter_mut().filter(concerned) {
                match &answer {
                    Ok(metadata) => found(&home, cursor, metadata),
                    Err(error) => cursor.back_off(now_ms, backoff, error.clone().into()),
                }
            }
        }
        home.looking.store(false, Ordering::Release);
        // Fetchers sleep until they hear that a partition is theirs again.
        home.work.notify_waiters();
        home.arrival.notify_waiters();
    });
}

fn is_lost(cursor: &Cursor) -> bool {
    cursor.leader.is_none() && !cursor.has_ended()
}

/// What the cluster says of a partition that has no leader.
fn found(shared: &ConsumerState, cursor: &mut Cursor, metadata: &Metadata) {
    cursor.leader = metadata.leader(&cursor.topic, cursor.partition);
    if cursor.leader.is_some() {
        return;
    }
    let (topic, partition) = (Arc::clone(&cursor.topic), cursor.partition);
    let known = metadata.topics.get(&topic);
    let count = known.map_or(0, |topic| topic.partitions.len() as i32);
    let code = known.map_or(ErrorCode::UnknownTopicOrPartition, |topic| topic.error);
    let (error, is_gone) = if partition < count {
        (ConsumeError::Refused { topic, partition, code: ErrorCode::LeaderNotAvailable }, false)
    } else if count > 0 {
        (ConsumeError::NoSuchPartition { topic, partition, count }, true)
    } else if code == ErrorCode::UnknownTopicOrPartition {
        (ConsumeError::UnknownTopic { topic }, true)
    } else {
        (ConsumeError::Refused { topic, partition, code }, false)
    };
    let refused = matches!(&error, ConsumeError::Refused { code, .. } if !code.is_retriable());
    // It may be made anew: a reader that wants to go on wherever it can waits for that.
    let waits = shared.config.offset_reset != OffsetReset::Fail;
    if refused || (is_gone && !waits && cursor.failures() + 1 >= LOOKS_UNTIL_GONE) {
        cursor.fail(error);
    } else {
        cursor.back_off(shared.now_ms(), shared.backoff(), error);
    }
}

/// A start that a leader is asked about.
struct Asked {
    question: OffsetQuestion,
    generation: u64,
    start: StartFrom,
}

/// Asks every leader about the starts of its partitions.
fn resolve_starts(shared: &Arc<ConsumerState>) {
    let now_ms = shared.now_ms();
    let mut by_leader: BTreeMap<i32, Vec<Asked>> = BTreeMap::new();
    for cursor in shared.state().cursors.iter_mut().filter(|cursor| cursor.may_ask(now_ms)) {
        let (Some(leader), Some(start)) = (cursor.leader, cursor.unresolved_start()) else { continue };
        cursor.busy = true;
        let question = OffsetQuestion {
            topic: Arc::clone(&cursor.topic),
            partition: cursor.partition,
            timestamp: timestamp_of(start),
        };
        by_leader.entry(leader).or_default().push(Asked { question, generation: cursor.generation, start });
    }
    for (leader, asked) in by_leader {
        let home = Arc::clone(shared);
        shared.cluster.runtime().spawn(async move {
            let questions = asked.iter().map(|asked| asked.question.clone()).collect();
            let answers = home.cluster.offsets_of_leader(leader, questions, home.config.isolation).await;
            for asked in asked {
                let place = (Arc::clone(&asked.question.topic), asked.question.partition);
                if let Some(answer) = answers.get(&place) {
                    resolve(&home, asked, answer);
                }
            }
            home.work.notify_waiters();
            home.arrival.notify_waiters();
        });
    }
}

fn resolve(shared: &ConsumerState, asked: Asked, answer: &OffsetAnswer) {
    let Asked { question: OffsetQuestion { topic, partition, .. }, generation, start } = asked;
    let (now_ms, backoff) = (shared.now_ms(), shared.backoff());
    let mut state = shared.state();
    let Some(cursor) = state.cursor(&topic, partition).filter(|cursor| cursor.generation == generation) else {
        return;
    };
    cursor.busy = false;
    let why = match answer {
        OffsetAnswer::Found(Some(offset)) => {
            cursor.succeed();
            return cursor.start_at(*offset);
        }
        // No record is that young: what comes next is.
        OffsetAnswer::Found(None) if matches!(start, StartFrom::Timestamp(_)) => {
            return cursor.restart(StartFrom::Latest);
        }
        OffsetAnswer::Found(None) => ConsumeError::Refused { topic, partition, code: ErrorCode::OffsetNotAvailable },
        OffsetAnswer::Refused(code) => ConsumeError::Refused { topic, partition, code: *code },
        OffsetAnswer::Unanswered(error) => error.clone().into(),
    };
    if matches!(&why, ConsumeError::Refused { code, .. } if !code.is_retriable()) {
        return cursor.fail(why);
    }
    cursor.leader = None;
    cursor.back_off(now_ms, backoff, why);
}
