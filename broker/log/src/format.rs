//! Names and constants of the disk format. Every file name and magic number is defined here once.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::Offset;

/// Suffix of a file of batches.
pub(crate) const SEGMENT_SUFFIX: &str = ".log";
/// Suffix of a segment's derived index.
pub(crate) const INDEX_SUFFIX: &str = ".index";
/// Suffix of an index while it is written; a startup removes it.
pub(crate) const UNFINISHED_INDEX_SUFFIX: &str = ".index.tmp";
/// Suffix of a segment under construction that will replace others; a startup removes it.
pub(crate) const STAGED_SUFFIX: &str = ".staged";
/// Suffix of a segment that replaces others; its name tells which range it replaces.
pub(crate) const SWAP_SUFFIX: &str = ".swap";
/// Suffix of a file of journal frames.
pub(crate) const JOURNAL_SUFFIX: &str = ".journal";
/// Identity, options and epochs of a partition.
pub(crate) const META_FILE: &str = "partition.meta";
/// The persisted durable offset of a partition.
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";
/// How far a partition is compacted.
pub(crate) const CLEAN_FILE: &str = "cleaned";
/// Held with `flock` while a process uses the directory.
pub(crate) const LOCK_FILE: &str = "lock";
/// Exists only between a clean shutdown and the first append after it.
pub(crate) const MARKER_FILE: &str = "clean-shutdown";
/// Partitions under construction; a startup removes them. A crash leaves unfinished partitions only here.
pub(crate) const NEW_DIR: &str = ".new";
/// Partitions being deleted.
pub(crate) const TRASH_DIR: &str = ".trash";

/// Smallest preallocation step.
pub(crate) const ALLOCATE_MIN_BYTES: u64 = 64 << 10;
/// Largest preallocation step.
pub(crate) const ALLOCATE_MAX_BYTES: u64 = 16 << 20;

/// A shorter active segment leaves no index file behind: reading the segment is faster than keeping an index.
pub(crate) const INDEX_WORTH_BYTES: u64 = 256 << 10;

/// Positions in the index have 32 bits; offsets relative to the base have 31 bits in Kafka's own format.
pub(crate) const SEGMENT_MAX_BYTES: u64 = u32::MAX as u64;

/// Layout of `partition.meta`.
pub(crate) const META_VERSION: u32 = 1;
/// Layout of `cleaned`.
pub(crate) const CLEAN_VERSION: u32 = 1;
/// Layout of `clean-shutdown`.
pub(crate) const MARKER_VERSION: u32 = 1;
/// First bytes of a slot of `checkpoint`; the last one is the version of its layout.
pub(crate) const CHECKPOINT_MAGIC: [u8; 8] = *b"OTTLACP\x01";
/// First bytes of `*.index`; the last one is the version of its layout.
pub(crate) const INDEX_MAGIC: [u8; 8] = *b"OTTLAIX\x01";
/// First bytes of a state file; the version of the file's own layout follows.
pub(crate) const STATE_MAGIC: [u8; 8] = *b"OTTLAST1";

/// File name of the segment or index that starts at `base`: twenty digits, so that the names sort like the offsets.
pub(crate) fn segment_file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}{suffix}", base.0)
}

/// The base offset in a file name, if it is exactly a name that [`segment_file_name`] makes.
pub(crate) fn parse_segment_file_name(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}

/// File name of a segment that replaces those from `run.start` up to `run.end`.
pub(crate) fn swap_file_name(run: &Range<Offset>) -> String {
    format!("{:020}-{:020}{SWAP_SUFFIX}", run.start.0, run.end.0)
}

/// The range in a name that [`swap_file_name`] made.
pub(crate) fn parse_swap_file_name(name: &str) -> Option<Range<Offset>> {
    let (start, end) = name.split_once('-')?;
    let start = parse_segment_file_name(start, "")?;
    Some(start..parse_segment_file_name(end, SWAP_SUFFIX)?).filter(|run| run.start < run.end)
}

/// A topic and the index of one of its partitions. As text, `<topic>-<index>`, it is the name of the directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// Name of the topic.
    pub topic: String,
    /// Index of the partition.
    pub index: i32,
}

/// Why a text is not a partition name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Kafka allows 1 to 249 of `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
    #[error(
        "{topic:?} is not a legal topic name: use 1 to 249 characters of a-z A-Z 0-9 . _ -, but not \".\" or \"..\""
    )]
    Topic {
        /// The given value.
        topic: String,
    },
    /// Indexes count from 0.
    #[error("partition index {index} is negative")]
    Index {
        /// The given value.
        index: i32,
    },
    /// Not of the form `<topic>-<index>`.
    #[error("{name:?} is not of the form <topic>-<index>")]
    Shape {
        /// The given value.
        name: String,
    },
}

impl PartitionName {
    /// A checked name: it is safe as the name of a directory.
    pub fn new(topic: impl Into<String>, index: i32) -> Result<Self, NameError> {
        let name = Self { topic: topic.into(), index };
        name.check()?;
        Ok(name)
    }

    /// Checks the name; for names whose fields were set directly.
    pub fn check(&self) -> Result<(), NameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if self.topic.is_empty()
            || self.topic.len() > 249
            || self.topic == "."
            || self.topic == ".."
            || !self.topic.bytes().all(legal)
        {
            return Err(NameError::Topic { topic: self.topic.clone() });
        }
        if self.index < 0 {
            return Err(NameError::Index { index: self.index });
        }
        Ok(())
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl FromStr for PartitionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape = || NameError::Shape { name: text.to_owned() };
        let (topic, index) = text.rsplit_once('-').ok_or_else(shape)?;
        let parsed: i32 = index.parse().map_err(|_| shape())?;
        // One partition has one spelling: `a-01` and `a-+1` are not directories of the log.
        if parsed.to_string() != index {
            return Err(shape());
        }
        Self::new(topic, parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_names_are_one_directory_each() {
        for name in ["a-0", "a--1", "orders-12", "a-b-3", "..a-1", "with.dot_and-dash-7"] {
            assert_eq!(name.parse::<PartitionName>().map(|it| it.to_string()), Ok(name.to_owned()));
        }
        for name in ["a", "a-", "-1", "a-01", "a-+1", ".-0", "..-0", "a/b-0", "lock", ".trash", "a-99999999999"] {
            assert!(name.parse::<PartitionName>().is_err(), "{name}");
        }
    }

    #[test]
    fn segment_names_sort_as_their_offsets() {
        assert_eq!(segment_file_name(Offset(42), SEGMENT_SUFFIX), "00000000000000000042.log");
        assert_eq!(parse_segment_file_name("00000000000000000042.log", SEGMENT_SUFFIX), Some(Offset(42)));
        for wrong in ["42.log", "00000000000000000042.index", "0000000000000000004x.log", "99999999999999999999.log"] {
            assert_eq!(parse_segment_file_name(wrong, SEGMENT_SUFFIX), None);
        }
    }
}
