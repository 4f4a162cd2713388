//! What a fetch asks for, read once from its request and its session, and kept for as long as it waits.

use ottla_coordinator::fetch_session::{Plan, TopicRef, WantedPartition};
use ottla_wire::ErrorCode;
use ottla_wire::message::FetchRequest;

/// What is wanted of the log, for every kind of fetch.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The partitions, in the order in which they take their share of the bytes, as a session or the request has them.
    pub plan: Plan,
    /// Bytes that must be there before the answer is worth sending.
    pub bytes_min: u32,
    /// Most bytes of the answer; the first batch may be larger (KIP-74).
    pub bytes_max: u32,
}

impl Wanted {
    /// What `request` wants of the partitions of `plan`.
    pub(crate) fn of(request: &FetchRequest<'_>, plan: Plan) -> Self {
        Self { plan, bytes_min: request.min_bytes.max(0) as u32, bytes_max: request.max_bytes.max(0) as u32 }
    }

    /// The partitions, each with the offset to begin at and its own limit.
    pub(crate) fn partitions(&self) -> &[WantedPartition] {
        &self.plan.partitions
    }
}

/// What a client is told where there is no such topic.
pub(super) fn unknown(topic: &TopicRef) -> ErrorCode {
    match topic {
        TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
        TopicRef::Id(_) => ErrorCode::UnknownTopicId,
    }
}
