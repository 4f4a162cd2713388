//! Why topics were not opened, or one of them not changed.

use super::name::TopicNameError;
use crate::meta::MetaError;

/// What a topic was found in when the broker started.
#[derive(Debug, thiserror::Error)]
pub enum TopicsOpenError {
    /// The metadata cannot be read, or a deletion cannot be finished.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A partition cannot be opened.
    #[error("cannot open topic {topic}: {wrong}")]
    Partition {
        /// The topic.
        topic: String,
        /// What is wrong.
        wrong: String,
    },
}

/// Why a topic was not created, altered or deleted.
#[derive(Debug, thiserror::Error)]
pub enum TopicChangeError {
    /// There is one of this name.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// A name that differs only in dots and underscores would get the same metrics; Kafka refuses that.
    #[error("Topic '{name}' collides with existing topic: {with}")]
    Collides {
        /// The new name.
        name: String,
        /// The one that exists.
        with: String,
    },
    /// One of this name is being deleted.
    #[error("Topic '{0}' is being deleted; part of it lies in a log directory that is offline.")]
    Deleting(String),
    /// There is none.
    #[error("This server does not host this topic-partition.")]
    Unknown,
    /// It has as many partitions already, or more.
    #[error("The topic {name} currently has {before} partition(s); {count} would not be an increase.")]
    Fewer {
        /// The topic.
        name: String,
        /// How many it has.
        before: i32,
        /// How many it was to get.
        count: i32,
    },
    /// The name cannot be one.
    #[error("Topic name is invalid: {0}")]
    Name(#[from] TopicNameError),
    /// The metadata could not be written; nothing changed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The log could not make or remove a partition.
    #[error("{0}")]
    Log(String),
    /// There is no room for a partition.
    #[error("{0}")]
    NoSpace(String),
    /// It was being created when an earlier process ended, or a creation could not be taken back yet.
    #[error("Topic '{0}' was half created and the disk is full or failed; it is taken back or completed first.")]
    Unfinished(String),
    /// A defect of the broker.
    #[error("a thread of the broker panicked")]
    Panicked,
}
