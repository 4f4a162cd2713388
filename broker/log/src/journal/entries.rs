//! Reads a journal back: once to find and judge its end, once for the entries.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::frame::{Kind, next_magic, read_frame};
use super::{JournalOpenError, JournalPosition, JournalReport, segment_path};
use crate::disk::Disk;
use crate::format::{JOURNAL_SUFFIX, parse_segment_file_name};

const READ_BYTES: usize = 256 << 10;

/// A recovered journal, whose torn end was cut off.
pub(super) struct Recovered {
    pub(super) segments: VecDeque<u64>,
    /// Sequence of the next frame.
    pub(super) sequence: u64,
    /// The position of the next frame in the last file.
    pub(super) offset: u64,
    pub(super) report: JournalReport,
}

/// The end of the sound frames of one file.
#[derive(Default)]
struct Scanned {
    offset: u64,
    sequence: u64,
    entries: u64,
    file_bytes: u64,
}

/// The first bad frame of a journal.
struct Break {
    /// The index of the file.
    file: usize,
    /// The position in the file.
    offset: u64,
    /// The number of files with sound frames.
    keep: usize,
}

/// Reads every frame and says how many there are, or which durable one is damaged. Files that go meanwhile were cut off by their
/// owner.
pub(super) fn check(directory: &Path) -> Result<JournalReport, JournalOpenError> {
    let at = |path: PathBuf| move |source| JournalOpenError::Io { path, source };
    let mut segments = list_segments(directory).map_err(at(directory.to_path_buf()))?;
    segments.retain(|segment| segment_path(directory, *segment).exists());
    let mut report = JournalReport { segments: segments.len(), ..JournalReport::default() };
    let mut sequence = segments.front().copied().unwrap_or(0);
    for (index, segment) in segments.iter().enumerate() {
        let path = segment_path(directory, *segment);
        let end = if *segment == sequence {
            match scan(&path, *segment) {
                Err(gone) if gone.kind() == io::ErrorKind::NotFound => continue,
                scanned => scanned.map_err(at(path.clone()))?,
            }
        } else {
            // The file before ended too early: what follows does not follow.
            Scanned { sequence, ..Scanned::default() }
        };
        report.entries += end.entries;
        sequence = end.sequence;
        if *segment == sequence - end.entries && end.offset == end.file_bytes {
            continue;
        }
        let suspect: Vec<PathBuf> = segments.iter().skip(index).map(|it| segment_path(directory, *it)).collect();
        if was_durable(&suspect, end.offset, sequence).map_err(at(path.clone()))? {
            return Err(JournalOpenError::Corrupt { path, offset: end.offset, sequence });
        }
        let bytes = suspect.iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum::<u64>();
        report.torn_bytes = bytes.saturating_sub(end.offset);
        break;
    }
    Ok(report)
}

/// Finds the end of the journal in `directory`, cuts off a torn end, and makes the rest durable.
pub(super) fn recover(disk: &dyn Disk, directory: &Path) -> Result<Recovered, JournalOpenError> {
    let at = |path: PathBuf| move |source| JournalOpenError::Io { path, source };
    let mut segments = list_segments(directory).map_err(at(directory.to_path_buf()))?;
    let mut end = Scanned { sequence: segments.front().copied().unwrap_or(0), ..Scanned::default() };
    let mut report = JournalReport::default();
    let mut broken = None;
    // After a failed fsync the page cache may hold bytes that never reach the disk, so recovery rereads from the disk.
    for segment in &segments {
        let path = segment_path(directory, *segment);
        let synced = disk.open(&path, false).and_then(|file| {
            disk.sync_data(&file)?;
            disk.forget_cached(&file, 0);
            Ok(())
        });
        synced.map_err(at(path))?;
    }
    for (index, segment) in segments.iter().enumerate() {
        if *segment != end.sequence {
            // The file before ended too early, so this one does not continue it.
            broken = Some(Break { file: index, offset: 0, keep: index });
            break;
        }
        let path = segment_path(directory, *segment);
        end = scan(&path, *segment).map_err(at(path))?;
        report.entries += end.entries;
        if end.offset < end.file_bytes {
            broken = Some(Break { file: index, offset: end.offset, keep: index + 1 });
            break;
        }
    }
    if let Some(Break { file, offset, keep }) = broken {
        let suspect: Vec<PathBuf> = segments.iter().skip(file).map(|it| segment_path(directory, *it)).collect();
        let path = suspect.first().cloned().unwrap_or_default();
        if was_durable(&suspect, offset, end.sequence).map_err(at(path.clone()))? {
            return Err(JournalOpenError::Corrupt { path, offset, sequence: end.sequence });
        }
        let removed = cut(disk, directory, &mut segments, keep, &end).map_err(at(path))?;
        report.torn_bytes = removed + end.file_bytes - end.offset;
    }
    // The broker is about to act on entries that a killed process may have left in the page cache: they must be
    // durable.
    for segment in &segments {
        let path = segment_path(directory, *segment);
        disk.open(&path, false).and_then(|file| disk.sync_data(&file)).map_err(at(path))?;
    }
    disk.sync_dir(directory).map_err(at(directory.to_path_buf()))?;
    report.segments = segments.len();
    Ok(Recovered { segments, sequence: end.sequence, offset: end.offset, report })
}

fn list_segments(directory: &Path) -> io::Result<VecDeque<u64>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| parse_segment_file_name(name, JOURNAL_SUFFIX));
        segments.extend(base.map(|base| base.0 as u64));
    }
    segments.sort_unstable();
    Ok(segments.into())
}

fn scan(path: &Path, first: u64) -> io::Result<Scanned> {
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut scanned = Scanned { offset: 0, sequence: first, entries: 0, file_bytes };
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    while let Some(frame) = read_frame(&mut reader, file_bytes - scanned.offset)? {
        if frame.sequence != scanned.sequence {
            break;
        }
        scanned.offset += frame.bytes();
        if frame.kind == Kind::Entry {
            scanned.sequence += 1;
            scanned.entries += 1;
        }
    }
    Ok(scanned)
}

/// Whether a frame behind the bad one at `offset` of the first file says that `sequence` was durable.
fn was_durable(suspect: &[PathBuf], offset: u64, sequence: u64) -> io::Result<bool> {
    let mut from = offset as usize;
    for path in suspect {
        // A file holds at most 64 MiB, or one single frame.
        let bytes = fs::read(path)?;
        while let Some(hit) = next_magic(&bytes, from) {
            let mut rest = bytes.get(hit..).unwrap_or_default();
            let left = rest.len() as u64;
            if read_frame(&mut rest, left)?.is_some_and(|frame| frame.durable > sequence) {
                return Ok(true);
            }
            from = hit + 1;
        }
        from = 0;
    }
    Ok(false)
}

/// Keeps the first `keep` files and cuts the last of them behind its sound frames, durably. Returns the bytes of the
/// removed files.
fn cut(disk: &dyn Disk, directory: &Path, segments: &mut VecDeque<u64>, keep: usize, end: &Scanned) -> io::Result<u64> {
    let mut removed = 0;
    for segment in segments.split_off(keep) {
        let path = segment_path(directory, segment);
        removed += fs::metadata(&path)?.len();
        disk.remove_file(&path)?;
    }
    if let Some(last) = segments.back()
        && end.offset < end.file_bytes
    {
        // The caller syncs it together with the others.
        let file = disk.open(&segment_path(directory, *last), true)?;
        disk.set_len(&file, end.offset)?;
    }
    Ok(removed)
}

/// One entry that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its position.
    pub position: JournalPosition,
    /// The payload that was appended.
    pub payload: Vec<u8>,
}

/// The entries that the journal had when it was opened, in order.
#[derive(Debug)]
pub struct JournalEntries {
    directory: PathBuf,
    segments: VecDeque<u64>,
    /// The sequence after the last entry.
    end: u64,
    current: Option<(u64, BufReader<File>, u64)>,
    next: u64,
}

impl JournalEntries {
    pub(super) fn new(directory: PathBuf, segments: VecDeque<u64>, end: u64) -> Self {
        let next = segments.front().copied().unwrap_or(end);
        Self { directory, segments, end, current: None, next }
    }

    fn read_next(&mut self) -> io::Result<JournalEntry> {
        loop {
            if self.current.is_none() {
                let segment = self.segments.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?;
                let file = File::open(segment_path(&self.directory, segment))?;
                self.current = Some((segment, BufReader::with_capacity(READ_BYTES, file), 0));
            }
            let Some((segment, reader, offset)) = &mut self.current else { continue };
            let left = reader.get_ref().metadata()?.len() - *offset;
            let Some(frame) = read_frame(reader, left)? else {
                self.current = None;
                continue;
            };
            let position = JournalPosition { sequence: frame.sequence, segment: *segment, offset: *offset };
            *offset += frame.bytes();
            if frame.kind == Kind::Entry {
                return Ok(JournalEntry { position, payload: frame.payload });
            }
        }
    }
}

impl Iterator for JournalEntries {
    type Item = io::Result<JournalEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let entry = self.read_next();
        match &entry {
            Ok(entry) => self.next = entry.position.sequence + 1,
            Err(_) => self.next = self.end,
        }
        Some(entry)
    }
}
