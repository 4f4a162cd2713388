//! The journal: an append-only file of checksummed frames, for intentions that must be durable before they are applied.
//!
//! ```text
//! <directory>/00000000000000000000.journal    the frames from sequence 0 on; a new file after 64 MiB
//! frame  = magic "OTJ\x01" · payload bytes u32 · sequence u64 · durable u64 · CRC-32C u32 of all this · payload
//! marker = the same with magic "OTJ\x02" and no payload, written after every sync
//! ```
//!
//! `durable` says that every frame below that sequence was synced when this frame was written. So recovery can tell a
//! torn end from damage. It cuts a torn end off: nothing in it was acknowledged. Damage is a bad frame below the
//! `durable` of a later one; recovery reports it and never skips it.
//!
//! Promises: entries come back complete and in order, or not at all. Entries that [`Journal::sync`] covered come back.
//! The first failed sync ends all writing.

mod entries;
mod frame;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

pub use self::entries::{JournalEntries, JournalEntry};

use self::frame::{FRAME_HEADER_BYTES, Kind, encode_header};
use crate::dir_state::DirState;
use crate::disk::{Disk, GuardedDisk, RealDisk};
use crate::format::{JOURNAL_SUFFIX, segment_file_name};

/// Before a file grows beyond this, the journal starts the next one.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Most bytes of one entry; a greater length in a frame is damage.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 256 << 20;

/// The position of a frame. The frame is durable once [`Journal::durable_sequence`] is above `sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalPosition {
    /// Its number, counted from the first frame of the journal.
    pub sequence: u64,
    /// The file that holds it, named by the sequence of the file's first frame.
    pub segment: u64,
    /// Its position in the file.
    pub offset: u64,
}

/// The result of opening a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// Entries found.
    pub entries: u64,
    /// Files found.
    pub segments: usize,
    /// Bytes of a torn end that were cut off.
    pub torn_bytes: u64,
}

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalOpenError {
    /// A frame that was durable is damaged or missing.
    #[error(
        "{path}: the frame with sequence {sequence} at byte {offset} is damaged, though it was durable; \
         move the journal's directory away to start without it",
        path = path.display()
    )]
    Corrupt {
        /// The journal's file.
        path: PathBuf,
        /// The position in the file.
        offset: u64,
        /// The frame expected there.
        sequence: u64,
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

/// Why an entry was not appended, or the journal not synced.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The payload is longer than 256 MiB.
    #[error("a journal entry holds at most {JOURNAL_ENTRY_BYTES_MAX} bytes, {bytes} were given")]
    TooLarge {
        /// Length of the payload.
        bytes: usize,
    },
    /// The disk is full; nothing was appended.
    #[error("no space left for the journal")]
    NoSpace,
    /// A sync failed: the journal writes nothing any more.
    #[error("the journal is offline: {reason}")]
    Offline {
        /// The reason.
        reason: String,
    },
    /// The system call failed; nothing was appended.
    #[error("writing the journal: {source}")]
    Io {
        /// Its error.
        source: io::Error,
    },
}

/// An open journal. Appends may come from any thread; one thread calls [`sync`](Self::sync) in a loop.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    /// The log directory that goes offline together with the journal.
    dir: Option<Arc<DirState>>,
    active: Mutex<ActiveFile>,
    /// Every frame below it is durable.
    durable: AtomicU64,
    /// Held by the running sync.
    syncing: Mutex<()>,
    offline: OnceLock<String>,
    report: JournalReport,
}

#[derive(Debug)]
struct ActiveFile {
    file: Arc<File>,
    /// First sequence of the active file.
    segment: u64,
    offset: u64,
    sequence: u64,
    /// Closed files, oldest first, that the next sync has to cover.
    unsynced: Vec<Arc<File>>,
    /// The directory entry of the file is not durable yet.
    entry_unsynced: bool,
    /// A failed write may have left bytes above the end.
    has_partial_write: bool,
    /// All files by their first sequence, the active one included.
    segments: VecDeque<u64>,
}

impl Journal {
    /// Opens the journal in `directory`, and creates it if there is none. The iterator reads the entries one by one.
    pub fn open(directory: &Path) -> Result<(Self, JournalEntries), JournalOpenError> {
        Self::open_on(Arc::new(RealDisk), directory, None)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        dir: Option<Arc<DirState>>,
    ) -> Result<(Self, JournalEntries), JournalOpenError> {
        let io_error = |source| JournalOpenError::Io { path: directory.to_path_buf(), source };
        // The disk of a log directory is guarded already.
        let disk = if dir.is_some() { disk } else { Arc::new(GuardedDisk::new(disk)) };
        disk.create_dir(directory).map_err(io_error)?;
        if let Some(parent) = directory.parent() {
            disk.sync_dir(parent).map_err(io_error)?;
        }
        let found = entries::recover(&*disk, directory)?;
        let entries = JournalEntries::new(directory.to_path_buf(), found.segments.clone(), found.sequence);
        let (segment, file, created) = match found.segments.back() {
            Some(last) => (*last, disk.open(&segment_path(directory, *last), true), false),
            None => (found.sequence, disk.create(&segment_path(directory, found.sequence)), true),
        };
        let mut segments = found.segments;
        if created {
            segments.push_back(segment);
        }
        let active = ActiveFile {
            file: Arc::new(file.map_err(io_error)?),
            segment,
            offset: found.offset,
            sequence: found.sequence,
            unsynced: Vec::new(),
            entry_unsynced: created,
            has_partial_write: false,
            segments,
        };
        let journal = Self {
            directory: directory.to_path_buf(),
            disk,
            dir,
            active: Mutex::new(active),
            durable: AtomicU64::new(found.sequence),
            syncing: Mutex::default(),
            offline: OnceLock::new(),
            report: found.report,
        };
        Ok((journal, entries))
    }

    /// Reads the journal in `directory` as an opening would and changes nothing, also while another process appends to it.
    pub fn check(directory: &Path) -> Result<JournalReport, JournalOpenError> {
        entries::check(directory)
    }

    /// What opening found.
    pub fn report(&self) -> JournalReport {
        self.report
    }

    /// Appends one entry, given in pieces. It is durable when a [`sync`](Self::sync) that began later returns.
    pub fn append(&self, payload: &[IoSlice<'_>]) -> Result<JournalPosition, JournalError> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        if bytes > JOURNAL_ENTRY_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes });
        }
        self.check_online()?;
        let mut active = self.active();
        if active.offset > 0 && active.offset + (FRAME_HEADER_BYTES + bytes) as u64 > SEGMENT_BYTES {
            self.roll(&mut active)?;
        }
        let position = JournalPosition { sequence: active.sequence, segment: active.segment, offset: active.offset };
        self.write_frame(&mut active, Kind::Entry, payload, bytes)?;
        active.sequence += 1;
        Ok(position)
    }

    /// Makes every entry durable that was appended before the call. Returns the sequence below which all entries are
    /// durable. The next call covers later entries.
    pub fn sync(&self) -> Result<u64, JournalError> {
        let _one = self.syncing.lock();
        self.check_online()?;
        let (files, entry_unsynced, sequence) = {
            let mut active = self.active();
            let mut files = std::mem::take(&mut active.unsynced);
            files.push(Arc::clone(&active.file));
            (files, std::mem::take(&mut active.entry_unsynced), active.sequence)
        };
        if sequence == self.durable_sequence() && !entry_unsynced && files.len() == 1 {
            return Ok(sequence);
        }
        let sync_entry = |()| if entry_unsynced { self.disk.sync_dir(&self.directory) } else { Ok(()) };
        let synced = files.iter().try_for_each(|file| self.disk.sync_data(file)).and_then(sync_entry);
        synced.map_err(|error| self.take_offline_after("fdatasync of the journal", &error))?;
        self.durable.fetch_max(sequence, Ordering::AcqRel);
        // The marker tells recovery what was durable, even if no entry follows. If there is no space for it, the next
        // entry tells it.
        let mut active = self.active();
        let _ = self.write_frame(&mut active, Kind::Marker, &[], 0);
        Ok(sequence)
    }

    /// Every entry below this sequence is durable.
    pub fn durable_sequence(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The position of the next entry.
    pub fn end(&self) -> JournalPosition {
        let active = self.active();
        JournalPosition { sequence: active.sequence, segment: active.segment, offset: active.offset }
    }

    /// Starts a new file, so that all earlier ones can be removed; returns its name.
    pub fn start_segment(&self) -> Result<u64, JournalError> {
        self.check_online()?;
        let mut active = self.active();
        if active.sequence != active.segment {
            self.roll(&mut active)?;
        }
        Ok(active.segment)
    }

    /// Removes the files before `segment`, oldest first; returns how many. The active file stays.
    pub fn remove_before(&self, segment: u64) -> Result<usize, JournalError> {
        self.check_online()?;
        let mut removed = 0;
        let mut active = self.active();
        while let Some(first) = active.segments.front().copied().filter(|first| *first < segment.min(active.segment)) {
            self.disk.remove_file(&segment_path(&self.directory, first)).map_err(|error| self.journal_error(error))?;
            active.segments.pop_front();
            removed += 1;
        }
        drop(active);
        if removed > 0 {
            let synced = self.disk.sync_dir(&self.directory);
            synced.map_err(|error| self.take_offline_after("fsync of the journal's directory", &error))?;
        }
        Ok(removed)
    }

    fn write_frame(
        &self,
        active: &mut ActiveFile,
        kind: Kind,
        payload: &[IoSlice<'_>],
        bytes: usize,
    ) -> Result<(), JournalError> {
        if active.has_partial_write {
            self.cut_partial_write(active)?;
        }
        let header = encode_header(kind, active.sequence, self.durable_sequence(), payload, bytes);
        let mut pieces = Vec::with_capacity(1 + payload.len());
        pieces.push(IoSlice::new(&header));
        pieces.extend(payload.iter().map(|piece| IoSlice::new(piece)));
        if let Err(error) = self.disk.write_at(&active.file, &mut pieces, active.offset) {
            active.has_partial_write = true;
            return Err(self.journal_error(error));
        }
        active.offset += (FRAME_HEADER_BYTES + bytes) as u64;
        Ok(())
    }

    /// Cuts off the bytes that a failed write left, durably: a frame in them must not come back behind a later, shorter
    /// one.
    fn cut_partial_write(&self, active: &mut ActiveFile) -> Result<(), JournalError> {
        self.disk.set_len(&active.file, active.offset).map_err(|error| self.journal_error(error))?;
        let synced = self.disk.sync_data(&active.file);
        synced.map_err(|error| self.take_offline_after("fdatasync after a failed write", &error))?;
        active.has_partial_write = false;
        Ok(())
    }

    fn roll(&self, active: &mut ActiveFile) -> Result<(), JournalError> {
        if active.has_partial_write {
            self.cut_partial_write(active)?;
        }
        let file = Arc::new(
            self.disk
                .create(&segment_path(&self.directory, active.sequence))
                .map_err(|error| self.journal_error(error))?,
        );
        let old = std::mem::replace(&mut active.file, file);
        active.unsynced.push(old);
        active.segment = active.sequence;
        active.segments.push_back(active.segment);
        active.offset = 0;
        active.entry_unsynced = true;
        Ok(())
    }

    fn check_online(&self) -> Result<(), JournalError> {
        let reason = self.offline.get().map(String::as_str);
        let reason = reason.or_else(|| self.dir.as_ref().and_then(|dir| dir.offline_reason()));
        reason.map_or(Ok(()), |reason| Err(JournalError::Offline { reason: reason.to_owned() }))
    }

    /// The error for a failed system call: offline if the failure took the log directory offline.
    fn journal_error(&self, source: io::Error) -> JournalError {
        self.check_online().err().unwrap_or_else(|| failure(source))
    }

    fn take_offline_after(&self, what: &str, error: &io::Error) -> JournalError {
        let reason = format!("{what} failed: {error}");
        if let Some(dir) = &self.dir {
            dir.take_offline_after(what, error);
        } else {
            tracing::error!(directory = %self.directory.display(), %reason, "journal offline until restart");
        }
        JournalError::Offline { reason: self.offline.get_or_init(|| reason).clone() }
    }

    fn active(&self) -> MutexGuard<'_, ActiveFile> {
        self.active.lock()
    }
}

fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(segment_file_name(crate::Offset(segment as i64), JOURNAL_SUFFIX))
}

fn failure(source: io::Error) -> JournalError {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => JournalError::NoSpace,
        _ => JournalError::Io { source },
    }
}
