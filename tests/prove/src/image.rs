//! Log directories in memory, put back in an instant: for tests that open a log thousands of times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{LogDir, LogOptions, Offset, PartitionLog, PartitionName, PartitionOptions};
use tempfile::TempDir;
use uuid::Uuid;

/// The one partition of a directory made here.
pub const PARTITION: &str = "t-0";

/// The files of a directory.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Their contents, by their path within the directory.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A directory in memory where there is one.
pub fn quick_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new().prefix("ottla-prove-").clone();
    let made = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    made.expect("a temporary directory")
}

impl Image {
    /// What `directory` holds.
    pub fn of(directory: &Path) -> Image {
        let mut files = BTreeMap::new();
        let mut open = vec![directory.to_path_buf()];
        while let Some(path) = open.pop() {
            for entry in std::fs::read_dir(&path).expect("a readable directory").flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else if let Ok(name) = entry.path().strip_prefix(directory) {
                    files.insert(name.to_path_buf(), std::fs::read(entry.path()).expect("a readable file"));
                }
            }
        }
        Image { files }
    }

    /// The files below `directory`, which may change meanwhile.
    pub fn names(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.flat_map(|path| if path.is_dir() { Image::names(&path) } else { vec![path] }).collect()
    }

    /// Makes `directory` hold exactly these files.
    pub fn restore(&self, directory: &Path) {
        std::fs::create_dir_all(directory).expect("a directory");
        for path in Image::of(directory).files.into_keys().filter(|path| !self.files.contains_key(path)) {
            std::fs::remove_file(directory.join(path)).expect("a file to remove");
        }
        for (path, bytes) in &self.files {
            let path = directory.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).expect("a directory");
            }
            std::fs::write(path, bytes).expect("a file to write");
        }
    }
}

/// Opens a log directory that persists the durable offset with every flush.
pub fn open(path: &Path) -> LogDir {
    let eager = LogOptions { checkpoint_interval_bytes: 1, ..LogOptions::default() };
    LogDir::open(path, eager).expect("the log opens").0
}

/// The partition of a directory, made if it is not there.
pub fn partition(log: &LogDir, options: PartitionOptions) -> Arc<PartitionLog> {
    let name: PartitionName = PARTITION.parse().expect("a name");
    let made = || log.create_partition(&name, Uuid::from_u128(7), options).expect("a new partition");
    log.partition(&name).unwrap_or_else(made)
}

/// Everything from the start of the log to its end, read as a consumer does.
pub fn read_all(log: &PartitionLog) -> Result<Vec<u8>, String> {
    let (mut bytes, mut offset) = (Vec::new(), log.log_start_offset());
    let end = log.end_offset();
    while offset < end {
        match log.read_batches(offset, 1 << 20, end) {
            Ok(Some((more, range))) => {
                bytes.extend(more);
                offset = range.next_offset;
            }
            Ok(None) => return Err(format!("nothing at offset {} of {}", offset.0, end.0)),
            Err(error) => return Err(format!("offset {}: {error}", offset.0)),
        }
    }
    if offset == end { Ok(bytes) } else { Err(format!("reading ended at {} instead of {}", offset.0, end.0)) }
}

/// Waits until everything appended is durable.
pub fn settle(log: &PartitionLog) -> Offset {
    log.flush().expect("a disk that syncs")
}
