//! The consumer: says where to start, or subscribes in a group, and polls batches of records. Fetching goes on in the
//! background, as far as the buffer allows.

mod assignment;
mod commits;
mod fetcher;
mod group;
mod guide;
mod intake;
mod membership;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ottla_wire::ErrorCode;
use tokio::runtime::Handle;

use self::assignment::{ConsumerState, Which};
use self::group::{Group, News};
use crate::config::ConsumerConfig;
pub use crate::core::chunk::{Chunk, Headers, Record, RecordRef, Records, TimestampType};
pub use crate::core::cursor::StartFrom;
use crate::core::member::{Pattern, Wish};
use crate::core::metadata::Metadata;
pub use crate::core::topic_partition::TopicPartition;
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

/// What [`Consumer::next`] returns.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records; none when the time was over.
    Records(Records),
    /// These partitions were given to this member. Their records come after this.
    Assigned(Vec<TopicPartition>),
    /// These partitions go to another member once `next` is called again: the time to finish with their records, and to
    /// commit. No more records of them come.
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to another member already, which begins where was committed: nothing can be committed any
    /// more.
    Lost(Vec<TopicPartition>),
}

impl Default for Event {
    fn default() -> Self {
        Self::Records(Records::default())
    }
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
        let (group, inbox) = config.group.clone().map(Group::new).unzip();
        let group = group.map(Arc::new);
        let shared = Arc::new(ConsumerState::new(config, group.clone())?);
        shared.cluster.runtime().spawn(guide::run(Arc::clone(&shared)));
        if let Some((group, inbox)) = group.zip(inbox) {
            shared.cluster.runtime().spawn(membership::run(Arc::clone(&shared), group, inbox));
        }
        Ok(Self { shared })
    }

    /// Reads these partitions, too. One that is assigned already moves to the new start.
    pub async fn assign(&self, assignments: &[Assignment]) -> Result<(), ConsumeError> {
        self.check_by_hand()?;
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
        self.check_by_hand()?;
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

    /// Reads these topics as a member of the group, which says which partitions of them, and nothing that was subscribed to
    /// before. A topic that does not exist is read once it does. Nothing is waited for: [`next`](Self::next) tells what comes.
    pub fn subscribe<T: AsRef<str>>(&self, topics: &[T]) -> Result<(), ConsumeError> {
        let group = self.group()?;
        group.subscribe(Wish::Topics(topics.iter().map(|topic| topic.as_ref().into()).collect()));
        Ok(())
    }

    /// The same for all topics, now and later, whose whole name matches the regular expression.
    pub fn subscribe_pattern(&self, expression: &str) -> Result<(), ConsumeError> {
        let group = self.group()?;
        let bad = |reason| ConsumeError::BadPattern { expression: expression.to_owned(), reason };
        group.subscribe(Wish::Pattern(Pattern::new(expression).map_err(bad)?));
        Ok(())
    }

    /// Leaves the group, and reads nothing more. With `auto_commit` what was polled is committed first. The error is that of
    /// the commit: the group is left in any case.
    pub async fn unsubscribe(&self, timeout: Duration) -> Result<(), ConsumeError> {
        self.unsubscribe_after(Which::Polled, timeout).await
    }

    async fn unsubscribe_after(&self, which: Which, timeout: Duration) -> Result<(), ConsumeError> {
        let group = self.group()?;
        let deadline = tokio::time::Instant::now() + timeout.min(commits::LONGEST);
        let committed = if group.config.auto_commit && group.is_subscribed() {
            commits::commit(&self.shared, group, self.shared.offsets_to_commit(which), timeout).await
        } else {
            Ok(())
        };
        // Not heard in time: the coordinator finds out when the session ends.
        let _ = tokio::time::timeout_at(deadline, group.leave()).await;
        committed
    }

    /// [`unsubscribe`](Self::unsubscribe), then [`close`](Self::close): the way to end a member of a group. Without a group
    /// only the latter.
    pub async fn leave(&self, timeout: Duration) -> Result<(), ConsumeError> {
        self.leave_after(Which::Polled, timeout).await
    }

    /// The same for an application that failed: what it polled last is not done with, and is not committed.
    pub async fn abandon(&self, timeout: Duration) -> Result<(), ConsumeError> {
        self.leave_after(Which::Done, timeout).await
    }

    async fn leave_after(&self, which: Which, timeout: Duration) -> Result<(), ConsumeError> {
        let left = match &self.shared.group {
            Some(_) if !self.shared.is_closed() => self.unsubscribe_after(which, timeout).await,
            _ => Ok(()),
        };
        self.close();
        left
    }

    /// What comes next: up to `records_max` records, or word that partitions come and go. After `timeout`, no records.
    ///
    /// **What was returned counts as done when this is called again**: `auto_commit` commits records from then on, and a
    /// partition of [`Event::Revoked`] goes to another member from then on.
    ///
    /// An error concerns one partition (which then waits for a [`seek`](Self::seek)), the membership, or the connection
    /// (which is being mended); calling again goes on with the rest. An error is never returned before the records in front
    /// of it.
    pub async fn next(&self, records_max: usize, timeout: Duration) -> Result<Event, ConsumeError> {
        let deadline = tokio::time::Instant::now() + timeout.min(Duration::from_hours(24));
        let _polling = self.shared.group.as_deref().map(Group::begin_poll);
        loop {
            let mut arrival = std::pin::pin!(self.shared.arrival.notified());
            arrival.as_mut().enable();
            if let Some(event) = self.try_next(records_max)? {
                return Ok(event);
            }
            if tokio::time::timeout_at(deadline, arrival).await.is_err() {
                return Ok(self.try_next(records_max)?.unwrap_or_default());
            }
        }
    }

    /// What [`next`](Self::next) would return without waiting; none if there is nothing yet. Never touches the runtime, so
    /// a binding may call it with its own lock held.
    pub fn try_next(&self, records_max: usize) -> Result<Option<Event>, ConsumeError> {
        if self.shared.is_closed() {
            return Err(ConsumeError::Closed);
        }
        let _polling = self.shared.group.as_deref().map(Group::begin_poll);
        if let Some(group) = &self.shared.group {
            self.shared.mark_done();
            match group.next_news() {
                Some(News::Assigned(partitions)) => return Ok(Some(Event::Assigned(partitions))),
                Some(News::Revoked(_, partitions)) => return Ok(Some(Event::Revoked(partitions))),
                Some(News::Lost(partitions)) => return Ok(Some(Event::Lost(partitions))),
                Some(News::Failed(error)) => return Err(error),
                None => {}
            }
        }
        Ok(self.shared.poll(records_max.max(1))?.map(Event::Records))
    }

    /// [`next`](Self::next) for a reader that does not care which partitions it has: up to `records_max` records, as soon as
    /// there are any; none after `timeout`.
    pub async fn poll(&self, records_max: usize, timeout: Duration) -> Result<Records, ConsumeError> {
        let deadline = tokio::time::Instant::now() + timeout.min(Duration::from_hours(24));
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if let Event::Records(records) = self.next(records_max, left).await? {
                return Ok(records);
            }
        }
    }

    /// What [`poll`](Self::poll) would return without waiting; none if there is nothing yet. Never touches the runtime, so
    /// a binding may call it with its own lock held.
    pub fn try_poll(&self, records_max: usize) -> Result<Option<Records>, ConsumeError> {
        loop {
            match self.try_next(records_max)? {
                Some(Event::Records(records)) => return Ok(Some(records)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// What [`try_poll`](Self::try_poll) would return, but nothing while there is word of partitions that come and go: that
    /// waits for [`next`](Self::next).
    pub fn try_records(&self, records_max: usize) -> Result<Option<Records>, ConsumeError> {
        if self.shared.group.as_deref().is_some_and(Group::has_news) {
            return Ok(None);
        }
        match self.try_next(records_max)? {
            Some(Event::Records(records)) => Ok(Some(records)),
            _ => Ok(None),
        }
    }

    /// The positions behind what was polled, as far as the group has not committed them: what [`commit`](Self::commit)
    /// would commit.
    pub fn uncommitted(&self) -> BTreeMap<TopicPartition, i64> {
        self.shared.offsets_to_commit(Which::Polled)
    }

    /// Commits what was polled. Records that the application has not finished with are better committed by offset.
    pub async fn commit(&self, timeout: Duration) -> Result<(), ConsumeError> {
        let group = self.group()?;
        commits::commit(&self.shared, group, self.shared.offsets_to_commit(Which::Polled), timeout).await
    }

    /// The same in the background. What goes wrong is logged: the next commit makes up for it.
    pub fn commit_later(&self) -> Result<(), ConsumeError> {
        self.group()?.commit();
        Ok(())
    }

    /// Commits these offsets, each that of the next record to read.
    pub async fn commit_offsets(
        &self,
        offsets: &BTreeMap<TopicPartition, i64>,
        timeout: Duration,
    ) -> Result<(), ConsumeError> {
        commits::commit(&self.shared, self.group()?, offsets.clone(), timeout).await
    }

    /// What the group has committed of these partitions; nothing for those of which it has not.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, ConsumeError> {
        commits::committed(&self.shared, self.group()?, partitions, timeout).await
    }

    fn group(&self) -> Result<&Group, ConsumeError> {
        if self.shared.is_closed() {
            return Err(ConsumeError::Closed);
        }
        self.shared.group.as_deref().ok_or(ConsumeError::NoGroup)
    }

    fn check_by_hand(&self) -> Result<(), ConsumeError> {
        match &self.shared.group {
            Some(group) if group.is_subscribed() => Err(ConsumeError::Subscribed { group: Arc::clone(&group.id) }),
            _ => Ok(()),
        }
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
