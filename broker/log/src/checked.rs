//! The bytes of a segment that this process knows to be sound: it appended them, recovery scanned them, or their first
//! read checked them. All other bytes may have rotted on the disk, so the log checks them before it delivers them.
//!
//! This record outlives the open segment; at one bit per 64 KiB it is cheap to keep.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that one bit covers.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;
/// The length of the segment is not known yet.
const UNKNOWN: u64 = u64::MAX;

/// The checked parts of one segment.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Every byte from here on is checked: this process wrote it, or has scanned the whole segment.
    from: AtomicU64,
    /// One bit per chunk below `from`; empty before the first check.
    chunks: OnceLock<Box<[AtomicU64]>>,
}

impl Checked {
    /// A segment of which every byte counts as checked, later appends included.
    pub(crate) fn all() -> Self {
        Self { from: AtomicU64::new(0), chunks: OnceLock::new() }
    }

    /// A segment of which no byte is checked.
    pub(crate) fn none() -> Self {
        Self { from: AtomicU64::new(UNKNOWN), chunks: OnceLock::new() }
    }

    /// The segment was opened with `bytes` bytes: bytes behind them come from this process. Only the first call counts.
    pub(crate) fn set_length(&self, bytes: u64) {
        let _ = self.from.compare_exchange(UNKNOWN, bytes, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether all of these bytes are checked. One load is enough for bytes that this process wrote.
    pub(crate) fn covers(&self, position: u64, bytes: u64) -> bool {
        let from = self.from.load(Ordering::Acquire);
        if position >= from {
            return true;
        }
        let Some(chunks) = self.chunks.get() else { return false };
        let end = position.saturating_add(bytes).min(from);
        (position / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES)).all(|chunk| {
            let word = chunks.get((chunk / 64) as usize);
            word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (chunk % 64)) != 0)
        })
    }

    /// The whole segment was checked.
    pub(crate) fn note_all(&self) {
        self.from.store(0, Ordering::Release);
    }

    /// All batches between these positions were checked: marks the chunks that lie completely between them.
    pub(crate) fn note(&self, from: u64, to: u64) {
        let limit = self.from.load(Ordering::Acquire);
        if limit == UNKNOWN {
            return;
        }
        let chunks = self.chunks.get_or_init(|| {
            let words = limit.div_ceil(CHUNK_BYTES * 64) as usize;
            (0..words).map(|_| AtomicU64::new(0)).collect()
        });
        // The last chunk may be shorter than the others.
        let end = if to >= limit { limit.div_ceil(CHUNK_BYTES) } else { to / CHUNK_BYTES };
        for chunk in from.div_ceil(CHUNK_BYTES)..end {
            if let Some(word) = chunks.get((chunk / 64) as usize) {
                word.fetch_or(1 << (chunk % 64), Ordering::AcqRel);
            }
        }
    }

    /// Forgets all checks of a segment of `bytes` bytes, because its disk failed.
    pub(crate) fn forget(&self, bytes: u64) {
        self.from.store(bytes, Ordering::Release);
        for word in self.chunks.get().into_iter().flatten() {
            word.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_chunks_count_and_what_is_appended_counts_at_once() {
        let end = 10 * CHUNK_BYTES + 100;
        let checked = Checked::none();
        assert!(!checked.covers(0, 1));
        checked.set_length(end);
        assert!(!checked.covers(0, 1) && checked.covers(end, 1 << 30));
        checked.note(CHUNK_BYTES - 1, 3 * CHUNK_BYTES + 5);
        assert!(checked.covers(CHUNK_BYTES, 2 * CHUNK_BYTES));
        assert!(!checked.covers(CHUNK_BYTES - 1, 2) && !checked.covers(3 * CHUNK_BYTES, 1));
        checked.note(9 * CHUNK_BYTES, end);
        assert!(checked.covers(end - 1, 1000) && checked.covers(9 * CHUNK_BYTES, 2 * CHUNK_BYTES));
        checked.forget(end + 50);
        assert!(!checked.covers(end, 1) && !checked.covers(CHUNK_BYTES, 1) && checked.covers(end + 50, 1));
        checked.note_all();
        assert!(checked.covers(0, end));
    }
}
