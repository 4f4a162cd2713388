//! What a member wants done and asks of the coordinator, and what comes back.

use std::sync::Arc;

use ottla_wire::{ErrorCode, Uuid};

use crate::core::assignor::{Assignor, Subscription};
use crate::core::topic_partition::TopicPartition;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask; the answer comes back under this number.
    Call(u64, Call),
    /// Find out how many partitions these topics have, or all.
    LookUp(Option<Vec<Arc<str>>>),
    /// The application is to finish with these; then `finished` is called with this number.
    GiveUp(u64, Vec<TopicPartition>),
    /// These belong to another member already.
    Lose(Vec<TopicPartition>),
    /// These may be read from now on.
    Assign(Vec<TopicPartition>),
    /// The application has not polled for too long; the member has left the group until it does.
    TellLate,
    /// The coordinator refuses the member for good.
    Refuse(ErrorCode, Option<Arc<str>>),
    /// The member has left.
    Left,
}

/// A question. All go to the coordinator but the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    FindCoordinator,
    Join { member_id: Arc<str>, protocols: Vec<(Assignor, Vec<u8>)>, reason: &'static str },
    Sync { generation: i32, member_id: Arc<str>, protocol: Arc<str>, shares: Vec<(Arc<str>, Vec<u8>)> },
    Heartbeat { generation: i32, member_id: Arc<str> },
    Leave { member_id: Arc<str>, reason: &'static str },
    Beat(Beat),
}

/// The one request of KIP-848. What is none has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) member_id: Arc<str>,
    pub(crate) epoch: i32,
    pub(crate) topics: Option<Vec<Arc<str>>>,
    pub(crate) owned: Option<Vec<(Uuid, i32)>>,
    /// It says everything, and so is told the whole assignment: the first one, and the first after an answer was lost.
    pub(crate) full: bool,
}

/// What comes back.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Coordinator(i32),
    Joined {
        generation: i32,
        member_id: Arc<str>,
        protocol: Arc<str>,
        leads: Option<Vec<Subscription>>,
        skips: bool,
    },
    Synced(Vec<TopicPartition>),
    /// A heartbeat is in order, or the member has left.
    Done,
    Beat {
        member_id: Option<Arc<str>>,
        epoch: i32,
        interval_ms: u64,
        assignment: Option<Vec<(Uuid, i32)>>,
    },
    /// No. A member that joins may be told its id with that.
    Refused {
        code: ErrorCode,
        message: Option<Arc<str>>,
        member_id: Option<Arc<str>>,
    },
    /// No answer.
    Lost,
}
