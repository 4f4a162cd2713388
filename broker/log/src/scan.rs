//! Walks a segment by `pread`: header by header for reads, every byte for recovery. An unreadable sector is an error
//! here, never a signal.

use std::fs::File;
use std::io;
use std::ops::Range;

use ottla_wire::record::{BATCH_HEADER_BYTES, BatchHeader};

use crate::canary::{Canary, broken};
use crate::disk::{Disk, is_unreadable};
use crate::epochs::EpochHistory;
use crate::index::{Index, Quarantine};
use crate::{LeaderEpoch, Offset};

/// The length of a batch, header included.
pub(crate) fn batch_bytes(header: &BatchHeader) -> u64 {
    header.total_bytes() as u64
}

/// Reads headers at rising positions through a window: one system call covers many small batches; of large batches it
/// reads only the headers.
pub(crate) struct HeaderCursor<'a> {
    disk: &'a dyn Disk,
    file: &'a File,
    window: &'a mut [u8],
    start: u64,
    filled: usize,
    last: Option<u64>,
}

impl<'a> HeaderCursor<'a> {
    /// A cursor that reads through `window`, which holds at least a header.
    pub(crate) fn new(disk: &'a dyn Disk, file: &'a File, window: &'a mut [u8]) -> Self {
        Self { disk, file, window, start: 0, filled: 0, last: None }
    }

    /// The header at `position`, if a batch starts there and ends at or before `limit`.
    pub(crate) fn header_at(&mut self, position: u64, limit: u64) -> io::Result<Option<BatchHeader>> {
        if position.saturating_add(BATCH_HEADER_BYTES as u64) > limit {
            return Ok(None);
        }
        if position < self.start || position + BATCH_HEADER_BYTES as u64 > self.start + self.filled as u64 {
            let room = self.window.len();
            let sparse = self.last.is_some_and(|last| position.abs_diff(last) > room as u64 / 2);
            let want = if sparse { BATCH_HEADER_BYTES } else { room.min((limit - position) as usize) };
            self.start = position;
            self.filled = 0;
            let window = self.window.get_mut(..want).unwrap_or_default();
            self.filled = self.disk.read_at(self.file, window, position)?;
        }
        self.last = Some(position);
        let from = (position - self.start) as usize;
        let bytes = self.window.get(from..self.filled).unwrap_or_default();
        let header = BatchHeader::parse(bytes).ok();
        Ok(header.filter(|header| position + batch_bytes(header) <= limit))
    }
}

/// The known facts about a segment before a survey.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    /// The epoch of each batch: neither the CRC nor the sequence of offsets protects this field. Empty if the epochs
    /// are not known.
    pub(crate) epochs: &'a EpochHistory,
    /// Offset of the first batch.
    pub(crate) base: Offset,
    /// Below this offset nothing may be cut off: damage there is quarantined.
    pub(crate) durable: Offset,
    /// The base offset of the next segment, if it is known for certain.
    pub(crate) next_base: Option<Offset>,
    /// Bytes of the file.
    pub(crate) file_bytes: u64,
    /// Distance of index entries.
    pub(crate) interval_bytes: u32,
    /// Treats unreadable sectors as damage instead of an error.
    pub(crate) unreadable_is_damage: bool,
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// At its known end, at the end of the file, or at an all-zero header.
    Clean,
    /// Above the durable offset, at bytes that are no valid batch.
    Torn,
    /// In damage that reaches up to the durable offset.
    Lost,
    /// At unreadable sectors that may hold acknowledged records: the end of the log is not known.
    Unreadable,
}

/// The result of a survey.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The index of all sound batches, and the damaged ranges between them.
    pub(crate) index: Index,
    /// How it ends.
    pub(crate) ending: Ending,
    /// Bytes read and checked.
    pub(crate) scanned_bytes: u64,
    /// Leader epochs in the order they began.
    pub(crate) epochs: Vec<(LeaderEpoch, Offset)>,
}

/// Checks every batch of a segment: header, length, magic, contiguous offsets, epoch, CRC.
pub(crate) fn survey(disk: &dyn Disk, file: &File, bounds: Bounds<'_>) -> io::Result<Survey> {
    extend(disk, file, bounds, Index::new(bounds.base, bounds.interval_bytes))
}

/// Does the same from the end of `index` on; `index` covers the batches before.
pub(crate) fn extend(disk: &dyn Disk, file: &File, bounds: Bounds<'_>, mut index: Index) -> io::Result<Survey> {
    let mut reader = Checker::new(disk, file, bounds.epochs, bounds.file_bytes);
    reader.unreadable_is_damage = bounds.unreadable_is_damage;
    let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
    let ending = loop {
        let (position, expected) = (index.end_position(), index.end_offset());
        if bounds.next_base.is_some_and(|next| expected >= next) {
            break Ending::Clean;
        }
        match reader.check(position)? {
            Content::Batch(header) if header.base_offset == expected => {
                let (next, end) = (header.next_offset(), position + batch_bytes(&header));
                index.push(expected, position, next, end, header.max_timestamp);
                if epochs.last().is_none_or(|(epoch, _)| *epoch != header.partition_leader_epoch) {
                    epochs.push((header.partition_leader_epoch, expected));
                }
            }
            Content::Nothing if expected >= bounds.durable => break Ending::Clean,
            Content::Unreadable if expected >= bounds.durable => break Ending::Unreadable,
            _ if expected >= bounds.durable => break Ending::Torn,
            _ => {
                let limit = bounds.next_base.unwrap_or(bounds.durable).min(bounds.durable);
                let resumed = reader.resume(position, expected, limit)?;
                if resumed.is_none() && bounds.next_base.is_none() && reader.is_unreadable(position, bounds.file_bytes)
                {
                    break Ending::Unreadable;
                }
                let (offset, end) = resumed.unwrap_or((limit, bounds.file_bytes.max(position)));
                index.quarantine(Quarantine { offsets: expected.0..offset.0, positions: position..end });
                if resumed.is_none() {
                    break Ending::Lost;
                }
            }
        }
    };
    Ok(Survey { index, ending, scanned_bytes: reader.read_bytes, epochs })
}

/// Checks batches from `start` on, until one ends at or behind `until`. Returns the end of the last sound batch.
pub(crate) fn check_batches(
    disk: &dyn Disk,
    file: &File,
    epochs: &EpochHistory,
    start: (Offset, u64),
    until: u64,
    limit: u64,
) -> io::Result<u64> {
    let (mut expected, mut position) = start;
    let mut reader = Checker::new(disk, file, epochs, limit);
    let ahead = (until.saturating_sub(position) as usize).clamp(BATCH_HEADER_BYTES, WINDOW_BYTES);
    reader.window.resize(ahead, 0);
    reader.ahead = ahead;
    while position < until {
        match reader.check(position)? {
            Content::Batch(header) if header.base_offset == expected => {
                expected = header.next_offset();
                position += batch_bytes(&header);
            }
            _ => break,
        }
    }
    Ok(position)
}

/// Whether any byte from `position` to the end of the file is not zero or cannot be read.
pub(crate) fn holds_bytes(disk: &dyn Disk, file: &File, position: u64, file_bytes: u64) -> io::Result<bool> {
    // Reserved space that was never written is not read.
    let Some(mut at) = disk.next_data(file, position)? else { return Ok(false) };
    let mut buffer = vec![0; 64 << 10];
    while at < file_bytes {
        let read = match disk.read_at(file, &mut buffer, at) {
            Err(error) if is_unreadable(&error) => return Ok(true),
            read => read?,
        };
        if read == 0 {
            break;
        }
        // Without an early exit the compiler compares many bytes at a time.
        if buffer.get(..read).unwrap_or_default().iter().fold(0, |all, byte| all | byte) != 0 {
            return Ok(true);
        }
        at += read as u64;
    }
    Ok(false)
}

/// The bytes at a position.
pub(crate) enum Content {
    /// A batch whose CRC holds.
    Batch(BatchHeader),
    /// The end of the file, or zeros where a header would be.
    Nothing,
    /// Unreadable bytes, at least in part: they may be a batch.
    Unreadable,
    /// Any other bytes.
    Damage,
}

const WINDOW_BYTES: usize = 1 << 20;
const FIRST_READ_BYTES: usize = 4 << 10;

/// Reads a file from front to back in large pieces and checks its batches of any length in bounded memory.
pub(crate) struct Checker<'a> {
    disk: &'a dyn Disk,
    file: &'a File,
    epochs: &'a EpochHistory,
    file_bytes: u64,
    window: Vec<u8>,
    start: u64,
    filled: usize,
    /// How much to read next: little at first, because most files are short and reserved space follows.
    ahead: usize,
    read_bytes: u64,
    unreadable_is_damage: bool,
    /// Unreadable ranges, in the order in which the checker met them.
    unreadable: Vec<Range<u64>>,
}

impl<'a> Checker<'a> {
    /// A checker for a file of this length, whose batches are of these epochs.
    pub(crate) fn new(disk: &'a dyn Disk, file: &'a File, epochs: &'a EpochHistory, file_bytes: u64) -> Self {
        let window = vec![0; (file_bytes as usize).clamp(BATCH_HEADER_BYTES, WINDOW_BYTES)];
        Self {
            disk,
            file,
            epochs,
            file_bytes,
            window,
            start: 0,
            filled: 0,
            ahead: FIRST_READ_BYTES,
            read_bytes: 0,
            unreadable_is_damage: false,
            unreadable: Vec::new(),
        }
    }

    /// The bytes at `position`: at least `want` of them, if the file and the window have them.
    fn bytes_at(&mut self, position: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(self.window.len());
        let inside = position >= self.start && position + want as u64 <= self.start + self.filled as u64;
        if !inside {
            let kept = match position.checked_sub(self.start) {
                Some(skip) if (skip as usize) < self.filled => {
                    self.window.copy_within(skip as usize..self.filled, 0);
                    self.filled - skip as usize
                }
                _ => 0,
            };
            self.start = position;
            self.filled = kept;
            let end = want.max(kept + self.ahead).min(self.window.len());
            self.ahead = (self.ahead * 4).min(WINDOW_BYTES);
            let read = match self.window.get_mut(kept..end) {
                Some(room) => match self.disk.read_at(self.file, room, position + kept as u64) {
                    Err(error) if self.unreadable_is_damage && is_unreadable(&error) => read_around_unreadable(
                        self.disk,
                        self.file,
                        room,
                        position + kept as u64,
                        &mut self.unreadable,
                    )?,
                    read => read?,
                },
                None => 0,
            };
            self.filled = kept + read;
            self.read_bytes += read as u64;
        }
        let from = (position - self.start) as usize;
        Ok(self.window.get(from..self.filled).unwrap_or_default())
    }

    /// Whether a part of this range was unreadable.
    fn is_unreadable(&self, from: u64, to: u64) -> bool {
        self.unreadable.iter().any(|bad| bad.start < to && bad.end > from)
    }

    /// Checks the bytes at `position`.
    pub(crate) fn check(&mut self, position: u64) -> io::Result<Content> {
        let bytes = self.bytes_at(position, BATCH_HEADER_BYTES)?;
        let head = bytes.get(..BATCH_HEADER_BYTES.min(bytes.len())).unwrap_or_default();
        let is_zero = head.iter().all(|byte| *byte == 0);
        let header = BatchHeader::parse(head);
        if self.is_unreadable(position, position + BATCH_HEADER_BYTES as u64) {
            return Ok(Content::Unreadable);
        }
        if is_zero {
            return Ok(Content::Nothing);
        }
        let Ok(header) = header else { return Ok(Content::Damage) };
        let epoch = self.epochs.epoch_of(header.base_offset);
        let sound = header.base_offset.0 >= 0
            && epoch.is_none_or(|epoch| epoch == header.partition_leader_epoch)
            && header.next_offset().0 < i64::MAX
            && position + batch_bytes(&header) <= self.file_bytes;
        let sound = sound && self.crc_holds(position, &header)?;
        if self.is_unreadable(position, position.saturating_add(batch_bytes(&header)).min(self.file_bytes)) {
            return Ok(Content::Unreadable);
        }
        Ok(if sound { Content::Batch(header) } else { Content::Damage })
    }

    fn crc_holds(&mut self, position: u64, header: &BatchHeader) -> io::Result<bool> {
        /// The CRC covers everything from the attributes on.
        const COVERED_FROM: u64 = 21;
        if broken(Canary::SkipLastCrc) {
            return Ok(true);
        }
        let end = position + batch_bytes(header);
        let mut at = position + COVERED_FROM;
        let whole = (end - at) as usize;
        let bytes = self.bytes_at(at, whole)?;
        if let Some(covered) = bytes.get(..whole) {
            return Ok(crc_fast::crc32_iscsi(covered) == header.crc);
        }
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        while at < end {
            let bytes = self.bytes_at(at, (end - at) as usize)?;
            let covered = bytes.get(..bytes.len().min((end - at) as usize)).unwrap_or_default();
            if covered.is_empty() {
                return Ok(false);
            }
            digest.update(covered);
            at += covered.len() as u64;
        }
        Ok(digest.finalize() as u32 == header.crc)
    }

    /// The first sound batch behind the damage at `position` whose offset is above `expected` and not above `limit`:
    /// its offset and position. The search first follows the length field of the damaged batch, because a record may
    /// contain the bytes of a batch.
    pub(crate) fn resume(
        &mut self,
        position: u64,
        expected: Offset,
        limit: Offset,
    ) -> io::Result<Option<(Offset, u64)>> {
        let bytes = self.bytes_at(position, BATCH_HEADER_BYTES)?;
        let stated = BatchHeader::parse(bytes).ok().map(|header| position + batch_bytes(&header));
        for candidate in stated.into_iter().chain([position]) {
            if let Some(offset) = self.sound_at(candidate, expected, limit)? {
                return Ok(Some((offset, candidate)));
            }
        }
        let mut at = position + 1;
        while at + BATCH_HEADER_BYTES as u64 <= self.file_bytes {
            let bytes = self.bytes_at(at, BATCH_HEADER_BYTES)?;
            let hit = bytes.windows(BATCH_HEADER_BYTES).position(|head| looks_like_batch(head, expected, limit));
            let Some(skip) = hit else {
                at += (bytes.len() + 1).saturating_sub(BATCH_HEADER_BYTES).max(1) as u64;
                continue;
            };
            at += skip as u64;
            if let Some(offset) = self.sound_at(at, expected, limit)? {
                return Ok(Some((offset, at)));
            }
            at += 1;
        }
        Ok(None)
    }

    fn sound_at(&mut self, position: u64, expected: Offset, limit: Offset) -> io::Result<Option<Offset>> {
        let bytes = self.bytes_at(position, BATCH_HEADER_BYTES)?;
        let likely = bytes.get(..BATCH_HEADER_BYTES).is_some_and(|head| looks_like_batch(head, expected, limit));
        if likely && let Content::Batch(header) = self.check(position)? {
            return Ok(Some(header.base_offset));
        }
        Ok(None)
    }
}

/// Reads page by page. Fills unreadable pages with a value that starts no batch, and records them.
fn read_around_unreadable(
    disk: &dyn Disk,
    file: &File,
    room: &mut [u8],
    position: u64,
    unreadable: &mut Vec<Range<u64>>,
) -> io::Result<usize> {
    const PAGE_BYTES: u64 = 4096;
    let mut filled = 0;
    while filled < room.len() {
        let at = position + filled as u64;
        let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
        let want = ((page_end - at) as usize).min(room.len() - filled);
        let Some(page) = room.get_mut(filled..filled + want) else { break };
        let read = match disk.read_at(file, page, at) {
            Err(error) if is_unreadable(&error) => {
                page.fill(0xFF);
                unreadable.push(page_end - PAGE_BYTES..page_end);
                want
            }
            read => read?,
        };
        filled += read;
        if read < want {
            break;
        }
    }
    Ok(filled)
}

fn looks_like_batch(head: &[u8], expected: Offset, limit: Offset) -> bool {
    head.get(16) == Some(&2)
        && BatchHeader::parse(head).is_ok_and(|header| header.base_offset > expected && header.base_offset <= limit)
}
