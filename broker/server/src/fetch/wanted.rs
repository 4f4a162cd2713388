//! What a fetch asks for, read once from its request and kept for as long as it waits.

use ottla_wire::message::{FetchPartition, FetchRequest};
use ottla_wire::{ErrorCode, Uuid};

/// What is wanted of the log, whatever asked for it.
#[derive(Debug)]
pub struct Wanted {
    /// By topic, in the order in which they are served.
    pub topics: Vec<WantedTopic>,
    /// Bytes that must be there before the answer is worth sending.
    pub bytes_min: u32,
    /// Most bytes of the answer; the first batch may be larger (KIP-74).
    pub bytes_max: u32,
}

/// A topic and what is wanted of it.
#[derive(Debug)]
pub struct WantedTopic {
    /// Which.
    pub topic: TopicRef,
    /// Its partitions, each with the offset to begin at and its own limit.
    pub partitions: Vec<FetchPartition>,
}

/// A topic as a client names it.
#[derive(Debug)]
pub enum TopicRef {
    /// By name, up to version 12.
    Name(String),
    /// By id, from version 13 on (KIP-516).
    Id(Uuid),
}

impl Wanted {
    /// What `request` of `version` wants.
    pub fn of(version: i16, request: FetchRequest<'_>) -> Self {
        let topics = request.topics.into_iter().map(|wanted| WantedTopic {
            topic: if version >= 13 {
                TopicRef::Id(wanted.topic_id)
            } else {
                TopicRef::Name(wanted.topic.into_owned())
            },
            partitions: wanted.partitions,
        });
        Self {
            topics: topics.collect(),
            bytes_min: request.min_bytes.max(0) as u32,
            bytes_max: request.max_bytes.max(0) as u32,
        }
    }
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

    /// What a client is told where there is no such topic.
    pub fn unknown(&self) -> ErrorCode {
        match self {
            Self::Name(_) => ErrorCode::UnknownTopicOrPartition,
            Self::Id(_) => ErrorCode::UnknownTopicId,
        }
    }
}
