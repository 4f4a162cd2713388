//! Recovers one partition: finds its segments, checks the bytes that may be unfinished, cuts or quarantines, and raises
//! the epoch if records that consumers saw may be gone.
//!
//! Below the persisted durable offset, recovery cuts nothing: it quarantines damage with its range. Above it, the first
//! bad batch is the end: recovery cuts it off with everything behind it, and the cut is synced before any append.
//! Recovery itself syncs nothing; the log directory syncs for all partitions together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use crate::canary::{Canary, broken};
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::clean::forget_beyond;
use crate::dir_state::DirState;
use crate::epochs::EpochHistory;
use crate::error::OpenError;
use crate::format::{
    INDEX_SUFFIX, INDEX_WORTH_BYTES, PartitionName, SEGMENT_SUFFIX, STAGED_SUFFIX, UNFINISHED_INDEX_SUFFIX,
    parse_segment_file_name, parse_swap_file_name, segment_file_name,
};
use crate::index::Index;
use crate::options::{Durability, PartitionOptions};
use crate::partition::{
    DeferredWrites, Leftovers, Meta, Opened, PartitionLog, QuarantinedRange, Replacement, write_index,
};
use crate::report::TruncatedRange;
use crate::scan::{Bounds, Ending, Survey, holds_bytes, survey};
use crate::state_file::{StateReadError, StateWriteError, is_full};
use crate::{LeaderEpoch, Offset};

/// How the last process left the log directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastRun {
    /// With a clean shutdown: each partition ends where its checkpoint says.
    Closed,
    /// Without a clean shutdown.
    Killed,
    /// Without a clean shutdown, but everything written was synced since.
    KilledAndSynced,
}

/// A recovered partition, and the work that is left before its first use.
pub(crate) struct Recovered {
    opened: Opened,
    /// Files and directories that the caller has to sync.
    pub(crate) unsynced: Vec<PathBuf>,
    /// `partition.meta` has to be written.
    pub(crate) meta_changed: bool,
    /// Writes that found no space on the disk.
    deferred: DeferredWrites,
    /// The log is durable beyond its checkpoint.
    pub(crate) advanced: bool,
    pub(crate) findings: Findings,
}

/// One partition's part of the report.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) scanned: bool,
    /// Base offset of the first scanned segment; all later ones were scanned too.
    pub(crate) scanned_from: Option<Offset>,
    pub(crate) bytes_scanned: u64,
    pub(crate) truncated: Option<TruncatedRange>,
    pub(crate) quarantined: Vec<QuarantinedRange>,
    pub(crate) indexes_rebuilt: usize,
    pub(crate) meta_rebuilt: bool,
    pub(crate) epoch_raised: bool,
}

impl Recovered {
    pub(crate) fn name(&self) -> &PartitionName {
        &self.opened.meta.name
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.opened.directory
    }

    /// Writes the checkpoint, after the changes of recovery were synced. Returns the paths that the caller has to sync.
    pub(crate) fn write_checkpoint(&mut self) -> io::Result<Vec<PathBuf>> {
        let Opened { bases, log_start, end, active_bytes, checkpoint, persisted, .. } = &mut self.opened;
        let (durable, log_start, active_bytes) = (*end, *log_start, *active_bytes);
        let active_base = bases.last().copied().unwrap_or(durable);
        let reached = Checkpoint { durable, log_start, active_base, active_bytes };
        match checkpoint.write(reached) {
            Err(error) if is_full(&error) => {
                // The older checkpoint is still true: the next start only reads more than needed.
                *persisted = None;
                Ok(Vec::new())
            }
            written => {
                *persisted = Some(reached);
                written
            }
        }
    }

    /// Writes `partition.meta` beside the old one; [`finish_meta`](Self::finish_meta) renames it. `None` if there is no
    /// space.
    pub(crate) fn stage_meta(&mut self, dir: &DirState) -> Result<Option<PathBuf>, StateWriteError> {
        match PartitionLog::meta_file(dir, &self.opened.directory).stage(&self.opened.meta.encode()) {
            Err(error) if error.is_full() => {
                self.deferred.meta = true;
                Ok(None)
            }
            staged => staged.map(Some),
        }
    }

    pub(crate) fn finish_meta(&mut self, dir: &DirState) -> Result<(), StateWriteError> {
        let file = PartitionLog::meta_file(dir, &self.opened.directory);
        if !self.deferred.meta {
            return file.install();
        }
        match file.write(&self.opened.meta.encode()) {
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "the disk is full: the write of partition.meta is deferred to the next append");
                Ok(())
            }
            written => {
                self.deferred.meta = false;
                written
            }
        }
    }

    pub(crate) fn into_log(self, dir: Arc<DirState>) -> Arc<PartitionLog> {
        let log = PartitionLog::new(dir, self.opened);
        if let Some(base) = self.findings.scanned_from {
            log.note_scanned(base);
        }
        log.take_damage(self.findings.quarantined);
        log.defer(self.deferred);
        log
    }
}

/// Recovers the partition in `directory`.
pub(crate) fn recover(
    dir: &DirState,
    directory: PathBuf,
    name: PartitionName,
    last_run: LastRun,
) -> Result<Recovered, OpenError> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    let stored = read_meta(dir, &directory, &name)?;
    let mut findings = Findings { meta_rebuilt: stored.is_none(), ..Findings::default() };
    let meta = stored.unwrap_or_else(|| Meta {
        name,
        topic_id: Uuid::nil(),
        options: PartitionOptions::default(),
        epochs: EpochHistory::default(),
    });
    let (checkpoint, persisted) = CheckpointFile::open(dir.disk.clone(), &directory).map_err(at(&directory))?;
    let mut leftovers = Leftovers::default();
    let swapped = finish_swaps(dir, &directory, &mut leftovers).map_err(at(&directory))?;
    let log_start = persisted.map_or(Offset(0), |it| it.log_start);
    let bases = list_segments(dir, &directory, log_start, &mut leftovers).map_err(at(&directory))?;
    let mut recovery = Recovery {
        dir,
        last_run,
        directory: &directory,
        findings: &mut findings,
        meta,
        bases,
        leftovers,
        unsynced: swapped,
        deferred: DeferredWrites::default(),
        unreadable: None,
    };
    let is_closed = last_run == LastRun::Closed && !recovery.findings.meta_rebuilt;
    let known = persisted.filter(|it| is_closed && recovery.ends_at_checkpoint(it));
    let (end, active_bytes) = match known {
        Some(checkpoint) => (checkpoint.durable, checkpoint.active_bytes),
        None => match recovery.scan(persisted) {
            Ok(scanned) => scanned,
            Err(source) => {
                let Some(UnreadableEnd { segment_base, offset, position }) = recovery.unreadable else {
                    return Err(at(&directory)(source));
                };
                let path = recovery.segment_path(segment_base);
                return Err(OpenError::Unreadable { path, position, offset });
            }
        },
    };
    let Recovery { meta, bases, leftovers, mut unsynced, deferred, .. } = recovery;
    if findings.scanned && forget_beyond(&dir.disk, &directory, end).map_err(at(&directory))? {
        unsynced.push(directory.clone());
    }
    let log_start = log_start.min(end);
    if let Some(first) = bases.first().filter(|first| **first > log_start) {
        let (offsets, segment_base) = (log_start.0..first.0, log_start);
        findings.quarantined.insert(0, QuarantinedRange { offsets, segment_base, positions: 0..0 });
    }
    let meta_changed = findings.meta_rebuilt || findings.epoch_raised;
    let advanced = persisted.is_none_or(|persisted| persisted.durable != end);
    let (persisted, unreadable) = (known, None);
    let opened =
        Opened { directory, meta, bases, log_start, end, active_bytes, checkpoint, persisted, unreadable, leftovers };
    Ok(Recovered { opened, unsynced, meta_changed, deferred, advanced, findings })
}

fn read_meta(dir: &DirState, directory: &Path, name: &PartitionName) -> Result<Option<Meta>, OpenError> {
    let stored = match PartitionLog::meta_file(dir, directory).read() {
        Ok(bytes) => bytes.and_then(|bytes| Meta::decode(&bytes)),
        Err(StateReadError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    match stored {
        Some(meta) if meta.name != *name => {
            Err(OpenError::Misplaced { path: directory.to_path_buf(), found: meta.name })
        }
        other => Ok(other),
    }
}

/// Finishes the replacements that a crash interrupted, and removes files of those that never counted. Returns the paths
/// that the caller has to sync. Work that a full disk prevents goes into `leftovers`.
fn finish_swaps(dir: &DirState, directory: &Path, leftovers: &mut Leftovers) -> io::Result<Vec<PathBuf>> {
    let (mut runs, mut bases) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(STAGED_SUFFIX) {
            ignore_full(dir.disk.remove_file(&entry.path()))?;
        }
        runs.extend(parse_swap_file_name(name).map(|run| (run, entry.path())));
        bases.extend(parse_segment_file_name(name, SEGMENT_SUFFIX));
    }
    let swapped = if runs.is_empty() { Vec::new() } else { vec![directory.to_path_buf()] };
    for (run, swap) in runs {
        let replaced = bases.iter().copied().filter(|base| run.contains(base)).collect();
        let replacement = Replacement { swap, start: run.start, replaced };
        match finish_swap(dir, directory, &replacement) {
            Err(error) if is_full(&error) => leftovers.replacements.push(replacement),
            finished => finished?,
        }
    }
    Ok(swapped)
}

fn finish_swap(dir: &DirState, directory: &Path, replacement: &Replacement) -> io::Result<()> {
    let Replacement { swap, start, replaced } = replacement;
    let at = |base: &Offset, suffix| directory.join(segment_file_name(*base, suffix));
    for base in replaced {
        dir.disk.remove_file(&at(base, INDEX_SUFFIX))?;
        if base != start {
            dir.disk.remove_file(&at(base, SEGMENT_SUFFIX))?;
        }
    }
    // The replaced files must be gone before the `.swap` name, which is the only record of the replacement.
    dir.disk.sync_dir(directory)?;
    dir.disk.rename(swap, &at(start, SEGMENT_SUFFIX))
}

/// Startup needs no space: a removal may wait until there is some.
fn ignore_full(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if is_full(&error) => Ok(()),
        removed => removed,
    }
}

/// The base offsets of all segments, in order. Removes the segments that are completely below the log start, and index
/// files without a segment.
fn list_segments(
    dir: &DirState,
    directory: &Path,
    log_start: Offset,
    leftovers: &mut Leftovers,
) -> io::Result<Vec<Offset>> {
    let (mut bases, mut indexes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(base) = parse_segment_file_name(name, SEGMENT_SUFFIX) {
            bases.push(base);
        } else if let Some(base) = parse_segment_file_name(name, INDEX_SUFFIX) {
            indexes.push((base, entry.path()));
        } else if parse_segment_file_name(name, UNFINISHED_INDEX_SUFFIX).is_some() {
            ignore_full(dir.disk.remove_file(&entry.path()))?;
        }
    }
    for Replacement { start, replaced, .. } in &leftovers.replacements {
        bases.retain(|base| !replaced.contains(base));
        bases.push(*start);
    }
    bases.sort_unstable();
    let below = bases.partition_point(|base| *base <= log_start).saturating_sub(1);
    let in_swap_file = |base: &Offset| leftovers.replacements.iter().any(|replacement| replacement.start == *base);
    // A segment in a `.swap` file is removed after its rename.
    let below = bases.iter().take(below).take_while(|base| !in_swap_file(base)).count();
    for base in bases.drain(..below) {
        match dir.disk.remove_file(&directory.join(segment_file_name(base, SEGMENT_SUFFIX))) {
            Err(error) if is_full(&error) => leftovers.removed.push(base),
            removed => removed?,
        }
    }
    for (base, path) in indexes {
        if bases.binary_search(&base).is_err() {
            ignore_full(dir.disk.remove_file(&path))?;
        }
    }
    Ok(bases)
}

/// The scan of one partition.
struct Recovery<'a> {
    dir: &'a DirState,
    last_run: LastRun,
    directory: &'a Path,
    findings: &'a mut Findings,
    meta: Meta,
    bases: Vec<Offset>,
    leftovers: Leftovers,
    unsynced: Vec<PathBuf>,
    deferred: DeferredWrites,
    unreadable: Option<UnreadableEnd>,
}

/// The position of unreadable bytes that may have been acknowledged.
struct UnreadableEnd {
    segment_base: Offset,
    offset: Offset,
    position: u64,
}

impl Recovery<'_> {
    fn segment_path(&self, base: Offset) -> PathBuf {
        if let Some(in_swap_file) = self.leftovers.replacements.iter().find(|replacement| replacement.start == base) {
            return in_swap_file.swap.clone();
        }
        self.directory.join(segment_file_name(base, SEGMENT_SUFFIX))
    }

    fn index_path(&self, base: Offset) -> PathBuf {
        self.directory.join(segment_file_name(base, INDEX_SUFFIX))
    }

    /// Whether the log ends exactly where the checkpoint of a clean shutdown says.
    fn ends_at_checkpoint(&self, checkpoint: &Checkpoint) -> bool {
        self.bases.last() == Some(&checkpoint.active_base)
            && checkpoint.durable >= checkpoint.active_base
            && fs::metadata(self.segment_path(checkpoint.active_base))
                .is_ok_and(|metadata| metadata.len() == checkpoint.active_bytes)
    }

    /// Checks every segment that may hold unfinished bytes. Returns the offset after the last record kept, and the
    /// length of the last segment.
    fn scan(&mut self, checkpoint: Option<Checkpoint>) -> io::Result<(Offset, u64)> {
        self.findings.scanned = true;
        // Without a checkpoint only closed segments are known to be durable: the log syncs a segment after a roll.
        let durable = checkpoint.map_or(self.bases.last().copied().unwrap_or(Offset(0)), |it| it.durable);
        let first = if self.findings.meta_rebuilt {
            // The epochs have to be collected from all batches.
            0
        } else {
            self.bases.partition_point(|base| *base <= durable).saturating_sub(1)
        };
        self.findings.scanned_from = self.bases.get(first).copied();
        let mut epochs = Vec::new();
        let mut end = self.bases.get(first).copied().unwrap_or(durable);
        let (mut open_end, mut active_bytes) = (false, 0);
        let mut at = first;
        while let Some(base) = self.bases.get(at).copied() {
            // The checkpoint names the synced position, unless it was not known when the checkpoint was written.
            let known = checkpoint.filter(|it| it.active_base == base && it.active_bytes != u64::MAX);
            let unsure_from = known.map_or(0, |it| it.active_bytes);
            let found = self.scan_segment(base, durable, self.bases.get(at + 1).copied(), unsure_from)?;
            end = found.index.end_offset();
            open_end = found.ending != Ending::Lost;
            active_bytes = found.index.end_position();
            epochs.extend(found.epochs);
            at += 1;
            if self.bases.get(at).is_some_and(|next| *next != end) {
                self.remove_behind(at, end)?;
            }
        }
        if !open_end {
            // No append goes behind damage: the log continues in a new segment.
            self.begin_segment(end)?;
            active_bytes = 0;
        }
        self.raise_epoch(&epochs, end);
        Ok((end, active_bytes))
    }

    fn scan_segment(
        &mut self,
        base: Offset,
        durable: Offset,
        next: Option<Offset>,
        unsure_from: u64,
    ) -> io::Result<Survey> {
        let disk = &*self.dir.disk;
        let file = disk.open(&self.segment_path(base), true)?;
        let file_bytes = file.metadata()?.len();
        let next_base = next.filter(|next| *next <= durable);
        let interval_bytes = self.meta.options.index_interval_bytes;
        let epochs = &self.meta.epochs;
        if next_base.is_none() {
            // After a failed fsync the page cache may hold bytes that never reach the disk, so recovery syncs, drops
            // the cache and rereads.
            if self.last_run != LastRun::KilledAndSynced {
                disk.sync_data(&file)?;
            }
            disk.forget_cached(&file, unsure_from);
        }
        let bounds =
            Bounds { epochs, base, durable, next_base, file_bytes, interval_bytes, unreadable_is_damage: true };
        let found = survey(disk, &file, bounds)?;
        if found.ending == Ending::Unreadable {
            // No byte of the file was changed, and none will be.
            let (offset, position) = (found.index.end_offset(), found.index.end_position());
            self.unreadable = Some(UnreadableEnd { segment_base: base, offset, position });
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.findings.bytes_scanned += found.scanned_bytes;
        self.findings.quarantined.extend(found.index.quarantined().iter().map(|range| QuarantinedRange {
            offsets: range.offsets.clone(),
            segment_base: base,
            positions: range.positions.clone(),
        }));
        let (end, position) = (found.index.end_offset(), found.index.end_position());
        // Zeros up to the end of the file are reserved space and may stay. If other bytes follow, even behind zeros,
        // they are older and must not come back.
        let torn = file_bytes > position && holds_bytes(disk, &file, position, file_bytes)?;
        if torn && !broken(Canary::KeepTornTail) {
            self.note_truncated(base, end, position, file_bytes - position);
            disk.set_len(&file, position)?;
        }
        if torn || end > durable {
            self.unsynced.push(self.segment_path(base));
        }
        self.keep_index(base, &found.index)?;
        Ok(found)
    }

    fn keep_index(&mut self, base: Offset, index: &Index) -> io::Result<()> {
        let active = self.bases.last() == Some(&base);
        let path = self.index_path(base);
        if active && index.end_position() < INDEX_WORTH_BYTES {
            // An index file of an earlier time could pass for the beginning of this index.
            let removed = if path.exists() { self.dir.disk.remove_file(&path) } else { Ok(()) };
            match removed {
                // On a full disk the file gets the correct content instead.
                Err(error) if is_full(&error) => {}
                removed => return removed,
            }
        }
        if fs::read(&path).is_ok_and(|stored| stored == index.encode()) {
            return Ok(());
        }
        // The index of the active segment was only in memory: rebuilding it is normal.
        self.findings.indexes_rebuilt += usize::from(!active);
        match write_index(&*self.dir.disk, &path, index) {
            // Recovery must not need space: the index is rebuilt when it is needed.
            Err(error) if is_full(&error) => Ok(()),
            other => other,
        }
    }

    fn note_truncated(&mut self, segment_base: Offset, end_offset: Offset, position: u64, bytes: u64) {
        let cut = self.findings.truncated.get_or_insert_with(|| TruncatedRange {
            partition: self.meta.name.clone(),
            segment_base,
            end_offset,
            position,
            bytes: 0,
            segments_removed: 0,
        });
        cut.bytes += bytes;
    }

    /// Removes the segments from index `from` on, because the log ends before them.
    fn remove_behind(&mut self, from: usize, end: Offset) -> io::Result<()> {
        let behind = self.bases.split_off(from);
        let last = self.bases.last().copied().unwrap_or(end);
        for base in &behind {
            let path = self.segment_path(*base);
            let bytes = fs::metadata(&path)?.len();
            self.note_truncated(last, end, 0, bytes);
            self.dir.disk.remove_file(&path)?;
            self.dir.disk.remove_file(&self.index_path(*base))?;
        }
        if let Some(cut) = &mut self.findings.truncated {
            cut.segments_removed += behind.len();
        }
        self.unsynced.push(self.directory.to_path_buf());
        Ok(())
    }

    fn begin_segment(&mut self, base: Offset) -> io::Result<()> {
        match self.dir.disk.create(&self.segment_path(base)) {
            // The segment is empty: the next append creates it first.
            Err(error) if is_full(&error) => self.deferred.segment = Some(base),
            created => {
                created?;
                self.unsynced.extend([self.segment_path(base), self.directory.to_path_buf()]);
            }
        }
        self.bases.push(base);
        Ok(())
    }

    /// Raises the epoch if records that consumers saw may be gone, so that those consumers notice.
    fn raise_epoch(&mut self, seen: &[(LeaderEpoch, Offset)], end: Offset) {
        if self.findings.meta_rebuilt {
            self.meta.epochs = EpochHistory::from_entries(seen.iter().copied());
        }
        let exposed = self.meta.options.durability == Durability::PageCache;
        if self.findings.truncated.is_some() || self.findings.meta_rebuilt || exposed {
            let greatest = seen.iter().map(|(epoch, _)| *epoch).chain(self.meta.epochs.latest()).max();
            self.meta.epochs.begin(LeaderEpoch(greatest.map_or(0, |epoch| epoch.0.saturating_add(1))), end);
            self.findings.epoch_raised = true;
        }
    }
}
