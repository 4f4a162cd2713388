//! An append-only file of checksummed frames, for intentions that have to be durable before they are carried out.
//!
//! ```text
//! <directory>/00000000000000000000.journal    the frames from sequence 0 on; a new file after 64 MiB
//! frame  = magic "OTJ\x01" · payload bytes u32 · sequence u64 · durable u64 · CRC-32C u32 of all this · payload
//! marker = the same with magic "OTJ\x02" and no payload, written after every sync
//! ```
//!
//! `durable` says: when this was written, every frame below that sequence was synced. That is how a start tells a torn
//! end (cut off: nobody was promised anything) from damage (reported, never skipped): damage is a bad frame that a later
//! one knows to have been durable.
//!
//! Promises: entries come back in order and complete, or not at all; what [`Journal::sync`] covered comes back. The first
//! failed sync ends all writing.

mod entries;
mod frame;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use self::entries::{JournalEntries, JournalEntry};

use self::frame::{FRAME_HEADER_BYTES, Kind, encode_header};
use crate::disk::{Disk, GuardedDisk, RealDisk};
use crate::format::{JOURNAL_SUFFIX, segment_file_name};
use crate::shared::Shared;

/// A file of the journal is closed before it grows beyond this.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Most bytes of one entry; a greater length in a frame is damage.
pub const JOURNAL_ENTRY_BYTES_MAX: usize = 256 << 20;

/// Where a frame is, and when it is durable: once [`Journal::durable_sequence`] is above `sequence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalPosition {
    /// Its number, counted from the first frame ever.
    pub sequence: u64,
    /// The file it is in, named by the sequence that the file begins with.
    pub segment: u64,
    /// Where in the file.
    pub offset: u64,
}

/// What opening a journal found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// Entries found.
    pub entries: u64,
    /// Files found.
    pub segments: usize,
    /// Bytes of an unfinished end that were cut off.
    pub torn_bytes: u64,
}

/// Why a journal was not opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalOpenError {
    /// A frame that was durable is damaged or gone.
    #[error(
        "{path}: the frame with sequence {sequence} at byte {offset} is damaged, though it was durable; \
         move the journal's directory away to start without it",
        path = path.display()
    )]
    Corrupt {
        /// The journal's file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The frame expected there.
        sequence: u64,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
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
    /// A sync failed: nothing is written any more.
    #[error("the journal is offline: {reason}")]
    Offline {
        /// Why.
        reason: String,
    },
    /// The system refused; nothing was appended.
    #[error("writing the journal: {source}")]
    Io {
        /// What the system said.
        source: io::Error,
    },
}

/// An open journal. Appends may come from any thread; one thread calls [`sync`](Self::sync) in a loop.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    /// The log directory that goes offline with the journal.
    shared: Option<Arc<Shared>>,
    tail: Mutex<Tail>,
    /// Every frame below it is durable.
    durable: AtomicU64,
    /// Held by the sync that runs.
    syncing: Mutex<()>,
    offline: OnceLock<String>,
    report: JournalReport,
}

#[derive(Debug)]
struct Tail {
    file: Arc<File>,
    /// First sequence of the file.
    segment: u64,
    offset: u64,
    sequence: u64,
    /// Closed files, oldest first, that the next sync has to cover.
    unsynced: Vec<Arc<File>>,
    /// The name of the file is not durable yet.
    entry_unsynced: bool,
    /// A failed write may have left bytes beyond the end.
    littered: bool,
    /// All files by first sequence, the open one included.
    segments: VecDeque<u64>,
}

impl Journal {
    /// Opens the journal in `directory`, making it if there is none. The entries are read while they are iterated.
    pub fn open(directory: &Path) -> Result<(Self, JournalEntries), JournalOpenError> {
        Self::open_on(Arc::new(RealDisk), directory, None)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        shared: Option<Arc<Shared>>,
    ) -> Result<(Self, JournalEntries), JournalOpenError> {
        let io_error = |source| JournalOpenError::Io { path: directory.to_path_buf(), source };
        // That of a log directory is guarded already.
        let disk = if shared.is_some() { disk } else { Arc::new(GuardedDisk::new(disk)) };
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
        let tail = Tail {
            file: Arc::new(file.map_err(io_error)?),
            segment,
            offset: found.offset,
            sequence: found.sequence,
            unsynced: Vec::new(),
            entry_unsynced: created,
            littered: false,
            segments,
        };
        let journal = Self {
            directory: directory.to_path_buf(),
            disk,
            shared,
            tail: Mutex::new(tail),
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

    /// Appends one entry, given in pieces. It is durable once a [`sync`](Self::sync) that began later returns.
    pub fn append(&self, payload: &[IoSlice<'_>]) -> Result<JournalPosition, JournalError> {
        let bytes: usize = payload.iter().map(|piece| piece.len()).sum();
        if bytes > JOURNAL_ENTRY_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes });
        }
        self.check_online()?;
        let mut tail = self.tail();
        if tail.offset > 0 && tail.offset + (FRAME_HEADER_BYTES + bytes) as u64 > SEGMENT_BYTES {
            self.roll(&mut tail)?;
        }
        let position = JournalPosition { sequence: tail.sequence, segment: tail.segment, offset: tail.offset };
        self.write_frame(&mut tail, Kind::Entry, payload, bytes)?;
        tail.sequence += 1;
        Ok(position)
    }

    /// Makes every entry appended before the call durable; returns the sequence below which all are. Entries appended
    /// meanwhile ride the next call.
    pub fn sync(&self) -> Result<u64, JournalError> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_online()?;
        let (files, entry_unsynced, sequence) = {
            let mut tail = self.tail();
            let mut files = std::mem::take(&mut tail.unsynced);
            files.push(Arc::clone(&tail.file));
            (files, std::mem::take(&mut tail.entry_unsynced), tail.sequence)
        };
        if sequence == self.durable_sequence() && !entry_unsynced && files.len() == 1 {
            return Ok(sequence);
        }
        let sync_entry = |()| if entry_unsynced { self.disk.sync_dir(&self.directory) } else { Ok(()) };
        let synced = files.iter().try_for_each(|file| self.disk.sync_data(file)).and_then(sync_entry);
        synced.map_err(|error| self.poison("fdatasync of the journal", &error))?;
        self.durable.fetch_max(sequence, Ordering::AcqRel);
        // So that a start after a crash knows what was durable, although no entry follows to say it. Without space the
        // next entry says it.
        let mut tail = self.tail();
        let _ = self.write_frame(&mut tail, Kind::Marker, &[], 0);
        Ok(sequence)
    }

    /// Every entry below this sequence is durable.
    pub fn durable_sequence(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Where the next entry goes.
    pub fn end(&self) -> JournalPosition {
        let tail = self.tail();
        JournalPosition { sequence: tail.sequence, segment: tail.segment, offset: tail.offset }
    }

    /// Begins a new file, so that everything before it can be removed; returns its name.
    pub fn start_segment(&self) -> Result<u64, JournalError> {
        self.check_online()?;
        let mut tail = self.tail();
        if tail.sequence != tail.segment {
            self.roll(&mut tail)?;
        }
        Ok(tail.segment)
    }

    /// Removes the files before `segment`, oldest first; how many. The file that is written to stays.
    pub fn remove_before(&self, segment: u64) -> Result<usize, JournalError> {
        self.check_online()?;
        let mut removed = 0;
        let mut tail = self.tail();
        while let Some(first) = tail.segments.front().copied().filter(|first| *first < segment.min(tail.segment)) {
            self.disk.remove_file(&segment_path(&self.directory, first)).map_err(|error| self.refused(error))?;
            tail.segments.pop_front();
            removed += 1;
        }
        drop(tail);
        if removed > 0 {
            let synced = self.disk.sync_dir(&self.directory);
            synced.map_err(|error| self.poison("fsync of the journal's directory", &error))?;
        }
        Ok(removed)
    }

    fn write_frame(
        &self,
        tail: &mut Tail,
        kind: Kind,
        payload: &[IoSlice<'_>],
        bytes: usize,
    ) -> Result<(), JournalError> {
        if tail.littered {
            self.clear_litter(tail)?;
        }
        let header = encode_header(kind, tail.sequence, self.durable_sequence(), payload, bytes);
        let mut pieces = Vec::with_capacity(1 + payload.len());
        pieces.push(IoSlice::new(&header));
        pieces.extend(payload.iter().map(|piece| IoSlice::new(piece)));
        if let Err(error) = self.disk.write_at(&tail.file, &mut pieces, tail.offset) {
            tail.littered = true;
            return Err(self.refused(error));
        }
        tail.offset += (FRAME_HEADER_BYTES + bytes) as u64;
        Ok(())
    }

    /// Cuts off what a failed write left, durably: a frame of it must not come back behind a later, shorter one.
    fn clear_litter(&self, tail: &mut Tail) -> Result<(), JournalError> {
        self.disk.set_len(&tail.file, tail.offset).map_err(|error| self.refused(error))?;
        let synced = self.disk.sync_data(&tail.file);
        synced.map_err(|error| self.poison("fdatasync after a failed write", &error))?;
        tail.littered = false;
        Ok(())
    }

    fn roll(&self, tail: &mut Tail) -> Result<(), JournalError> {
        if tail.littered {
            self.clear_litter(tail)?;
        }
        let file = Arc::new(
            self.disk.create(&segment_path(&self.directory, tail.sequence)).map_err(|error| self.refused(error))?,
        );
        let old = std::mem::replace(&mut tail.file, file);
        tail.unsynced.push(old);
        tail.segment = tail.sequence;
        tail.segments.push_back(tail.segment);
        tail.offset = 0;
        tail.entry_unsynced = true;
        Ok(())
    }

    fn check_online(&self) -> Result<(), JournalError> {
        let reason = self.offline.get().map(String::as_str);
        let reason = reason.or_else(|| self.shared.as_ref().and_then(|shared| shared.offline_reason()));
        reason.map_or(Ok(()), |reason| Err(JournalError::Offline { reason: reason.to_owned() }))
    }

    /// What a failure amounts to: it may have taken the log directory offline.
    fn refused(&self, source: io::Error) -> JournalError {
        self.check_online().err().unwrap_or_else(|| failure(source))
    }

    fn poison(&self, what: &str, error: &io::Error) -> JournalError {
        let reason = format!("{what} failed: {error}");
        if let Some(shared) = &self.shared {
            shared.poison(what, error);
        } else {
            tracing::error!(directory = %self.directory.display(), %reason, "journal offline until restart");
        }
        JournalError::Offline { reason: self.offline.get_or_init(|| reason).clone() }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
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
