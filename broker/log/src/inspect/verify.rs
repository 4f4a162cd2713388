//! Checks a whole partition: every CRC, every offset, the indexes against the log, the small files.

use std::fmt;
use std::fs;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use super::files::PartitionFiles;
use super::walk::{Found, SegmentReader};
use crate::Offset;
use crate::format::{INDEX_SUFFIX, META_FILE, SEGMENT_SUFFIX, STATE_MAGIC, segment_file_name};
use crate::index::{Index, IndexEntry, NO_TIMESTAMP};
use crate::scan::batch_bytes;
use crate::state_file::{StateFile, StateReadError};

/// A problem of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bytes of synced records are not a valid batch.
    Damaged {
        /// The segment, by its first offset.
        segment: Offset,
        /// The offsets that are lost.
        offsets: Range<i64>,
        /// The bytes.
        positions: Range<u64>,
    },
    /// Synced records are in no file.
    Missing {
        /// The offsets that are lost.
        offsets: Range<i64>,
    },
    /// Two segments have the same offsets.
    Twice {
        /// The offsets.
        offsets: Range<i64>,
    },
    /// A bad batch with sound ones behind it, all above the persisted durable offset. A crash leaves this only if the
    /// system wrote the later batches first.
    Interrupted {
        /// The segment, by its first offset.
        segment: Offset,
        /// The offset of the bad batch.
        offset: Offset,
        /// Sound batches behind it.
        batches: u64,
    },
    /// An index does not match its segment. It is derived data: the broker does not use it and rebuilds it.
    Index {
        /// The segment, by its first offset.
        segment: Offset,
        /// The mismatch.
        fault: IndexFault,
    },
    /// `partition.meta` is damaged or missing. The next start rebuilds it from the log.
    Meta {
        /// The reason.
        wrong: String,
    },
    /// Both slots of `checkpoint` are damaged. The next start checks the last segments completely.
    Checkpoint,
    /// Another state file of the partition is damaged.
    State {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error.
        error: String,
    },
}

/// How an index does not match its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexFault {
    /// It is damaged, or of another segment.
    Damaged,
    /// An entry does not point to the start of the batch that it names.
    Entry {
        /// The position in the entry.
        position: u64,
    },
    /// A running maximum of timestamps differs from the batches.
    Timestamp {
        /// The position in the entry.
        position: u64,
    },
    /// The index and the segment have different ends.
    End {
        /// Offset after the last batch in the index.
        offset: Offset,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { segment, offsets, positions } => write!(
                f,
                "records {} to {} are damaged (bytes {} to {} of segment {})",
                offsets.start,
                offsets.end - 1,
                positions.start,
                positions.end,
                segment.0
            ),
            Self::Missing { offsets } => write!(f, "records {} to {} are missing", offsets.start, offsets.end - 1),
            Self::Twice { offsets } => {
                write!(f, "offsets {} to {} are in two segments", offsets.start, offsets.end - 1)
            }
            Self::Interrupted { segment, offset, batches } => write!(
                f,
                "the batch at offset {} of segment {} is bad, and {batches} sound ones follow it",
                offset.0, segment.0
            ),
            Self::Index { segment, fault } => {
                let segment = segment.0;
                match fault {
                    IndexFault::Damaged => write!(f, "the index of segment {segment} is damaged"),
                    IndexFault::Entry { position } => {
                        write!(f, "the index of segment {segment} leads to byte {position}, where no such batch starts")
                    }
                    IndexFault::Timestamp { position } => {
                        write!(f, "the index of segment {segment} has a wrong timestamp at byte {position}")
                    }
                    IndexFault::End { offset } => {
                        write!(f, "the index of segment {segment} ends at offset {}, the segment does not", offset.0)
                    }
                }?;
                f.write_str(" (derived: the broker rebuilds it)")
            }
            Self::Meta { wrong } => write!(f, "{META_FILE}: {wrong} (the next start rebuilds it from the log)"),
            Self::Checkpoint => f.write_str("checkpoint: both of its slots are damaged"),
            Self::State { path } => write!(f, "{}: both of its copies are damaged", path.display()),
            Self::Unreadable { path, error } => write!(f, "{} cannot be read: {error}", path.display()),
        }
    }
}

/// An end that the next start cuts off; nothing in it was acknowledged with `acks=all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The segment, by its first offset.
    pub segment: Offset,
    /// The offset at which the log ends without it.
    pub offset: Offset,
    /// The number of its bytes.
    pub bytes: u64,
}

/// The result of the check of one partition.
#[derive(Clone, Debug, Default)]
pub struct PartitionReport {
    /// Segments read.
    pub segments: usize,
    /// Sound batches.
    pub batches: u64,
    /// Number of records in them, by their headers.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Offset after the last sound batch.
    pub end: Offset,
    /// An unfinished end, if there is one.
    pub unfinished: Option<Unfinished>,
    /// All problems.
    pub problems: Vec<Problem>,
}

impl PartitionReport {
    /// Whether there are no problems.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks a partition. Calls `progress` with the bytes of each batch.
pub fn verify(files: &PartitionFiles, mut progress: impl FnMut(u64)) -> PartitionReport {
    let mut report = PartitionReport { problems: files.problems.clone(), ..PartitionReport::default() };
    check_state_files(files, &mut report.problems);
    let first = files.segments.first().copied();
    report.end = first.unwrap_or(Offset(0));
    let start = files.log_start_offset();
    match first {
        Some(first) if first > start => report.problems.push(Problem::Missing { offsets: start.0..first.0 }),
        None if start < files.durable_offset() => {
            report.problems.push(Problem::Missing { offsets: start.0..files.durable_offset().0 });
        }
        _ => {}
    }
    for base in &files.segments {
        // The segments behind a cut do not count.
        if report.unfinished.is_some() {
            break;
        }
        let checked = SegmentReader::open(files, *base).and_then(|reader| match reader {
            Some(reader) => check_segment(files, &reader, &mut report, &mut progress),
            // The segment was removed during the check.
            None => Ok(()),
        });
        if let Err(error) = checked {
            let path = files.directory.join(segment_file_name(*base, SEGMENT_SUFFIX));
            let path = files.swap_of(*base).map_or(path, Path::to_path_buf);
            report.problems.push(Problem::Unreadable { path, error: error.to_string() });
        }
    }
    report
}

fn check_segment(
    files: &PartitionFiles,
    reader: &SegmentReader,
    report: &mut PartitionReport,
    progress: &mut impl FnMut(u64),
) -> io::Result<()> {
    let (base, next_base) = (reader.base, files.next_segment(reader.base));
    report.segments += 1;
    let index = read_index(files, base)?;
    // The index of the last segment is in memory. An older index file may exist; the broker does not use it.
    let mut index_check = IndexCheck::new(index.as_ref().ok().and_then(Option::as_ref).filter(|_| next_base.is_some()));
    if index.is_err() && next_base.is_some() {
        report.problems.push(Problem::Index { segment: base, fault: IndexFault::Damaged });
    }
    let mut short = None;
    let (end, position) = reader.walk(|found| {
        match found {
            Found::Batch { position, header } => {
                report.batches += 1;
                report.records += header.record_count.max(0) as u64;
                report.bytes += batch_bytes(&header);
                index_check.batch(position, header.base_offset, header.max_timestamp);
                progress(batch_bytes(&header));
            }
            Found::Damaged { offsets, positions } => {
                index_check.damaged = true;
                report.problems.push(Problem::Damaged { segment: base, offsets, positions });
            }
            Found::Short { offsets } => short = Some(offsets),
            Found::Unfinished { offset, position: _, bytes, batches } => {
                if batches > 0 {
                    report.problems.push(Problem::Interrupted { segment: base, offset, batches });
                }
                report.unfinished = Some(Unfinished { segment: base, offset, bytes });
            }
        }
        ControlFlow::Continue(())
    })?;
    report.end = end;
    if let Some(next) = next_base.filter(|_| report.unfinished.is_none()) {
        if end > next {
            report.problems.push(Problem::Twice { offsets: next.0..end.0 });
        } else if end < next {
            short = short.or(Some(end.0..next.0));
        }
    }
    if let Some(offsets) = short {
        index_check.damaged = true;
        report.problems.push(Problem::Missing { offsets });
    }
    if let Some(fault) = index_check.fault(end, position) {
        report.problems.push(Problem::Index { segment: base, fault });
    }
    Ok(())
}

/// The index file of a segment: `Ok(None)` if there is none, an inner `Err` if it is damaged.
fn read_index(files: &PartitionFiles, base: Offset) -> io::Result<Result<Option<Index>, IndexFault>> {
    if files.swap_of(base).is_some() {
        // Until the segment is renamed, the index file of that name belongs to another segment.
        return Ok(Ok(None));
    }
    match fs::read(files.directory.join(segment_file_name(base, INDEX_SUFFIX))) {
        Ok(bytes) => Ok(Index::decode(&bytes, base, 0).map(Some).ok_or(IndexFault::Damaged)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
        Err(error) => Err(error),
    }
}

/// Compares an index with the batches of a walk.
struct IndexCheck<'a> {
    index: Option<&'a Index>,
    entries: Vec<IndexEntry>,
    at: usize,
    max_timestamp: i64,
    fault: Option<IndexFault>,
    /// There is damage in the segment: what the index says about it cannot be checked.
    damaged: bool,
}

impl<'a> IndexCheck<'a> {
    fn new(index: Option<&'a Index>) -> Self {
        let entries = index.map(|index| index.entries().collect()).unwrap_or_default();
        Self { index, entries, at: 0, max_timestamp: NO_TIMESTAMP, fault: None, damaged: false }
    }

    fn batch(&mut self, position: u64, offset: Offset, max_timestamp: i64) {
        while let Some(entry) = self.entries.get(self.at).filter(|entry| entry.position <= position) {
            let leads_here = entry.position == position && entry.offset == offset;
            if !leads_here && !self.damaged {
                self.fault.get_or_insert(IndexFault::Entry { position: entry.position });
            } else if leads_here && !self.damaged && entry.max_before != self.max_timestamp {
                self.fault.get_or_insert(IndexFault::Timestamp { position });
            }
            self.at += 1;
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
    }

    fn fault(self, end: Offset, position: u64) -> Option<IndexFault> {
        let index = self.index.filter(|_| !self.damaged)?;
        let entry = self.entries.get(self.at).map(|entry| IndexFault::Entry { position: entry.position });
        let ends = index.end_position() == position && index.end_offset() == end;
        let end = (!ends).then_some(IndexFault::End { offset: index.end_offset() });
        let timestamp = (index.max_timestamp() != self.max_timestamp).then_some(IndexFault::Timestamp { position });
        self.fault.or(end).or(entry).or(timestamp)
    }
}

/// Checks the state files that the server keeps in the partition: their copies, not their content.
fn check_state_files(files: &PartitionFiles, problems: &mut Vec<Problem>) {
    let Ok(entries) = fs::read_dir(&files.directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = [".log", ".index", ".tmp"].iter().any(|suffix| name.ends_with(suffix));
        if ours || name == META_FILE || !path.is_file() {
            continue;
        }
        let starts_as_one = fs::File::open(&path).is_ok_and(|file| {
            let mut magic = STATE_MAGIC;
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut magic, 0).is_ok() && magic == STATE_MAGIC
        });
        let damaged = matches!(StateFile::new(&path, 0).read(), Err(StateReadError::Damaged { .. }));
        if damaged && (starts_as_one || name.ends_with(".producers")) {
            problems.push(Problem::State { path });
        }
    }
}
