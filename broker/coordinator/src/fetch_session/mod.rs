//! Fetch sessions (KIP-227): a consumer names its partitions once, and then only what changes; it is answered only what is new.
//!
//! [`FetchSessions::begin`] says which partitions a request means, [`FetchSessions::finish`] which of them are answered. The
//! fetch itself lies between the two and may take as long as it likes: other requests may begin and finish meanwhile.
//!
//! The cache is bounded in sessions and in the partitions of all of them. A request that cannot have a session is answered in
//! full with session id 0, as if sessions did not exist; every client copes with that.

mod cache;
mod session;

use std::sync::Arc;

use ottla_wire::message::{FetchPartition, FetchRequest};
use ottla_wire::{ErrorCode, Uuid};

use cache::Cache;
use session::Session;

/// From this version on, topics are named by their ids.
const TOPIC_IDS_FROM: i16 = 13;
/// No session.
const NO_SESSION: i32 = 0;
/// The epoch of a request that wants a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none.
const FINAL_EPOCH: i32 = -1;
/// No topic has a longer name: a session does not keep one.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The bounds of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchSessionConfig {
    /// The most sessions (`max.incremental.fetch.session.cache.slots`).
    pub slots_max: usize,
    /// The most partitions in all sessions together (`ottla.fetch.session.partitions.max`): about 300 bytes each.
    pub partitions_max: usize,
    /// How long a session is safe from eviction after its creation, and how long it may be unused. Kafka has it fixed.
    pub eviction_ms: i64,
}

impl Default for FetchSessionConfig {
    fn default() -> Self {
        Self { slots_max: 1_000, partitions_max: 200_000, eviction_ms: 120_000 }
    }
}

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// By name, up to version 12.
    Name(Arc<str>),
    /// By id.
    Id(Uuid),
}

/// A partition that a request means, with where to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedPartition {
    /// Its topic.
    pub topic: TopicRef,
    /// What is wanted of it.
    pub partition: FetchPartition,
}

/// What a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The partitions, in the order in which they take their share of the bytes.
    pub partitions: Vec<WantedPartition>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It wants no session, or ends one.
    Sessionless,
    /// It wants a new one.
    Full { has_ids: bool },
    /// It goes on with one.
    Incremental { session_id: i32, next_epoch: i32 },
}

/// What came of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Its error, if any.
    pub error: ErrorCode,
    /// Its high watermark.
    pub high_watermark: i64,
    /// Its first offset.
    pub log_start_offset: i64,
    /// Whether there are records, a diverging epoch, or another replica to read from: what is always told.
    pub has_news: bool,
}

/// How to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The session id.
    pub session_id: i32,
    /// For each partition of the plan, whether it is in the answer.
    pub included: Vec<bool>,
}

/// All fetch sessions of a broker.
#[derive(Debug, Default)]
pub struct FetchSessions {
    cache: Cache,
}

impl TopicRef {
    /// The name, empty where there is none.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Id(_) => "",
        }
    }

    /// The id, nil where there is none.
    pub fn id(&self) -> Uuid {
        match self {
            Self::Name(_) => Uuid::nil(),
            Self::Id(id) => *id,
        }
    }
}

impl Plan {
    /// What a request without a session means.
    pub fn sessionless(version: i16, request: &FetchRequest<'_>) -> Self {
        Self { partitions: wanted(request, version >= TOPIC_IDS_FROM).collect(), kind: Kind::Sessionless }
    }

    /// Whether it wants a new session.
    pub const fn begins_session(&self) -> bool {
        matches!(self.kind, Kind::Full { .. })
    }

    /// Whether partitions without news are left out of the answer, and so need not make it wait.
    pub const fn is_incremental(&self) -> bool {
        matches!(self.kind, Kind::Incremental { .. })
    }
}

impl Answer {
    /// The answer to a plan that gets no session: all of it.
    pub fn without_session(plan: &Plan) -> Self {
        Self { session_id: NO_SESSION, included: vec![true; plan.partitions.len()] }
    }
}

impl FetchSessions {
    /// No sessions yet.
    pub fn new(config: FetchSessionConfig) -> Self {
        Self { cache: Cache::new(config) }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many partitions they have together.
    pub fn partitions(&self) -> usize {
        self.cache.partitions()
    }

    /// How many sessions gave way to others.
    pub fn evictions(&self) -> u64 {
        self.cache.evictions()
    }

    /// Finds out what a request means. The error is one of the whole request: `FETCH_SESSION_ID_NOT_FOUND`,
    /// `INVALID_FETCH_SESSION_EPOCH`, `FETCH_SESSION_TOPIC_ID_ERROR`, or `INVALID_TOPIC_EXCEPTION` for a name that no topic
    /// can have.
    pub fn begin(&mut self, now_ms: i64, version: i16, request: &FetchRequest<'_>) -> Result<Plan, ErrorCode> {
        let has_ids = version >= TOPIC_IDS_FROM;
        let (session_id, epoch) = (request.session_id, request.session_epoch);
        if matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            // A client that starts over, or ends, has no use for its old session.
            self.cache.remove(session_id);
            if epoch == FINAL_EPOCH || names_no_topic(request) {
                return Ok(Plan::sessionless(version, request));
            }
            let mut asked = Session::new(has_ids, now_ms);
            asked.add(wanted(request, has_ids));
            return Ok(Plan { partitions: asked.into_partitions(), kind: Kind::Full { has_ids } });
        }
        let session = self.cache.get(session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.has_ids != has_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if names_no_topic(request) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let (before, next_epoch) = (session.len(), next_epoch(epoch));
        session.add(wanted(request, has_ids));
        session.forget(forgotten(request, has_ids));
        session.epoch = next_epoch;
        let (after, partitions) = (session.len(), session.partitions());
        self.cache.resized(session_id, before, after, now_ms);
        if after == 0 || self.cache.is_overfull() {
            // With the answer the client learns that its session is over.
            self.cache.remove(session_id);
            return Ok(Plan { partitions, kind: Kind::Sessionless });
        }
        Ok(Plan { partitions, kind: Kind::Incremental { session_id, next_epoch } })
    }

    /// Says what to answer, given what came of each partition of the plan, in its order. `fresh` is a random number: the id of
    /// a new session, unless it is taken. The error is `INVALID_FETCH_SESSION_EPOCH` or `FETCH_SESSION_ID_NOT_FOUND` where
    /// the session went on or went away meanwhile.
    pub fn finish(&mut self, now_ms: i64, fresh: i32, plan: &Plan, outcomes: &[Outcome]) -> Result<Answer, ErrorCode> {
        match plan.kind {
            Kind::Sessionless => Ok(Answer::without_session(plan)),
            Kind::Full { has_ids } => {
                let mut session = Session::new(has_ids, now_ms);
                session.add(plan.partitions.iter().cloned());
                for (wanted, outcome) in plan.partitions.iter().zip(outcomes) {
                    session.note(wanted, *outcome);
                }
                let session_id = self.cache.insert(now_ms, fresh, session).unwrap_or(NO_SESSION);
                Ok(Answer { session_id, ..Answer::without_session(plan) })
            }
            Kind::Incremental { session_id, next_epoch } => {
                let session = self.cache.get(session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
                if session.epoch != next_epoch {
                    return Err(ErrorCode::InvalidFetchSessionEpoch);
                }
                let pairs = plan.partitions.iter().zip(outcomes);
                let included = pairs.map(|(wanted, outcome)| session.note(wanted, *outcome)).collect();
                Ok(Answer { session_id, included })
            }
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// Whether a name is longer than a topic's can be.
fn names_no_topic(request: &FetchRequest<'_>) -> bool {
    request.topics.iter().any(|topic| topic.topic.len() > TOPIC_NAME_BYTES_MAX)
}

fn topic_ref(has_ids: bool, name: &str, id: Uuid) -> TopicRef {
    if has_ids { TopicRef::Id(id) } else { TopicRef::Name(name.into()) }
}

fn wanted(request: &FetchRequest<'_>, has_ids: bool) -> impl Iterator<Item = WantedPartition> {
    request.topics.iter().flat_map(move |topic| {
        let name = topic_ref(has_ids, &topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| WantedPartition { topic: name.clone(), partition: *partition })
    })
}

fn forgotten(request: &FetchRequest<'_>, has_ids: bool) -> impl Iterator<Item = (TopicRef, i32)> {
    request.forgotten_topics_data.iter().flat_map(move |topic| {
        let name = topic_ref(has_ids, &topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| (name.clone(), *partition))
    })
}
