//! One copy of the metadata on the disk, as it is written to.
//!
//! A change goes into space that was filled with zeros before, so that its sync waits for no journal commit of the file
//! system and a full disk refuses a copy only when it grows. A snapshot replaces the file as a whole: written aside, synced,
//! renamed, directory synced.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::Disk;
use uuid::Uuid;

use super::MetaError;
use super::contents::Contents;
use super::frame::{self, Head, Kind, Scan, VERSION};
use super::merge::{Found, FoundCopy};

/// A file grows by so much.
const RESERVE_BYTES: u64 = 64 << 10;
/// A copy is written anew once its changes take more than its snapshot, and more than this.
const CHANGES_BYTES_MIN: u64 = 64 << 10;

/// A copy that is written to.
#[derive(Debug)]
pub(super) struct Copy {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    open: Option<Open>,
}

/// The file of a copy that has every change.
#[derive(Debug)]
struct Open {
    file: File,
    /// The last change in its snapshot, and where that ends in the file.
    snapshot: u64,
    snapshot_end: u64,
    /// Where the next change goes.
    end: u64,
    /// Zeros reach from `end` up to here.
    reserved: u64,
}

/// All contents as the frames of a new file.
#[derive(Debug)]
pub(super) struct Snapshot {
    sequence: u64,
    frames: Vec<u8>,
}

impl Snapshot {
    pub(super) fn of(contents: &Contents, store: Uuid, sequence: u64) -> Result<Self, MetaError> {
        let records = contents.encode()?;
        let head = Head { version: VERSION, store, snapshot: sequence, records: records.len() as u64 };
        let mut frames = head.encode();
        for (number, record) in (0..).zip(&records) {
            frames.extend(frame::encode(Kind::Record, sequence, number, record));
        }
        Ok(Self { sequence, frames })
    }
}

/// Why a copy was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// A start finds all of it or nothing.
    Refused(io::Error),
    /// A sync failed: the system may show what the disk does not have, so nothing is written any more.
    SyncFailed(io::Error),
}

impl WriteError {
    pub(super) fn of(self, path: &Path) -> MetaError {
        let path = path.to_owned();
        match self {
            Self::Refused(source) => MetaError::Write { path, source },
            Self::SyncFailed(error) => {
                MetaError::Closed { reason: format!("a sync of {} failed: {error}", path.display()) }
            }
        }
    }
}

impl Copy {
    /// A copy that has yet to be written as a whole.
    pub(super) fn new(directory: &Path, name: &str, disk: Arc<dyn Disk>) -> Self {
        Self { path: directory.join(name), disk, open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has every change.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it is time to write it anew.
    pub(super) fn is_long(&self) -> bool {
        let is_long = |open: &Open| open.end - open.snapshot_end > open.snapshot_end.max(CHANGES_BYTES_MIN);
        self.open.as_ref().is_some_and(is_long)
    }

    /// Goes on with a file that was found whole.
    pub(super) fn resume(&mut self, scan: &Scan) -> io::Result<()> {
        let Some((snapshot, snapshot_end)) = scan.snapshot_end() else { return Err(io::ErrorKind::InvalidData.into()) };
        let file = self.disk.open(&self.path, true)?;
        let (end, reserved) = (scan.end as u64, scan.file_bytes());
        self.open = Some(Open { file, snapshot, snapshot_end, end, reserved });
        Ok(())
    }

    /// Adds a change, durably. After an error it is no copy until it is written as a whole; where it could not grow it stays
    /// as it was.
    pub(super) fn append(&mut self, number: u64, change: &[u8]) -> Result<(), WriteError> {
        let Some(mut open) = self.open.take() else {
            return Err(WriteError::Refused(io::Error::other("it has to be written as a whole first")));
        };
        let frame = frame::encode(Kind::Change, open.snapshot, number, change);
        let end = open.end + frame.len() as u64;
        if end > open.reserved {
            let target = end.next_multiple_of(RESERVE_BYTES);
            if let Err(error) = fill(&*self.disk, &open.file, open.reserved, target) {
                // Zeros behind the end change nothing.
                self.open = Some(open);
                return Err(WriteError::Refused(error));
            }
            open.reserved = target;
        }
        self.disk.write_at(&open.file, &mut [IoSlice::new(&frame)], open.end).map_err(WriteError::Refused)?;
        self.disk.sync_data(&open.file).map_err(WriteError::SyncFailed)?;
        open.end = end;
        self.open = Some(open);
        Ok(())
    }

    /// Replaces the file by a snapshot, durably, with space for changes. After an error the disk has the old file or the new
    /// one; it is written to again only where no sync failed.
    pub(super) fn rewrite(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let aside = self.path.with_added_extension("tmp");
        let end = snapshot.frames.len() as u64;
        let reserved = (end + RESERVE_BYTES / 2).next_multiple_of(RESERVE_BYTES);
        let write = || {
            let file = self.disk.create(&aside)?;
            self.disk.write_at(&file, &mut [IoSlice::new(&snapshot.frames)], 0)?;
            fill(&*self.disk, &file, end, reserved)?;
            Ok(file)
        };
        let file = write().map_err(|error| {
            // What was written of it would only take room that others need.
            let _ = self.disk.remove_file(&aside);
            WriteError::Refused(error)
        })?;
        if let Err(error) = self.disk.sync_data(&file) {
            self.open = None;
            return Err(WriteError::SyncFailed(error));
        }
        self.disk.rename(&aside, &self.path).map_err(WriteError::Refused)?;
        self.open = None;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.disk.sync_dir(directory).map_err(WriteError::SyncFailed)?;
        self.open = Some(Open { file, snapshot: snapshot.sequence, snapshot_end: end, end, reserved });
        Ok(())
    }
}

fn fill(disk: &dyn Disk, file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; to.saturating_sub(from) as usize];
    disk.write_at(file, &mut [IoSlice::new(&zeros)], from)
}

/// Reads what is at `path`, asking the disk and not the memory of the system.
pub(super) fn find(path: &Path, disk: &dyn Disk) -> FoundCopy {
    let read = || {
        let file = disk.open(path, false)?;
        // After a failed sync the page cache may hold bytes that never reach the disk.
        disk.sync_data(&file)?;
        disk.forget_cached(&file, 0);
        let mut bytes = vec![0; file.metadata()?.len() as usize];
        let length = disk.read_at(&file, &mut bytes, 0)?;
        bytes.truncate(length);
        Ok(bytes)
    };
    FoundCopy::new(path, read())
}

/// Reads what is at `path` as the system shows it: for tools, beside a running broker.
pub(super) fn look(path: &Path) -> FoundCopy {
    FoundCopy::new(path, std::fs::read(path))
}

impl FoundCopy {
    fn new(path: &Path, read: io::Result<Vec<u8>>) -> Self {
        let found = match read {
            Ok(bytes) => Found::Bytes(Scan::of(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => Found::Unreadable(error.to_string()),
        };
        Self { path: path.to_owned(), found }
    }
}
