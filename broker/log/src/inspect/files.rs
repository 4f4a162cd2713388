//! Finds the partitions of a log directory and reads their small files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::verify::Problem;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::disk::{Disk, RealDisk};
use crate::epochs::EpochHistory;
use crate::format::{
    CHECKPOINT_FILE, META_FILE, META_VERSION, PartitionName, SEGMENT_SUFFIX, parse_segment_file_name,
    parse_swap_file_name, segment_file_name,
};
use crate::options::{Durability, PartitionOptions};
use crate::partition::Meta;
use crate::state_file::{StateFile, StateReadError};
use crate::{LeaderEpoch, Offset};

/// Why a directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no such directory.
    #[error("there is no directory {path}", path = path.display())]
    NoDirectory {
        /// The given path.
        path: PathBuf,
    },
    /// Its name is not that of a partition.
    #[error("{path} is not a partition: its name is not <topic>-<index>", path = path.display())]
    NoPartition {
        /// The given path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl InspectError {
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::NoDirectory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// The content of `partition.meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The topic it belongs to.
    pub topic_id: Uuid,
    /// When its records become visible.
    pub durability: Durability,
    /// How it was configured when it was last written.
    pub options: PartitionOptions,
    /// Leader epochs and where each began.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

/// One partition, as its files describe it.
#[derive(Clone, Debug)]
pub struct PartitionFiles {
    /// Its directory.
    pub directory: PathBuf,
    /// Its name, from the name of the directory.
    pub name: PartitionName,
    /// The content of `partition.meta`, if it is not damaged.
    pub identity: Option<Identity>,
    /// First offset of every segment, in order. A replacement that counts is listed instead of the segments it
    /// replaces.
    pub segments: Vec<Offset>,
    /// The `.swap` files of replacements that count and are not renamed yet, by their first offsets.
    pub(super) swaps: Vec<(Offset, PathBuf)>,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) meta: Option<Meta>,
    /// The problems of the small files.
    pub(super) problems: Vec<Problem>,
}

impl PartitionFiles {
    /// All partitions of a log directory, by name.
    pub fn all(log_directory: &Path) -> Result<Vec<Self>, InspectError> {
        let mut partitions = Vec::new();
        for entry in fs::read_dir(log_directory).map_err(InspectError::at(log_directory))? {
            let entry = entry.map_err(InspectError::at(log_directory))?;
            let named = entry.file_name().to_str().is_some_and(|name| name.parse::<PartitionName>().is_ok());
            if named && entry.path().is_dir() {
                match Self::open(&entry.path()) {
                    // The partition was deleted during the search.
                    Err(InspectError::NoDirectory { .. }) => {}
                    other => partitions.push(other?),
                }
            }
        }
        partitions.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(partitions)
    }

    /// The partition in `directory`.
    pub fn open(directory: &Path) -> Result<Self, InspectError> {
        let name = directory.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let name: PartitionName = name.ok_or_else(|| InspectError::NoPartition { path: directory.to_path_buf() })?;
        let read =
            || CheckpointFile::open(disk(), directory).map(|(_, said)| said).map_err(InspectError::at(directory));
        // The durable offset is read before the list of segments, and the log start afterwards: a log in use may grow
        // and remove segments in between.
        let earlier = read()?;
        let (mut segments, mut runs) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(directory).map_err(InspectError::at(directory))? {
            let entry = entry.map_err(InspectError::at(directory))?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            segments.extend(parse_segment_file_name(file, SEGMENT_SUFFIX));
            runs.extend(parse_swap_file_name(file).map(|run| (run, entry.path())));
        }
        // The next start does the same with them.
        for (run, _) in &runs {
            segments.retain(|base| !run.contains(base));
            segments.push(run.start);
        }
        segments.sort_unstable();
        let swaps = runs.into_iter().map(|(run, path)| (run.start, path)).collect();
        let log_start = read()?.map(|it| it.log_start);
        let checkpoint = earlier.map(|it| Checkpoint { log_start: log_start.unwrap_or(it.log_start), ..it });
        let mut problems = Vec::new();
        let meta = read_meta(directory, &name, &mut problems);
        // A new partition has no checkpoint. A checkpoint file without a sound slot is damaged.
        if checkpoint.is_none() && fs::metadata(directory.join(CHECKPOINT_FILE)).is_ok_and(|file| file.len() > 0) {
            problems.push(Problem::Checkpoint);
        }
        let identity = meta.as_ref().map(|meta| Identity {
            topic_id: meta.topic_id,
            durability: meta.options.durability,
            options: meta.options,
            epochs: meta.epochs.entries().to_vec(),
        });
        let directory = directory.to_path_buf();
        Ok(Self { directory, name, identity, segments, swaps, checkpoint, meta, problems })
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> Offset {
        self.checkpoint.map_or_else(|| self.segments.first().copied().unwrap_or(Offset(0)), |it| it.log_start)
    }

    /// Every batch below it was synced: the durable offset of the checkpoint. Without a checkpoint it is the start of
    /// the last segment, because a segment is closed only after it was synced.
    pub fn durable_offset(&self) -> Offset {
        self.checkpoint.map_or_else(|| self.segments.last().copied().unwrap_or(Offset(0)), |it| it.durable)
    }

    /// The base offset of the segment behind the one at `base`.
    pub fn next_segment(&self, base: Offset) -> Option<Offset> {
        self.segments.get(self.segments.partition_point(|other| *other <= base)).copied()
    }

    /// The file of the segment at `base`, open for reading; `None` if it is gone.
    pub(super) fn open_segment(&self, base: Offset) -> io::Result<Option<(PathBuf, File)>> {
        let swap = self.swap_of(base).map(Path::to_path_buf);
        let named = self.directory.join(segment_file_name(base, SEGMENT_SUFFIX));
        // The `.swap` file may have been renamed since.
        for path in swap.into_iter().chain([named]) {
            match File::open(&path) {
                Ok(file) => return Ok(Some((path, file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The `.swap` file of the segment at `base`, if it is not renamed yet.
    pub(super) fn swap_of(&self, base: Offset) -> Option<&Path> {
        self.swaps.iter().find(|(start, _)| *start == base).map(|(_, path)| path.as_path())
    }

    pub(super) fn epochs(&self) -> EpochHistory {
        self.meta.as_ref().map(|meta| meta.epochs.clone()).unwrap_or_default()
    }
}

fn read_meta(directory: &Path, name: &PartitionName, problems: &mut Vec<Problem>) -> Option<Meta> {
    let path = directory.join(META_FILE);
    let wrong = match StateFile::new(path, META_VERSION).read() {
        Ok(None) => "it is missing".to_owned(),
        Ok(Some(bytes)) => match Meta::decode(&bytes) {
            Some(meta) if meta.name == *name => return Some(meta),
            Some(meta) => format!("it says that this is {}", meta.name),
            None => "its content makes no sense".to_owned(),
        },
        Err(StateReadError::Damaged { .. }) => "neither of its two copies is whole".to_owned(),
        Err(error) => error.to_string(),
    };
    problems.push(Problem::Meta { wrong });
    None
}

/// The disk that the tools read through.
pub(super) fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}
