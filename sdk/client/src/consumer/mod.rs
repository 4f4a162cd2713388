//! The consumer: says where to start, polls batches of records. Fetching goes on in the background, as far as the buffer
//! allows. No groups (yet): partitions are assigned by hand and positions live here alone.

mod assignment;
mod fetcher;
mod guide;
mod intake;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_wire::ErrorCode;
use tokio::runtime::Handle;

use self::assignment::ConsumerState;
use crate::config::ConsumerConfig;
pub use crate::core::chunk::{Chunk, Headers, Record, RecordRef, Records, TimestampType};
pub use crate::core::cursor::StartFrom;
use crate::core::metadata::Metadata;
use crate::error::{ConfigError, ConnectionError, ConsumeError};
use crate::net::{OffsetAnswer, OffsetQuestion, Topics, timestamp_of};

/// A partition to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Where to start.
    pub start: StartFrom,
}

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// Reads records. Cheap to share by reference or in an `Arc`; every method takes `&self`.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use ottla_client::{Consumer, ConsumerConfig, StartFrom};
///
/// let consumer = Consumer::new(ConsumerConfig::new("127.0.0.1:9092"))?;
/// consumer.assign_topic("packages", StartFrom::Earliest).await?;
/// let records = consumer.poll(500, Duration::from_secs(1)).await?;
/// for record in records.iter() {
///     println!("{} {:?}", record.offset(), record.value());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Consumer {
    shared: Arc<ConsumerState>,
}

impl Consumer {
    /// Starts a consumer. Nothing is connected before the first assignment. Needs a tokio runtime: the configured one, or
    /// the caller's.
    pub fn new(config: ConsumerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let shared = Arc::new(ConsumerState::new(config)?);
        shared.cluster.runtime().spawn(guide::run(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Reads these partitions, too. One that is assigned already moves to the new start.
    pub async fn assign(&self, assignments: &[Assignment]) -> Result<(), ConsumeError> {
        let mut topics: Vec<_> = assignments.iter().map(|assignment| Arc::clone(&assignment.topic)).collect();
        topics.sort_unstable();
        topics.dedup();
        let metadata = self.look_up(&topics).await?;
        for Assignment { topic, partition, .. } in assignments {
            let count = partition_count(&metadata, topic)?;
            if !(0..count).contains(partition) {
                return Err(ConsumeError::NoSuchPartition { topic: Arc::clone(topic), partition: *partition, count });
            }
        }
        self.shared.assign(assignments);
        Ok(())
    }

    /// Reads every partition that the topic has now; returns them.
    pub async fn assign_topic(&self, topic: &str, start: StartFrom) -> Result<Vec<i32>, ConsumeError> {
        let topic: Arc<str> = topic.into();
        let metadata = self.look_up(std::slice::from_ref(&topic)).await?;
        let partitions = 0..partition_count(&metadata, &topic)?;
        let assignment = |partition| Assignment { topic: Arc::clone(&topic), partition, start };
        self.shared.assign(&partitions.clone().map(assignment).collect::<Vec<_>>());
        Ok(partitions.collect())
    }

    /// Reads this partition no more. What was fetched of it is dropped.
    pub fn unassign(&self, topic: &str, partition: i32) {
        self.shared.unassign(topic, partition);
    }

    /// The partitions being read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment()
    }

    /// Up to `records_max` records, as soon as there are any; none after `timeout`.
    ///
    /// An error concerns one partition (which then waits for a [`seek`](Self::seek)) or the connection (which is being
    /// mended); polling again goes on with the rest. An error is never returned before the records in front of it.
    pub async fn poll(&self, records_max: usize, timeout: Duration) -> Result<Records, ConsumeError> {
        let deadline = tokio::time::Instant::now() + timeout.min(Duration::from_hours(24));
        loop {
            let mut arrival = std::pin::pin!(self.shared.arrival.notified());
            arrival.as_mut().enable();
            if let Some(records) = self.try_poll(records_max)? {
                return Ok(records);
            }
            if tokio::time::timeout_at(deadline, arrival).await.is_err() {
                return Ok(self.try_poll(records_max)?.unwrap_or_default());
            }
        }
    }

    /// What [`poll`](Self::poll) would return without waiting; none if there is nothing yet. Never touches the runtime, so
    /// a binding may call it with its own lock held.
    pub fn try_poll(&self, records_max: usize) -> Result<Option<Records>, ConsumeError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(ConsumeError::Closed);
        }
        self.shared.poll(records_max.max(1))
    }

    /// [`poll`](Self::poll) for threads outside any runtime.
    pub fn poll_blocking(&self, records_max: usize, timeout: Duration) -> Result<Records, ConsumeError> {
        match self.try_poll(records_max)? {
            Some(records) => Ok(records),
            None => self.runtime().block_on(self.poll(records_max, timeout)),
        }
    }

    /// Goes on reading elsewhere. Also the way to go on after an error of this partition.
    pub fn seek(&self, topic: &str, partition: i32, start: StartFrom) -> Result<(), ConsumeError> {
        self.shared.seek(topic, partition, start)
    }

    /// Whether the reader still is where this chunk was fetched from: false after a seek, an assignment or an
    /// unassignment of its partition, so that what hands out records later can drop it.
    pub fn is_current(&self, chunk: &Chunk) -> bool {
        self.shared.is_current(chunk)
    }

    /// The offset of the next record that `poll` would return; none while the start is still being looked up.
    pub fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        self.shared.with_cursor(topic, partition, |cursor| cursor.position())
    }

    /// The end of the partition as of the last fetch; none before the first.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        let high_watermark = self.shared.with_cursor(topic, partition, |cursor| cursor.high_watermark)?;
        Ok(Some(high_watermark).filter(|offset| *offset >= 0))
    }

    /// Stops fetching a partition without forgetting where it stands. What was fetched is still polled.
    pub fn pause(&self, topic: &str, partition: i32) -> Result<(), ConsumeError> {
        self.shared.with_cursor(topic, partition, |cursor| cursor.paused = true)
    }

    /// Fetches a paused partition again.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), ConsumeError> {
        self.shared.with_cursor(topic, partition, |cursor| cursor.paused = false)?;
        self.shared.work.notify_waiters();
        Ok(())
    }

    /// The first offset of every partition of a topic.
    pub async fn beginning_offsets(&self, topic: &str) -> Result<Vec<(i32, i64)>, ConsumeError> {
        self.offsets(topic, StartFrom::Earliest).await
    }

    /// The offset behind the last readable record of every partition of a topic.
    pub async fn end_offsets(&self, topic: &str) -> Result<Vec<(i32, i64)>, ConsumeError> {
        self.offsets(topic, StartFrom::Latest).await
    }

    /// The offset that a start stands for, in every partition of a topic: for a timestamp that no record reaches, the end.
    pub async fn offsets(&self, topic: &str, start: StartFrom) -> Result<Vec<(i32, i64)>, ConsumeError> {
        let topic: Arc<str> = topic.into();
        let metadata = self.look_up(std::slice::from_ref(&topic)).await?;
        let count = partition_count(&metadata, &topic)?;
        let mut found = self.ask(&topic, 0..count, start).await?;
        let unfound: Vec<i32> = (0..count).filter(|partition| found.get(partition) == Some(&None)).collect();
        if !unfound.is_empty() {
            found.extend(self.ask(&topic, unfound.into_iter(), StartFrom::Latest).await?);
        }
        Ok((0..count).map(|partition| (partition, found.get(&partition).copied().flatten().unwrap_or(0))).collect())
    }

    async fn ask(
        &self,
        topic: &Arc<str>,
        partitions: impl Iterator<Item = i32>,
        start: StartFrom,
    ) -> Result<HashMap<i32, Option<i64>>, ConsumeError> {
        let timestamp = timestamp_of(start);
        let questions =
            partitions.map(|partition| OffsetQuestion { topic: Arc::clone(topic), partition, timestamp }).collect();
        let answers = self.shared.cluster.list_offsets(questions, self.shared.config.isolation).await;
        let read = |((topic, partition), answer)| match answer {
            OffsetAnswer::Found(offset) => Ok((partition, offset)),
            OffsetAnswer::Refused(code) => Err(ConsumeError::Refused { topic, partition, code }),
            OffsetAnswer::Unanswered(error) => Err(error.into()),
        };
        answers.into_iter().map(read).collect()
    }

    async fn look_up(&self, topics: &[Arc<str>]) -> Result<Arc<Metadata>, ConnectionError> {
        self.shared.cluster.refresh(Topics::Named(topics), false).await
    }

    /// Stops fetching and ends the connections. Positions stay readable.
    pub fn close(&self) {
        self.shared.close();
    }

    /// The runtime that fetching runs on.
    pub fn runtime(&self) -> &Handle {
        self.shared.cluster.runtime()
    }
}

fn partition_count(metadata: &Metadata, topic: &Arc<str>) -> Result<i32, ConsumeError> {
    match metadata.topics.get(topic) {
        Some(known) if !known.partitions.is_empty() => Ok(known.partitions.len() as i32),
        Some(known) if known.error != ErrorCode::None && !known.error.is_retriable() => {
            Err(ConsumeError::Refused { topic: Arc::clone(topic), partition: -1, code: known.error })
        }
        _ => Err(ConsumeError::UnknownTopic { topic: Arc::clone(topic) }),
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}
