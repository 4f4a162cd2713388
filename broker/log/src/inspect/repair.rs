//! The only repair: cuts off an end that was never acknowledged.
//!
//! The cut is above the persisted durable offset of an `fsync` partition and starts with a batch that cannot be read.
//! The next start of a broker would cut it off too; here the user can look at it first. Below the durable offset the
//! repair changes nothing: damage there stays where it is, and reads of it answer an error. The repair does not touch a
//! `page-cache` partition, because acknowledged records may be anywhere in it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::files::{InspectError, PartitionFiles, disk};
use super::walk::{Found, SegmentReader};
use crate::error::OpenError;
use crate::format::{INDEX_SUFFIX, META_FILE, META_VERSION, PartitionName, SEGMENT_SUFFIX, segment_file_name};
use crate::log_dir::take_lock;
use crate::options::Durability;
use crate::state_file::{StateFile, StateWriteError};
use crate::{LeaderEpoch, Offset};

/// Why nothing was repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A broker or another repair uses the directory, or it cannot be locked.
    #[error(transparent)]
    Lock(#[from] OpenError),
    /// A file cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The log has changed since the plan was made.
    #[error("{name} has changed since the plan was made")]
    Changed {
        /// The partition.
        name: PartitionName,
    },
    /// The new leader epoch was not written; nothing was cut.
    #[error(transparent)]
    Epoch(#[from] StateWriteError),
    /// A system call failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

/// An end that can be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The directory of the partition.
    pub directory: PathBuf,
    /// The partition.
    pub name: PartitionName,
    /// Everything below it is synced, and the repair does not change it.
    pub durable: Offset,
    /// The offset at which the log ends after the cut.
    pub end: Offset,
    /// The last segment after the cut, by its first offset.
    pub segment: Offset,
    /// The length of that segment after the cut.
    pub position: u64,
    /// Bytes that are cut off, including later segments.
    pub bytes: u64,
    /// Later segments; they are removed.
    pub later_segments: Vec<Offset>,
    /// Sound batches that are cut off: they follow a bad one.
    pub sound_batches: u64,
}

/// The plan for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairPlan {
    /// No repair is needed.
    Nothing,
    /// This end can be cut off.
    Cut(Cut),
    /// The end may have been acknowledged, so the repair does not touch it.
    Unprovable {
        /// The partition.
        name: PartitionName,
        /// The reason.
        reason: &'static str,
    },
}

/// A log directory that is locked for a repair: no broker can start on it meanwhile.
#[derive(Debug)]
pub struct Repair {
    directory: PathBuf,
    /// Released when it is closed.
    _lock: File,
}

impl Repair {
    /// Locks a log directory; fails if another process uses it.
    pub fn lock(log_directory: &Path) -> Result<Self, RepairError> {
        if !log_directory.is_dir() {
            return Err(InspectError::NoDirectory { path: log_directory.to_path_buf() }.into());
        }
        Ok(Self { directory: log_directory.to_path_buf(), _lock: take_lock(log_directory)? })
    }

    /// Finds out what can be repaired in a partition of this directory.
    pub fn plan(&self, name: &PartitionName) -> Result<RepairPlan, RepairError> {
        let files = PartitionFiles::open(&self.directory.join(name.to_string()))?;
        let durable = files.durable_offset();
        let first = files.segments.partition_point(|base| *base <= durable).saturating_sub(1);
        for (at, base) in files.segments.iter().enumerate().skip(first) {
            let failed = |source| RepairError::Io { path: files.directory.clone(), source };
            let Some(reader) = SegmentReader::open(&files, *base).map_err(failed)? else { continue };
            let mut unfinished = None;
            let walked = reader.walk(|found| {
                if let Found::Unfinished { offset, position, bytes, batches } = found {
                    unfinished = Some((offset, position, bytes, batches));
                }
                ControlFlow::Continue(())
            });
            walked.map_err(failed)?;
            if let Some(found) = unfinished {
                return cut_at(&files, at, found);
            }
        }
        Ok(RepairPlan::Nothing)
    }

    /// Carries out a plan: first a new leader epoch, so that clients which saw the end notice, then the cut; all of it
    /// synced. After a crash in between, the next start or another repair reaches the same result.
    pub fn apply(&self, cut: &Cut) -> Result<(), RepairError> {
        if self.plan(&cut.name)? != RepairPlan::Cut(cut.clone()) {
            return Err(RepairError::Changed { name: cut.name.clone() });
        }
        let files = PartitionFiles::open(&cut.directory)?;
        let Some(mut meta) = files.meta.clone() else {
            return Err(RepairError::Changed { name: cut.name.clone() });
        };
        let latest = meta.epochs.latest().map_or(0, |epoch| epoch.0.saturating_add(1));
        meta.epochs.begin(LeaderEpoch(latest), cut.end);
        StateFile::new(cut.directory.join(META_FILE), META_VERSION).write(&meta.encode())?;
        let disk = disk();
        let path = cut.directory.join(segment_file_name(cut.segment, SEGMENT_SUFFIX));
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RepairError::Io { path, source }
        };
        // From the last segment to the first: a crash must not leave a hole in the middle.
        for base in cut.later_segments.iter().rev() {
            for suffix in [SEGMENT_SUFFIX, INDEX_SUFFIX] {
                let path = cut.directory.join(segment_file_name(*base, suffix));
                disk.remove_file(&path).map_err(failed(&path))?;
            }
        }
        let file = File::options().write(true).open(&path).map_err(failed(&path))?;
        disk.set_len(&file, cut.position).map_err(failed(&path))?;
        disk.sync_path(&path).map_err(failed(&path))?;
        disk.sync_dir(&cut.directory).map_err(failed(&cut.directory))
    }
}

/// The cut for unfinished bytes in the segment at index `at`.
fn cut_at(
    files: &PartitionFiles,
    at: usize,
    (end, position, bytes, sound_batches): (Offset, u64, u64, u64),
) -> Result<RepairPlan, RepairError> {
    let name = files.name.clone();
    let unprovable = |reason| Ok(RepairPlan::Unprovable { name: files.name.clone(), reason });
    let Some(meta) = &files.meta else {
        return unprovable("its partition.meta cannot be read, so its durability is not known");
    };
    if meta.options.durability != Durability::Fsync {
        return unprovable("it is a page-cache partition, which acknowledges before it syncs");
    }
    let Some(checkpoint) = files.checkpoint else {
        return unprovable("it has no checkpoint, so its durable offset is not known");
    };
    let segment = files.segments.get(at).copied().unwrap_or_default();
    if !files.swaps.is_empty() {
        return unprovable("a start has to finish a replacement of its segments first");
    }
    let below_durable = end < checkpoint.durable
        || (checkpoint.active_base == segment
            && checkpoint.active_bytes != u64::MAX
            && position < checkpoint.active_bytes);
    if below_durable {
        return unprovable("it ends below its durable offset");
    }
    let later_segments: Vec<Offset> = files.segments.get(at + 1..).unwrap_or_default().to_vec();
    let mut cut_bytes = bytes;
    let mut sound = sound_batches;
    for base in &later_segments {
        let failed = |source| RepairError::Io { path: files.directory.clone(), source };
        if let Some(reader) = SegmentReader::open(files, *base).map_err(failed)? {
            cut_bytes += reader.file_bytes;
            let counted = reader.walk(|found| {
                sound += match found {
                    Found::Batch { .. } => 1,
                    Found::Unfinished { batches, .. } => batches,
                    _ => 0,
                };
                ControlFlow::Continue(())
            });
            counted.map_err(failed)?;
        }
    }
    Ok(RepairPlan::Cut(Cut {
        directory: files.directory.clone(),
        name,
        durable: checkpoint.durable,
        end,
        segment,
        position,
        bytes: cut_bytes,
        later_segments,
        sound_batches: sound,
    }))
}
