//! From a frame to a reply: ONE table says which function serves which API; which versions are served is the table of
//! [`ottla_wire::api`]. One file per API beside this one; the head of each says versions, behaviour and what is missing.

mod activate_plugin;
mod alter_configs;
mod alter_partition_reassignments;
mod api_error;
mod api_versions;
mod busy;
mod config_changes;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod coordinated;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_plugin;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_plugins;
mod describe_producers;
mod describe_topic_partitions;
mod described_partition;
mod distinct;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod logger_levels;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operation;
mod produce;
mod push_plugin;
mod push_telemetry;
mod sync_group;
mod topic_settings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use ottla_front::{CloseReason, Peer, Piece, Pool, PoolError, Reply, RequestHead, Response, Service, Taken, Turn, Use};
use ottla_log::canary::{Canary, broken};
use ottla_wire::api::Audience;
use ottla_wire::{ApiKey, ApiVersion, Message, decode_request, split_request};

use self::operation::Operation;
use crate::broker::Broker;
use crate::pools::Pools;

/// From this size on the answer to a request is made on a thread of its own.
const LARGE_REQUEST_BYTES: usize = 32 << 10;
/// Memory that a large answer takes in the making, about.
const LARGE_ANSWER_BYTES: usize = 8 << 20;
/// Memory that a search by time takes: what the log unpacks of one batch.
const SEARCH_BYTES: usize = 64 << 20;
/// Memory that a push of metrics takes while it is read, about.
const TELEMETRY_BYTES: usize = 4 << 20;
/// How long work waits for its memory on the thread that will do it.
const WORK_PATIENCE: Duration = Duration::from_secs(5);

/// The body of a request, without its header. Handlers own it: produce assigns offsets in place.
pub(crate) type Frame = BytesMut;

/// Makes the answer to a request.
type Respond = fn(&Arc<Broker>, &Arc<Peer>, RequestHead, &[u8]) -> Result<Response, CloseReason>;
/// The same where it can be made without waiting; none where it cannot.
type RespondNow = fn(&Arc<Broker>, &Arc<Peer>, RequestHead, &[u8]) -> Result<Option<Response>, CloseReason>;
/// Whether the answer to a request is a large one.
type IsLarge = fn(&Broker, RequestHead, &[u8]) -> bool;
/// A future that makes the answer, first polled when the answers to all earlier requests have left.
type Begin = fn(&Arc<Broker>, &Arc<Peer>, RequestHead, &[u8]) -> Result<Answer, CloseReason>;
type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// How an API is served.
struct Row {
    /// What the client must be allowed to do; none for what every client may.
    operation: Option<Operation>,
    answers: Answers,
    /// Which pool does what is not done on the thread of the connection.
    pool: fn(&Pools) -> &Arc<Pool>,
    /// Memory that the work takes while it is done.
    work_bytes: usize,
    /// Whether the answer is so large that a thread of its own makes it.
    is_large: Option<IsLarge>,
    /// No further request of the connection is handled before the answer is there, because the request changes what they
    /// would see: topics, settings, plugins.
    exclusive: bool,
}

/// When and where the answer to a request is made.
enum Answers {
    /// On the thread that serves the connection, without waiting for a disk or a plugin.
    Now(Respond),
    /// On a thread of a pool, which may wait.
    Blocking(Respond),
    /// Like `Now` where that can be, otherwise like `Blocking`.
    NowOrBlocking(RespondNow, Respond),
    /// By a future that waits for something to happen.
    Later(Begin),
    /// Together with the requests of the same kind in its turn.
    Joined,
}

/// The table.
const fn row(key: ApiKey) -> Row {
    use self::Answers::{Blocking, Joined, Later, Now, NowOrBlocking};
    use self::Operation::{
        Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write,
    };
    match key {
        ApiKey::ApiVersions => Row::everyone(Now(api_versions::respond)),
        ApiKey::Produce => Row::of(Write, Joined),
        ApiKey::Fetch => Row::of(Read, Later(fetch::begin)),
        ApiKey::ListOffsets => Row::of(Describe, NowOrBlocking(list_offsets::respond_now, list_offsets::respond))
            .pool(|pools| &pools.searches)
            .work_bytes(SEARCH_BYTES),
        ApiKey::Metadata => Row::of(Describe, NowOrBlocking(metadata::respond_now, metadata::respond))
            .large_if(metadata::is_large)
            .exclusive(),
        ApiKey::OffsetCommit => Row::of(Read, Later(offset_commit::begin)),
        ApiKey::OffsetFetch => Row::of(Describe, Now(offset_fetch::respond)),
        ApiKey::FindCoordinator => {
            Row::of(Describe, NowOrBlocking(find_coordinator::respond_now, find_coordinator::respond))
        }
        ApiKey::JoinGroup => Row::of(Read, Later(join_group::begin)),
        ApiKey::Heartbeat => Row::of(Read, Later(heartbeat::begin)),
        ApiKey::LeaveGroup => Row::of(Read, Later(leave_group::begin)),
        ApiKey::SyncGroup => Row::of(Read, Later(sync_group::begin)),
        ApiKey::DescribeGroups => Row::of(Describe, Now(describe_groups::respond)),
        ApiKey::ListGroups => Row::of(Describe, Now(list_groups::respond)),
        ApiKey::CreateTopics => Row::of(Create, Blocking(create_topics::respond)).exclusive(),
        ApiKey::CreatePartitions => Row::of(Alter, Blocking(create_partitions::respond)).exclusive(),
        ApiKey::DeleteTopics => Row::of(Delete, Blocking(delete_topics::respond)).exclusive(),
        ApiKey::DeleteRecords => {
            Row::of(Delete, Blocking(delete_records::respond)).pool(|pools| &pools.deletions).exclusive()
        }
        ApiKey::InitProducerId => {
            Row::of(IdempotentWrite, NowOrBlocking(init_producer_id::respond_now, init_producer_id::respond))
                .pool(|pools| &pools.ids)
        }
        ApiKey::OffsetForLeaderEpoch => Row::of(Describe, Now(offset_for_leader_epoch::respond)),
        ApiKey::DescribeConfigs => Row::of(DescribeConfigs, Now(describe_configs::respond)),
        ApiKey::DescribeCluster => Row::of(Describe, Now(describe_cluster::respond)),
        ApiKey::DescribeTopicPartitions => Row::of(Describe, Now(describe_topic_partitions::respond)),
        ApiKey::DescribeProducers => Row::of(Read, Blocking(describe_producers::respond)).pool(|pools| &pools.answers),
        ApiKey::ElectLeaders => Row::of(Alter, Now(elect_leaders::respond)),
        ApiKey::AlterPartitionReassignments => Row::of(Alter, Now(alter_partition_reassignments::respond)),
        ApiKey::ListPartitionReassignments => Row::of(Describe, Now(list_partition_reassignments::respond)),
        ApiKey::DescribeLogDirs => Row::of(Describe, Blocking(describe_log_dirs::respond)).pool(|pools| &pools.answers),
        ApiKey::DeleteGroups => Row::of(Delete, Later(delete_groups::begin)),
        ApiKey::OffsetDelete => Row::of(Delete, Later(offset_delete::begin)),
        ApiKey::ConsumerGroupHeartbeat => Row::of(Read, Later(consumer_group_heartbeat::begin)),
        ApiKey::ConsumerGroupDescribe => Row::of(Describe, Now(consumer_group_describe::respond)),
        ApiKey::AlterConfigs => Row::of(AlterConfigs, Blocking(alter_configs::respond)).exclusive(),
        ApiKey::IncrementalAlterConfigs => {
            Row::of(AlterConfigs, Blocking(incremental_alter_configs::respond)).exclusive()
        }
        ApiKey::PushPlugin => Row::of(Alter, Blocking(push_plugin::respond)).pool(|pools| &pools.uploads).exclusive(),
        ApiKey::DescribePlugins => Row::of(Describe, Now(describe_plugins::respond)),
        ApiKey::ActivatePlugin => Row::of(Alter, Blocking(activate_plugin::respond)).exclusive(),
        ApiKey::DeletePlugin => Row::of(Alter, Blocking(delete_plugin::respond)).exclusive(),
        ApiKey::GetTelemetrySubscriptions => Row::of(Describe, Now(get_telemetry_subscriptions::respond)),
        ApiKey::PushTelemetry => {
            Row::of(Write, Blocking(push_telemetry::respond)).pool(|pools| &pools.answers).work_bytes(TELEMETRY_BYTES)
        }
        ApiKey::ListConfigResources => Row::of(DescribeConfigs, Now(list_config_resources::respond)),
    }
}

impl Row {
    const fn everyone(answers: Answers) -> Self {
        Self { operation: None, answers, pool: |pools| &pools.admin, work_bytes: 0, is_large: None, exclusive: false }
    }

    const fn of(operation: Operation, answers: Answers) -> Self {
        Self { operation: Some(operation), ..Self::everyone(answers) }
    }

    const fn pool(self, pool: fn(&Pools) -> &Arc<Pool>) -> Self {
        Self { pool, ..self }
    }

    const fn work_bytes(self, work_bytes: usize) -> Self {
        Self { work_bytes, ..self }
    }

    const fn large_if(self, is_large: IsLarge) -> Self {
        Self { is_large: Some(is_large), ..self }
    }

    const fn exclusive(self) -> Self {
        Self { exclusive: true, ..self }
    }
}

/// Produce requests that follow each other in one turn go to the log together; each other request is handled by itself.
impl Service for Broker {
    type Joined = produce::Joined;

    fn take(self: &Arc<Self>, peer: &Arc<Peer>, frame: BytesMut, turn: &mut Turn<produce::Joined>) {
        let request = Taken::at(turn.begun(), frame.len());
        let (head, row, body) = match open(peer, frame) {
            Ok(opened) => opened,
            Err(refused) => {
                self.finish(peer, turn);
                return turn.push(*refused, request);
            }
        };
        let request = request.of_kind(self.metrics.note_request(head.key));
        let Row { answers, pool, work_bytes, is_large, exclusive, operation } = row;
        let (api, bytes) = (head.key.name(), request.bytes);
        tracing::trace!(peer = %peer.addr, api, ?operation, head.version, bytes, "request");
        if !matches!(answers, Answers::Joined) {
            self.finish(peer, turn);
        }
        let blocking = |pool: fn(&Pools) -> &Arc<Pool>, work_bytes, respond: Respond, body: Frame| {
            self.work(pool(&self.pools), work_bytes, peer, head, respond, body)
        };
        let large =
            || body.len() >= LARGE_REQUEST_BYTES || is_large.is_some_and(|is_large| is_large(self, head, &body));
        let large = large() && !broken(Canary::TurnWithoutEnd);
        let reply = match answers {
            Answers::Joined => {
                if !turn.join(body.len()).add(self, head, request, body) {
                    self.finish(peer, turn);
                }
                return;
            }
            Answers::Now(respond) | Answers::NowOrBlocking(_, respond) if large => {
                blocking(|pools| &pools.answers, LARGE_ANSWER_BYTES, respond, body)
            }
            Answers::Now(respond) => respond(self, peer, head, &body).into(),
            Answers::Blocking(respond) => blocking(pool, work_bytes, respond, body),
            Answers::NowOrBlocking(now, respond) => match now(self, peer, head, &body) {
                Ok(Some(response)) => response.into(),
                Ok(None) => blocking(pool, work_bytes, respond, body),
                Err(reason) => reason.into(),
            },
            Answers::Later(begin) => match begin(self, peer, head, &body) {
                Ok(answer) => Reply::Later(answer),
                Err(reason) => reason.into(),
            },
        };
        turn.push(if exclusive { reply.exclusive() } else { reply }, request);
    }

    fn finish(self: &Arc<Self>, peer: &Arc<Peer>, turn: &mut Turn<produce::Joined>) {
        if let Some(joined) = turn.take_joined() {
            for (reply, request) in joined.send(self, peer) {
                turn.push(reply, request);
            }
        }
    }

    fn answered(&self, kind: usize, took: Duration) {
        self.metrics.note_answer(kind, took);
    }
}

impl Broker {
    /// Makes an answer on a thread of `pool`, when its turn has come and there is memory for the work.
    fn work(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        work_bytes: usize,
        peer: &Arc<Peer>,
        head: RequestHead,
        respond: Respond,
        body: Frame,
    ) -> Reply {
        let (broker, peer, body) = (Arc::clone(self), Arc::clone(peer), body.freeze());
        let (refusing, refused_body, name) = (Arc::clone(self), body.clone(), pool.name());
        let work = move || {
            let charge = broker.memory.take_patiently(Use::Work, work_bytes, WORK_PATIENCE);
            match charge {
                Some(_held) => respond(&broker, &peer, head, &body).into(),
                None => busy::busy(&broker, head, &body, PoolError::OutOfMemory { name, bytes: work_bytes }),
            }
        };
        Reply::pooled(pool, work, move |error| busy::busy(&refusing, head, &refused_body, error))
    }
}

/// Reads the header of a frame. What no handler gets to see has its reply at once.
fn open(peer: &Peer, mut frame: BytesMut) -> Result<(RequestHead, Row, Frame), Box<Reply>> {
    let refuse = |reason: CloseReason| Err(Box::new(reason.into()));
    let (head, row, served, body_bytes) = match split_request(&frame) {
        Ok((header, body)) => {
            if let Some(client_id) = &header.client_id {
                peer.name_client(client_id);
            }
            let offered =
                |key: &ApiKey| key.api().is_served() && (key.api().audience == Audience::Everyone || peer.is_ottla());
            let Some((key, row)) = header.key().filter(offered).map(|key| (key, row(key))) else {
                return refuse(CloseReason::UnknownApi(header.api_key));
            };
            let head = RequestHead { key, version: header.api_version, correlation_id: header.correlation_id };
            (head, row, key.api().served.contains(header.api_version), body.len())
        }
        Err(error) => return refuse(CloseReason::Undecodable(error)),
    };
    if !served {
        // A client that knows newer versions than the broker finds out with this request; all others had a chance to.
        return match head.key {
            ApiKey::ApiVersions => Err(Box::new(api_versions::unsupported(head).into())),
            key => refuse(CloseReason::UnsupportedVersion { api: key.name(), version: head.version }),
        };
    }
    frame.advance(frame.len() - body_bytes);
    Ok((head, row, frame))
}

/// The body as a message; what does not decode closes the connection.
fn decoded<'a, M: Message<'a>>(head: RequestHead, frame: &'a [u8]) -> Result<M, CloseReason> {
    Ok(decode_request(ApiVersion(head.version), frame)?)
}
