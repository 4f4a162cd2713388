//! The producer: `send` puts a record into the open batch of its partition and returns at once; a task in the background
//! seals batches, sends them, and settles what the brokers answer.

mod delivery;
mod exchange;
mod seal;
mod sender;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::delivery::{Ack, AckBatch, Delivery, DeliverySink, Placement};
use crate::config::ProducerConfig;
use crate::core::backoff::Backoff;
use crate::core::batch::{Format, ReportTo, Settled};
use crate::core::outbox::{Accepted, Limits, Outbox};
pub use crate::core::record::{Header, ProducerRecord};
use crate::core::trouble::Trouble;
use crate::error::{ConfigError, ProduceError, SendError};
use crate::net::Cluster;

/// Sends records. Cheap to share by reference or in an `Arc`; every method takes `&self`.
///
/// Records still unacknowledged when it is dropped are given up; [`flush`](Self::flush) or [`close`](Self::close) first.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use ottla_client::{Producer, ProducerConfig, ProducerRecord};
///
/// let producer = Producer::new(ProducerConfig::new("127.0.0.1:9092"))?;
/// let delivery = producer.send(&ProducerRecord::new("packages").key(b"bash").value(b"Section: shells")).await?;
/// let placement = delivery.await?;
/// println!("partition {}, offset {:?}", placement.partition, placement.offset);
/// producer.close(std::time::Duration::from_secs(10)).await;
/// # Ok(())
/// # }
/// ```
pub struct Producer {
    shared: Arc<ProducerState>,
}

/// What sender task, response handlers and callers share.
pub(crate) struct ProducerState {
    config: ProducerConfig,
    cluster: Cluster,
    outbox: Mutex<Outbox>,
    /// Rings for the sender task: there is something to do.
    wake: Notify,
    /// Rings when records were settled: a caller that flushes or waits for space looks again.
    progress: Notify,
    started: Instant,
    closed: AtomicBool,
    /// Records not acknowledged when the producer was closed.
    given_up: AtomicUsize,
    /// An error that no retry cures.
    failed: Mutex<Option<ProduceError>>,
    /// What stands in the way at present.
    trouble: Arc<Trouble>,
    unseen: Mutex<Option<UnseenFailures>>,
}

/// Records that failed unseen: their deliveries had been dropped.
#[derive(Clone, Debug)]
pub struct UnseenFailures {
    /// How many.
    pub records: usize,
    /// What befell the first of them.
    pub first: ProduceError,
}

impl Producer {
    /// Starts a producer. Nothing is connected before the first record. Needs a tokio runtime: the configured one, or the
    /// caller's.
    pub fn new(config: ProducerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let limits = Limits {
            linger_ms: config.linger_ms,
            batch_bytes: config.batch_bytes,
            request_bytes_max: config.request_bytes_max,
            buffer_bytes: config.buffer_bytes,
            delivery_timeout_ms: config.delivery_timeout_ms,
            topic_wait_ms: config.topic_wait_ms,
            retry: Backoff::new(config.client.retry_backoff_ms, config.client.retry_backoff_ms_max),
            format: Format { codec: config.compression, level: config.compression_level },
            idempotent: config.idempotent,
        };
        let trouble = Arc::new(Trouble::default());
        let shared = Arc::new(ProducerState {
            cluster: Cluster::new(config.client.clone())?,
            outbox: Mutex::new(Outbox::new(limits, Arc::clone(&trouble))),
            wake: Notify::new(),
            progress: Notify::new(),
            started: Instant::now(),
            closed: AtomicBool::new(false),
            given_up: AtomicUsize::new(0),
            failed: Mutex::default(),
            trouble,
            unseen: Mutex::default(),
            config,
        });
        shared.cluster.runtime().spawn(sender::run(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Hands over a record. Waits only while the buffer is full; awaiting the [`Delivery`] tells where it went.
    pub async fn send(&self, record: &ProducerRecord<'_>) -> Result<Delivery, SendError> {
        loop {
            let mut space = std::pin::pin!(self.shared.progress.notified());
            space.as_mut().enable();
            match self.try_send(record) {
                Err(SendError::BufferFull { .. }) => space.await,
                other => return other,
            }
        }
    }

    /// [`send`](Self::send) for threads outside any runtime: blocks while the buffer is full, at most for `timeout`.
    pub fn send_blocking(&self, record: &ProducerRecord<'_>, timeout: Duration) -> Result<Delivery, SendError> {
        match self.try_send(record) {
            Err(full @ SendError::BufferFull { .. }) => self
                .runtime()
                .block_on(async { tokio::time::timeout(timeout, self.send(record)).await.unwrap_or(Err(full)) }),
            other => other,
        }
    }

    /// Hands over a record without ever waiting: a full buffer is [`SendError::BufferFull`].
    pub fn try_send(&self, record: &ProducerRecord<'_>) -> Result<Delivery, SendError> {
        let accepted = self.shared.accept(record, ReportTo::Delivery)?;
        accepted.promise.map(Delivery::new).ok_or(SendError::Closed)
    }

    /// Like [`try_send`](Self::try_send), and the configured [`DeliverySink`] hears of it under `token`. The cheapest way
    /// for bindings: no object per record.
    pub fn try_send_ticket(&self, record: &ProducerRecord<'_>, token: u64) -> Result<(), SendError> {
        self.shared.accept(record, ReportTo::Ticket(token)).map(drop)
    }

    /// Like [`try_send`](Self::try_send) for senders that do not want to know what becomes of the record.
    pub fn try_send_unheard(&self, record: &ProducerRecord<'_>) -> Result<(), SendError> {
        self.shared.accept(record, ReportTo::Nothing).map(drop)
    }

    /// Waits until something was settled, so that a full buffer has room again; false after `timeout`.
    pub async fn wait_for_space(&self, timeout: Duration) -> bool {
        let mut space = std::pin::pin!(self.shared.progress.notified());
        space.as_mut().enable();
        if self.buffered_bytes() <= self.shared.config.buffer_bytes / 2 {
            return true;
        }
        tokio::time::timeout(timeout, space).await.is_ok()
    }

    /// Bytes of records handed over and not yet settled.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.outbox().buffered_bytes()
    }

    /// Waits until everything handed over before this call is settled, without lingering. Whether it succeeded is told to
    /// those who sent it.
    pub async fn flush(&self) {
        let mark = self.shared.outbox().flush();
        self.shared.wake.notify_one();
        loop {
            let mut progress = std::pin::pin!(self.shared.progress.notified());
            progress.as_mut().enable();
            if self.shared.outbox().is_flushed(mark) {
                return;
            }
            progress.await;
        }
    }

    /// [`flush`](Self::flush) for threads outside any runtime; false if `timeout` passed first.
    pub fn flush_blocking(&self, timeout: Duration) -> bool {
        self.runtime().block_on(async { tokio::time::timeout(timeout, self.flush()).await.is_ok() })
    }

    /// Takes no more records, waits at most `timeout` for the ones it has, gives up the rest. True if none were given up.
    pub async fn close(&self, timeout: Duration) -> bool {
        self.shared.close();
        let flushed = tokio::time::timeout(timeout, self.flush()).await.is_ok();
        self.shared.stop();
        flushed
    }

    /// [`close`](Self::close) for threads outside any runtime.
    pub fn close_blocking(&self, timeout: Duration) -> bool {
        self.runtime().block_on(self.close(timeout))
    }

    /// Failures since the last call that the program has not seen and cannot see, so that a flush can report them.
    pub fn take_unseen_failures(&self) -> Option<UnseenFailures> {
        self.shared.unseen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The number of partitions of a topic, asked for if it is not known.
    pub async fn partition_count(&self, topic: &str) -> Result<Option<usize>, crate::error::ConnectionError> {
        let count = |metadata: &crate::core::metadata::Metadata| {
            metadata.topics.get(topic).map(|topic| topic.partitions.len()).filter(|count| *count > 0)
        };
        if let Some(known) = count(&self.shared.cluster.metadata()) {
            return Ok(Some(known));
        }
        let topics = [Arc::from(topic)];
        let metadata = self.shared.cluster.refresh(crate::net::Topics::Named(&topics), false).await?;
        Ok(count(&metadata))
    }

    /// What keeps records from being delivered at present: for a flush that takes long, or is given up.
    pub fn trouble(&self) -> &Arc<Trouble> {
        &self.shared.trouble
    }

    /// Records that were given up because the producer was closed or dropped before they were acknowledged.
    pub fn given_up(&self) -> usize {
        self.shared.given_up.load(Ordering::Acquire)
    }

    /// The runtime that the background task runs on.
    pub fn runtime(&self) -> &Handle {
        self.shared.cluster.runtime()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl ProducerState {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since this producer started.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes no more records. Decided under the outbox's lock: a record is refused or gets its answer.
    fn close(&self) {
        self.outbox().close();
        self.closed.store(true, Ordering::Release);
    }

    fn accept(&self, record: &ProducerRecord<'_>, report_to: ReportTo) -> Result<Accepted, SendError> {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let accepted = self.outbox().append(self.now_ms(), wall_ms, record, report_to);
        let wake = match &accepted {
            Ok(accepted) => accepted.wake,
            Err(error) => matches!(error, SendError::BufferFull { .. }),
        };
        if wake {
            self.wake.notify_one();
        }
        match accepted {
            Err(SendError::Closed) => Err(self.failure().map_or(SendError::Closed, SendError::Failed)),
            other => other,
        }
    }

    fn failure(&self) -> Option<ProduceError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the producer with an error that no retry cures.
    fn fail(&self, error: &ProduceError) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        self.close();
        let settled = {
            let mut outbox = self.outbox();
            outbox.fail_all(&|_| error.clone());
            outbox.take_settled()
        };
        self.tell(settled);
    }

    /// Tells all concerned, outside the outbox's lock: sinks and wakers may come back with the next record.
    fn tell(&self, settled: Vec<Settled>) {
        if settled.is_empty() {
            return;
        }
        let mut acks = Vec::new();
        let batches = settled.len();
        for Settled { outcome, records, parties } in settled {
            if let Err(error) = &outcome.result {
                self.note_unseen(parties.unwatched(), error);
                if matches!(error, ProduceError::Closed { .. }) {
                    self.given_up.fetch_add(records, Ordering::AcqRel);
                }
            }
            let tickets = parties.tell(&outcome);
            if !tickets.is_empty() {
                acks.push(AckBatch { outcome, tickets });
            }
        }
        if let Some(sink) = self.config.sink.as_ref().filter(|_| !acks.is_empty()) {
            sink.delivered(acks);
        }
        self.outbox().told(batches);
        self.progress.notify_waiters();
    }

    fn note_unseen(&self, records: usize, error: &ProduceError) {
        if records == 0 {
            return;
        }
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.get_or_insert_with(|| UnseenFailures { records: 0, first: error.clone() }).records += records;
    }

    /// Gives up what is left and lets the background task end.
    fn stop(&self) {
        self.close();
        let settled = {
            let mut outbox = self.outbox();
            outbox.fail_all(&|in_doubt| ProduceError::Closed { in_doubt });
            outbox.take_settled()
        };
        self.tell(settled);
        self.cluster.close();
        self.wake.notify_one();
    }
}
