//! Produce, versions 3-13 (advertised from 0; 0-2 close the connection).
//!
//! Behaviour: one record batch per partition, checked and appended in the order of arrival; on a topic with a
//! partitioner plugin its records go where the plugin says. acks=1 is answered after the append, acks=all once the
//! records survive what the topic's durability promises, acks=0 never: a failure then ends the connection. Topics come by
//! name, from v13 on by id.
//! Where records left the partition that the client chose, it gets no offset that could be mistaken for one: see
//! [`base_offset_of_moved`].
//! Not supported: transactions (INVALID_TXN_STATE), recompression (batches stay as they were sent).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_front::Taken;
use ottla_wire::message::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, Placement, ProduceRequest, ProduceResponse,
    TopicProduceResponse,
};
use ottla_wire::record::BatchHeader;
use ottla_wire::{ErrorCode, Offset, Str, Uuid};
use tokio::time::{Instant, timeout_at};

use super::{CloseReason, Frame, Peer, Reply, RequestHead, Response, Use, WORK_PATIENCE, decoded};
use crate::broker::Broker;
use crate::clock;
use crate::config::TopicSettings;
use crate::partition::check::{Rules, check_batch, unpacks};
use crate::partition::{Landed, Moved, Partition, PartitionOffline, Place, Refusal, Target};
use crate::route::{Submission, Submitted};
use crate::topics::{Topic, TopicTable};

/// Clients that report an offset below zero as "unknown" only if it is this one.
const CLIENTS_OF_MINUS_ONE: [&str; 2] = ["apache-kafka-java", "kafka-python"];
/// The first version that names topics by id (KIP-516).
const TOPIC_IDS_VERSION_MIN: i16 = 13;
/// The first version whose answers have tagged fields, and with them room for placements.
const TAGS_VERSION_MIN: i16 = 9;

/// Produce requests that arrived together on one connection. Each is checked as it is added and answered by itself; what
/// they have for the same partition goes to the log together.
#[derive(Default)]
pub struct Joined {
    requests: Vec<JoinedRequest>,
    batches: Vec<Submission>,
}

struct JoinedRequest {
    head: RequestHead,
    request: Taken,
    accepted: Accepted,
}

/// What became of a request when it was read.
enum Accepted {
    /// Its batches are checked.
    Checked(Produced),
    /// Its batches have to be unpacked, which is not done on the thread of a connection.
    Unpacks(Box<Surveyed>),
    /// The connection ends with it.
    Ends(CloseReason),
}

impl Joined {
    /// Reads and checks a request. False when it is the last one that is joined.
    pub(super) fn add(&mut self, broker: &Broker, head: RequestHead, request: Taken, frame: Frame) -> bool {
        let accepted = match survey(broker, head, frame) {
            Ok(surveyed) if surveyed.unpacks(broker, head) => Accepted::Unpacks(Box::new(surveyed)),
            Ok(surveyed) => Accepted::Checked(surveyed.check(broker, head, &mut self.batches)),
            Err(reason) => Accepted::Ends(reason),
        };
        let goes_on = matches!(accepted, Accepted::Checked(_));
        self.requests.push(JoinedRequest { head, request, accepted });
        goes_on
    }

    /// Sends the batches on their way. The reply to each request comes back in turn, with the request.
    pub(super) fn send(self, broker: &Arc<Broker>, peer: &Arc<Peer>) -> impl Iterator<Item = (Reply, Taken)> {
        let mut submitted = broker.router.submit_all(self.batches).into_iter();
        self.requests.into_iter().map(move |JoinedRequest { head, request, accepted }| {
            let reply = match accepted {
                Accepted::Checked(mut produced) => {
                    produced.take_submitted(&mut submitted);
                    produced.reply(broker, peer, head)
                }
                Accepted::Unpacks(surveyed) => surveyed.reply(broker, peer, head),
                Accepted::Ends(reason) => reason.into(),
            };
            (reply, request)
        })
    }
}

/// When the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acks {
    Never,
    Appended,
    Durable,
}

/// A request whose batches are on their way.
struct Produced {
    acks: Acks,
    deadline: Instant,
    topics: Vec<ProducedTopic>,
}

struct ProducedTopic {
    name: String,
    id: Uuid,
    /// As it was found when the request came.
    topic: Option<Arc<Topic>>,
    partitions: Vec<ProducedPartition>,
}

struct ProducedPartition {
    index: i32,
    /// Where its batch was in the frame.
    records: Option<Range<usize>>,
    record_count: i32,
    append_time_ms: i64,
    state: State,
}

/// How far the batch of a partition is.
enum State {
    /// It is the next of the batches that have been checked and not sent yet.
    Checked,
    Submitted(Submitted),
    Settled(Result<Landed, Arc<Refusal>>),
}

impl State {
    fn refused(refusal: Refusal) -> Self {
        Self::Settled(Err(Arc::new(refusal)))
    }
}

/// A request that was read, its batches untouched.
struct Surveyed {
    produced: Produced,
    /// What concerns all of its batches.
    refusal: Option<Refusal>,
    frame: Frame,
    arrived_ms: i64,
}

impl Surveyed {
    /// Whether a batch has to be unpacked to be checked.
    fn unpacks(&self, broker: &Broker, head: RequestHead) -> bool {
        let unpacks = |ProducedTopic { topic, partitions, .. }: &ProducedTopic| {
            let Some(topic) = topic else { return false };
            let rules = self.rules(broker, head, &topic.settings());
            let mut batches = partitions.iter().filter_map(|produced| self.frame.get(produced.records.clone()?));
            batches.any(|batch| unpacks(batch, &rules))
        };
        self.refusal.is_none() && self.produced.topics.iter().any(unpacks)
    }

    fn rules(&self, broker: &Broker, head: RequestHead, settings: &TopicSettings) -> Rules {
        Rules::new(head.version, settings, broker.config.stage_unpacked_bytes_max, self.arrived_ms)
    }

    /// Checks the batches: those that pass are added to `batches`.
    fn check(mut self, broker: &Broker, head: RequestHead, batches: &mut Vec<Submission>) -> Produced {
        let mut topics = std::mem::take(&mut self.produced.topics);
        let mut taken = 0;
        for ProducedTopic { topic, partitions, .. } in &mut topics {
            let settings = topic.as_ref().map(|topic| topic.settings());
            for produced in partitions {
                // The pieces come in the order of the frame: each is cut off its front.
                let batch = produced.records.take().map(|range| {
                    self.frame.advance(range.start - taken);
                    taken = range.end;
                    self.frame.split_to(range.len())
                });
                produced.state = match (&self.refusal, topic.as_ref(), &settings) {
                    (Some(refusal), ..) => State::refused(refusal.clone()),
                    (None, Some(topic), Some(settings)) => {
                        let rules = self.rules(broker, head, settings);
                        produced.append_time_ms = rules.append_time_ms.unwrap_or(-1);
                        match check(topic, settings, &rules, produced, batch) {
                            Ok(submission) => {
                                batches.push(submission);
                                State::Checked
                            }
                            Err(refusal) => State::refused(refusal),
                        }
                    }
                    _ if head.version >= TOPIC_IDS_VERSION_MIN => State::refused(Refusal::UnknownTopicId),
                    _ => State::refused(Refusal::UnknownPartition),
                };
            }
        }
        Produced { topics, ..self.produced }
    }

    /// Checks the batches on a thread for that and sends them on their way. No further request of the connection is
    /// handled before that, so that the order of batches holds; their answers may still be waited for then.
    fn reply(self, broker: &Arc<Broker>, peer: &Arc<Peer>, head: RequestHead) -> Reply {
        let (broker, peer) = (Arc::clone(broker), Arc::clone(peer));
        Reply::Exclusive(Box::pin(async move {
            let checking = Arc::clone(&broker);
            let check = move || {
                let bytes = checking.config.stage_unpacked_bytes_max;
                let charge = checking.memory.take_patiently(Use::Work, bytes, WORK_PATIENCE);
                let refusal = charge.is_none().then_some(Refusal::OutOfMemory);
                let mut batches = Vec::new();
                let surveyed = Self { refusal: self.refusal.or(refusal), ..self };
                (surveyed.check(&checking, head, &mut batches), batches)
            };
            match broker.pools.unpacking.run(check).await {
                Ok((mut produced, batches)) => {
                    produced.take_submitted(&mut broker.router.submit_all(batches).into_iter());
                    produced.reply(&broker, &peer, head)
                }
                Err(error) => CloseReason::Internal(error.to_string()).into(),
            }
        }))
    }
}

/// Reads a request without touching its batches.
fn survey(broker: &Broker, head: RequestHead, frame: Frame) -> Result<Surveyed, CloseReason> {
    let request: ProduceRequest<'_> = decoded(head, &frame)?;
    let (acks, refusal) = match request.acks {
        0 => (Acks::Never, None),
        1 => (Acks::Appended, None),
        -1 => (Acks::Durable, None),
        other => (Acks::Appended, Some(Refusal::UnknownAcks(other))),
    };
    let refusal = refusal.or(request.transactional_id.is_some().then_some(Refusal::Transactional));
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let start = frame.as_ptr() as usize;
    let by_id = head.version >= TOPIC_IDS_VERSION_MIN;
    let topics: Vec<ProducedTopic> = request
        .topic_data
        .into_iter()
        .map(|topic| ProducedTopic {
            topic: if by_id { broker.topics.get_by_id(&topic.topic_id) } else { broker.topics.get(&topic.name) },
            name: topic.name.into_owned(),
            id: topic.topic_id,
            partitions: topic
                .partition_data
                .into_iter()
                .map(|partition| ProducedPartition {
                    index: partition.index,
                    records: partition.records.map(|records| {
                        let from = records.as_ptr() as usize - start;
                        from..from + records.len()
                    }),
                    record_count: 0,
                    append_time_ms: -1,
                    state: State::refused(Refusal::NoBatch),
                })
                .collect(),
        })
        .collect();
    let produced = Produced { acks, deadline: Instant::now() + timeout, topics };
    Ok(Surveyed { produced, refusal, frame, arrived_ms: clock::now_ms() })
}

/// How long a batch that nobody waits for may take to be stored.
const UNACKNOWLEDGED_PATIENCE: Duration = Duration::from_hours(1);

/// Checks one batch.
fn check(
    topic: &Arc<Topic>,
    settings: &Arc<TopicSettings>,
    rules: &Rules,
    produced: &mut ProducedPartition,
    batch: Option<BytesMut>,
) -> Result<Submission, Refusal> {
    let partition = topic.partition(produced.index).ok_or(Refusal::UnknownPartition)?;
    if topic.internal {
        return Err(Refusal::InternalTopic);
    }
    let mut batch = batch.ok_or(Refusal::NoBatch)?;
    let header: BatchHeader = check_batch(&mut batch, rules)?;
    produced.record_count = header.record_count;
    Ok(Submission {
        topic: Arc::clone(topic),
        partition: Arc::clone(partition),
        settings: Arc::clone(settings),
        batch,
        header,
    })
}

impl Produced {
    /// Takes what became of its batches off the front.
    fn take_submitted(&mut self, submitted: &mut impl Iterator<Item = Submitted>) {
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for produced in partitions.filter(|produced| matches!(produced.state, State::Checked)) {
            if let Some(submitted) = submitted.next() {
                produced.state = State::Submitted(submitted);
            }
        }
    }

    fn reply(mut self, broker: &Arc<Broker>, peer: &Arc<Peer>, head: RequestHead) -> Reply {
        if self.settle_at_once(&broker.topics) {
            return self.answer(broker, peer, head);
        }
        let (broker, peer) = (Arc::clone(broker), Arc::clone(peer));
        if self.acks == Acks::Never {
            // Nobody sends it again: it goes its way although its timeout passes or its connection ends.
            self.deadline = Instant::now() + UNACKNOWLEDGED_PATIENCE;
            let settled = tokio::spawn(async move {
                self.settle(&broker.topics).await;
                self.answer(&broker, &peer, head)
            });
            return Reply::later(async move { settled.await.unwrap_or(Reply::Silent) });
        }
        Reply::later(async move {
            self.settle(&broker.topics).await;
            self.answer(&broker, &peer, head)
        })
    }

    /// Settles what needs no waiting; true when that is everything.
    fn settle_at_once(&mut self, topics: &TopicTable) -> bool {
        let acks = self.acks;
        let mut all = true;
        for ProducedTopic { topic, partitions, .. } in &mut self.topics {
            for produced in partitions {
                let settled = match &produced.state {
                    State::Settled(_) => continue,
                    State::Submitted(Submitted::Placed(Ok(Place::Landed(landed)))) => {
                        let due = acks != Acks::Durable || is_durable(topics, topic.as_deref(), produced, landed);
                        due.then(|| Ok(landed.clone()))
                    }
                    State::Submitted(Submitted::Placed(Err(refusal))) => Some(Err(Arc::new(refusal.clone()))),
                    State::Submitted(_) | State::Checked => None,
                };
                match settled {
                    Some(settled) => produced.state = State::Settled(settled),
                    None => all = false,
                }
            }
        }
        all
    }

    /// Waits for everything, up to the deadline of the request.
    async fn settle(&mut self, topics: &TopicTable) {
        let (acks, deadline) = (self.acks, self.deadline);
        for ProducedTopic { topic, partitions, .. } in &mut self.topics {
            for produced in partitions {
                let state = std::mem::replace(&mut produced.state, State::refused(Refusal::TimedOut));
                let submitted = match state {
                    State::Submitted(submitted) => submitted,
                    other @ (State::Settled(_) | State::Checked) => {
                        produced.state = other;
                        continue;
                    }
                };
                let settling = settle_one(topics, topic.as_deref(), produced, submitted, acks);
                if let Ok(settled) = timeout_at(deadline, settling).await {
                    produced.state = State::Settled(settled);
                }
            }
        }
    }

    fn answer(&self, broker: &Broker, peer: &Peer, head: RequestHead) -> Reply {
        for refusal in self.topics.iter().flat_map(|it| &it.partitions).filter_map(ProducedPartition::refusal) {
            broker.metrics.note_error(head.key, refusal.error_code());
            if matches!(refusal, Refusal::DiskFull) {
                broker.metrics.disk_full.inc();
            }
        }
        if self.acks == Acks::Never {
            let failed = self.topics.iter().find_map(|topic| {
                let refusal = topic.partitions.iter().find_map(ProducedPartition::refusal)?;
                let name = topic.topic.as_ref().map_or(topic.name.as_str(), |found| &found.name);
                Some(CloseReason::UnacknowledgedFailure(format!("topic {name}: {refusal}")))
            });
            return failed.map_or(Reply::Silent, Reply::Close);
        }
        let responses = self.topics.iter().map(|topic| TopicProduceResponse {
            name: Str::Borrowed(&topic.name),
            topic_id: topic.id,
            partition_responses: topic
                .partitions
                .iter()
                .map(|produced| partition_response(topic.topic.as_deref(), produced, peer, head))
                .collect(),
        });
        Response::of(head, &ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }).into()
    }
}

impl ProducedPartition {
    fn refusal(&self) -> Option<&Refusal> {
        match &self.state {
            State::Settled(Err(refusal)) => Some(refusal),
            State::Settled(Ok(_)) | State::Submitted(_) | State::Checked => None,
        }
    }
}

/// The partitions in which the records of a batch are, each with the offset behind them.
fn ends(
    topics: &TopicTable,
    topic: Option<&Topic>,
    produced: &ProducedPartition,
    landed: &Landed,
) -> Vec<(Arc<Partition>, Offset)> {
    match landed {
        Landed::Here(base) => {
            let end = base.advance(i64::from(produced.record_count));
            let partition = topic.and_then(|topic| topic.partition(produced.index));
            partition.map(|partition| (Arc::clone(partition), end)).into_iter().collect()
        }
        Landed::Moved(moved) => {
            // What went to another topic that is gone went with it.
            let ends = moved.targets.iter().filter_map(|target| {
                let end = target.base_offset.advance(i64::from(target.records));
                let partition = match topic {
                    Some(topic) if topic.id == target.topic_id => topic.partition(target.partition).cloned(),
                    _ => topics.get_by_id(&target.topic_id)?.partition(target.partition).cloned(),
                };
                Some((partition?, end))
            });
            ends.collect()
        }
        // All of it was appended before anybody could ask for it again.
        Landed::Scattered { topics: scattered } => {
            let topics = scattered.iter().filter_map(|id| topics.get_by_id(id));
            let ends = topics.flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|partition| (Arc::clone(partition), partition.log.end_offset()))
                    .collect::<Vec<_>>()
            });
            ends.collect()
        }
    }
}

fn is_durable(topics: &TopicTable, topic: Option<&Topic>, produced: &ProducedPartition, landed: &Landed) -> bool {
    match (topic.and_then(|topic| topic.partition(produced.index)), landed) {
        (Some(partition), Landed::Here(base)) => {
            partition.watermark.high() >= base.advance(i64::from(produced.record_count))
        }
        _ => ends(topics, topic, produced, landed).iter().all(|(partition, end)| partition.watermark.high() >= *end),
    }
}

async fn settle_one(
    topics: &TopicTable,
    topic: Option<&Topic>,
    produced: &ProducedPartition,
    submitted: Submitted,
    acks: Acks,
) -> Result<Landed, Arc<Refusal>> {
    let place = match submitted {
        Submitted::Placed(placed) => placed,
        Submitted::Staged(staged) => staged.await.unwrap_or(Err(Refusal::Stopping)),
    };
    let landed = match place.map_err(Arc::new)? {
        Place::Landed(landed) => landed,
        Place::Waiting(ticket) => ticket.outcome().await?,
    };
    if acks == Acks::Durable {
        for (partition, end) in ends(topics, topic, produced, &landed) {
            let durable = partition.watermark.wait_for(end).await;
            durable.map_err(|PartitionOffline| Arc::new(offline(&partition)))?;
        }
    }
    Ok(landed)
}

/// Why a partition does not become durable any more.
fn offline(partition: &Partition) -> Refusal {
    match partition.log.offline_reason() {
        Some(reason) => Refusal::Storage(reason),
        None => Refusal::UnknownPartition,
    }
}

fn partition_response<'a>(
    topic: Option<&Topic>,
    produced: &ProducedPartition,
    peer: &Peer,
    head: RequestHead,
) -> PartitionProduceResponse<'a> {
    let log_start_offset =
        topic.and_then(|topic| topic.partition(produced.index)).map_or(-1, |it| it.log.log_start_offset().get());
    let answer = PartitionProduceResponse { index: produced.index, log_start_offset, ..Default::default() };
    match &produced.state {
        State::Settled(Ok(landed)) => {
            let placements = match landed {
                Landed::Moved(moved) if peer.is_ottla() && head.version >= TAGS_VERSION_MIN => placements(topic, moved),
                _ => Vec::new(),
            };
            PartitionProduceResponse {
                base_offset: match landed {
                    Landed::Here(base) => base.get(),
                    Landed::Moved(_) | Landed::Scattered { .. } => base_offset_of_moved(peer, produced.record_count),
                },
                log_append_time_ms: produced.append_time_ms,
                placements,
                ..answer
            }
        }
        State::Settled(Err(refusal)) => refused(refusal, answer),
        // Everything is settled before an answer is made.
        State::Submitted(_) | State::Checked => refused(&Refusal::TimedOut, answer),
    }
}

fn refused<'a>(refusal: &Refusal, answer: PartitionProduceResponse<'a>) -> PartitionProduceResponse<'a> {
    let error_code = refusal.error_code();
    debug_assert_ne!(error_code, ErrorCode::None);
    let record_errors = refusal.record_indexes().into_iter().map(|batch_index| BatchIndexAndErrorMessage {
        batch_index,
        // The message of the batch speaks for each of them.
        batch_index_error_message: None,
    });
    PartitionProduceResponse {
        error_code,
        base_offset: -1,
        record_errors: record_errors.collect(),
        error_message: Some(Str::Owned(refusal.to_string())),
        ..answer
    }
}

/// The base offset that a client is told when records left the partition it chose. Clients compute the offset of each
/// record from it, so it is low enough for all of those to be negative; two clients know -1 alone to mean "unknown".
fn base_offset_of_moved(peer: &Peer, record_count: i32) -> i64 {
    if peer.is_ottla() || CLIENTS_OF_MINUS_ONE.contains(&peer.software_name()) { -1 } else { -i64::from(record_count) }
}

/// Where each record is. A placement names no topic, so there are none where a record left its own.
fn placements(topic: Option<&Topic>, moved: &Moved) -> Vec<Placement> {
    let is_abroad = |target: &Target| topic.is_none_or(|topic| topic.id != target.topic_id);
    if moved.targets.iter().any(is_abroad) {
        return Vec::new();
    }
    let placed = moved.placed_runs().into_iter().map(|run| Placement {
        first_index: run.first_index,
        count: run.records,
        partition: run.partition,
        base_offset: run.base_offset.get(),
    });
    placed.collect()
}
