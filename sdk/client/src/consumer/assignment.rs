//! What callers, fetchers and the guide share: the cursors of all assigned partitions and the bells that ring when they
//! change.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::group::{Group, Start};
use super::{Assignment, Chunk, Records, StartFrom, TopicPartition};
use crate::config::ConsumerConfig;
use crate::core::backoff::Backoff;
use crate::core::cursor::{Cursor, Room};
use crate::error::{ConfigError, ConsumeError};
use crate::net::Cluster;

pub(super) struct ConsumerState {
    pub(super) config: ConsumerConfig,
    pub(super) cluster: Arc<Cluster>,
    pub(super) group: Option<Arc<Group>>,
    state: Mutex<State>,
    /// Rings when something can be polled.
    pub(super) arrival: Notify,
    /// Rings when there may be something to fetch or to look up.
    pub(super) work: Notify,
    pub(super) closed: AtomicBool,
    /// Leaders are being asked for.
    pub(super) looking: AtomicBool,
    started: Instant,
}

/// Which positions to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// All that was polled.
    Polled,
    /// What was polled before the last poll: the application is done with it.
    Done,
    /// The same, of partitions that are given up.
    Going,
}

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<TopicPartition, i64>;

#[derive(Default)]
pub(super) struct State {
    pub(super) cursors: Vec<Cursor>,
    index: HashMap<(Arc<str>, i32), usize>,
    /// Bytes fetched and not yet polled, of all partitions.
    fetched_bytes: usize,
    /// Where the next poll begins to look, so that no partition starves.
    turn: usize,
    /// Of every cursor that ever was: an answer to one that was unassigned fits none that came after it.
    last_generation: u64,
}

impl ConsumerState {
    pub(super) fn new(config: ConsumerConfig, group: Option<Arc<Group>>) -> Result<Self, ConfigError> {
        Ok(Self {
            cluster: Arc::new(Cluster::new(config.client.clone())?),
            config,
            started: group.as_ref().map_or_else(Instant::now, |group| group.started),
            group,
            state: Mutex::default(),
            arrival: Notify::new(),
            work: Notify::new(),
            closed: AtomicBool::new(false),
            looking: AtomicBool::new(false),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since this consumer started.
    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// How long a broker may wait for data.
    pub(super) fn fetch_wait(&self) -> Duration {
        Duration::from_millis(self.config.fetch_wait_ms_max.max(0) as u64)
    }

    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.config.client.retry_backoff_ms, self.config.client.retry_backoff_ms_max)
    }

    /// Reads these, as the group says.
    pub(super) fn assign_from_group(&self, starts: Vec<(TopicPartition, Start)>) {
        let start_of = |start: &Start| match start {
            Start::Committed(offset) => StartFrom::Offset(*offset),
            Start::From(start) => *start,
            Start::Failed(_) => StartFrom::Latest,
        };
        let assignment = |(it, start): &(TopicPartition, Start)| Assignment {
            topic: Arc::clone(&it.topic),
            partition: it.partition,
            start: start_of(start),
        };
        self.assign(&starts.iter().map(assignment).collect::<Vec<_>>());
        let mut state = self.state();
        for (it, start) in starts {
            let Some(cursor) = state.cursor(&it.topic, it.partition) else { continue };
            match start {
                Start::Committed(offset) => cursor.committed = Some(offset),
                Start::From(_) => {}
                Start::Failed(error) => cursor.fail(error),
            }
        }
    }

    /// Everything that was polled before is done with.
    pub(super) fn mark_done(&self) {
        for cursor in &mut self.state().cursors {
            cursor.done = cursor.position().or(cursor.done);
        }
    }

    /// Positions that differ from what is committed.
    pub(super) fn offsets_to_commit(&self, which: Which) -> Offsets {
        let state = self.state();
        let offset = |cursor: &Cursor| match which {
            Which::Polled => cursor.position(),
            Which::Done => cursor.done,
            Which::Going => cursor.done.filter(|_| cursor.is_going),
        };
        let news = state.cursors.iter().filter_map(|cursor| {
            let offset = offset(cursor).filter(|offset| cursor.committed != Some(*offset))?;
            Some((TopicPartition::new(Arc::clone(&cursor.topic), cursor.partition), offset))
        });
        news.collect()
    }

    pub(super) fn note_committed(&self, of: &TopicPartition, offset: i64) {
        if let Some(cursor) = self.state().cursor(&of.topic, of.partition) {
            cursor.committed = Some(offset);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn assign(&self, assignments: &[Assignment]) {
        let metadata = self.cluster.metadata();
        {
            let mut state = self.state();
            for Assignment { topic, partition, start } in assignments {
                let key = (Arc::clone(topic), *partition);
                if !state.index.contains_key(&key) {
                    let bytes_max = self.config.partition_bytes_max;
                    state.cursors.push(Cursor::new(Arc::clone(topic), *partition, bytes_max));
                    let at = state.cursors.len() - 1;
                    state.index.insert(key, at);
                }
                let generation = state.next_generation();
                if let Some(cursor) = state.cursor(topic, *partition) {
                    cursor.seek(*start, generation);
                    cursor.leader = metadata.leader(topic, *partition);
                }
            }
        }
        self.recount();
    }

    pub(super) fn unassign(&self, topic: &str, partition: i32) {
        {
            let mut state = self.state();
            state.cursors.retain(|cursor| &*cursor.topic != topic || cursor.partition != partition);
            let places = state.cursors.iter().enumerate();
            state.index = places.map(|(at, cursor)| ((Arc::clone(&cursor.topic), cursor.partition), at)).collect();
        }
        self.recount();
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        self.assignment_that(|_| true)
    }

    /// The partitions being read of which this is true.
    pub(super) fn assignment_that(&self, holds: impl Fn(&Cursor) -> bool) -> Vec<TopicPartition> {
        let state = self.state();
        let cursors = state.cursors.iter().filter(|cursor| holds(cursor));
        cursors.map(|cursor| TopicPartition { topic: Arc::clone(&cursor.topic), partition: cursor.partition }).collect()
    }

    pub(super) fn with_cursor<T>(
        &self,
        topic: &str,
        partition: i32,
        f: impl FnOnce(&mut Cursor) -> T,
    ) -> Result<T, ConsumeError> {
        let topic: Arc<str> = topic.into();
        let mut state = self.state();
        match state.cursor(&topic, partition) {
            Some(cursor) => Ok(f(cursor)),
            None => Err(ConsumeError::NotAssigned { topic, partition }),
        }
    }

    pub(super) fn seek(&self, topic: &str, partition: i32, start: StartFrom) -> Result<(), ConsumeError> {
        let generation = self.state().next_generation();
        self.with_cursor(topic, partition, |cursor| cursor.seek(start, generation))?;
        self.recount();
        Ok(())
    }

    /// Whether the reader is still where this chunk was fetched from.
    pub(super) fn is_current(&self, chunk: &Chunk) -> bool {
        let mut state = self.state();
        state.cursor(&chunk.topic, chunk.partition).is_some_and(|cursor| cursor.generation == chunk.generation)
    }

    /// After cursors were moved: what is fetched is counted anew, and all tasks look again.
    pub(super) fn recount(&self) {
        let mut state = self.state();
        state.fetched_bytes = state.cursors.iter().map(Cursor::fetched_bytes).sum();
        drop(state);
        self.work.notify_waiters();
    }

    pub(super) fn poll(&self, records_max: usize) -> Result<Option<Records>, ConsumeError> {
        let (result, freed) = self.state().poll(records_max);
        if freed > 0 {
            self.work.notify_waiters();
        }
        match result? {
            Some(records) => Ok(Some(records)),
            None => self.state().complain(self.now_ms(), self.config.unreachable_ms_max),
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        if let Some(group) = &self.group {
            group.close();
        }
        self.work.notify_waiters();
        self.arrival.notify_waiters();
        self.cluster.close();
    }
}

impl State {
    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    pub(super) fn cursor(&mut self, topic: &Arc<str>, partition: i32) -> Option<&mut Cursor> {
        let at = *self.index.get(&(Arc::clone(topic), partition))?;
        self.cursors.get_mut(at)
    }

    /// Counts what an answer brought.
    pub(super) fn add_fetched(&mut self, bytes: usize) {
        self.fetched_bytes += bytes;
    }

    /// Bytes that may still be fetched ahead in total.
    pub(super) fn free_bytes(&self, config: &ConsumerConfig) -> usize {
        config.buffer_bytes.saturating_sub(self.fetched_bytes)
    }

    /// What one partition may fetch ahead: its share of the buffer, and never less than one fetch.
    pub(super) fn room(&self, config: &ConsumerConfig, now_ms: u64) -> Room {
        let share = config.buffer_bytes.checked_div(self.cursors.len()).unwrap_or(config.buffer_bytes);
        Room { now_ms, partition_bytes: share.max(config.partition_bytes_max.max(1) as usize) }
    }

    fn poll(&mut self, records_max: usize) -> (Result<Option<Records>, ConsumeError>, usize) {
        let mut chunks = Vec::new();
        let mut left = records_max;
        let mut freed = 0;
        let count = self.cursors.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let Some(cursor) = self.cursors.get_mut(at) else { continue };
            while left > 0 && cursor.has_fetched() {
                let (chunk, bytes) = cursor.poll(left);
                freed += bytes;
                let Some(chunk) = chunk else { break };
                left -= chunk.len();
                chunks.push(chunk);
            }
            if left == 0 {
                // The rest of this partition waits until the others had their turn.
                self.turn = (at + 1) % count;
                break;
            }
        }
        self.fetched_bytes = self.fetched_bytes.saturating_sub(freed);
        if !chunks.is_empty() {
            return (Ok(Some(Records { chunks })), freed);
        }
        let trouble = self.cursors.iter_mut().find_map(Cursor::take_trouble);
        (trouble.map_or(Ok(None), Err), freed)
    }

    /// Says, once per period, why a partition is at a standstill.
    fn complain(&mut self, now_ms: u64, patience_ms: u64) -> Result<Option<Records>, ConsumeError> {
        self.cursors.iter_mut().find_map(|cursor| cursor.complain(now_ms, patience_ms)).map_or(Ok(None), Err)
    }
}
