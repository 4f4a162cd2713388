//! One compaction round: collects the keys of the dirty part, then rewrites each group of segments.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use ottla_wire::Offset;
use ottla_wire::record::Batch;

use super::filter::{Outcome, Verdict, filter};
use super::keys::{Full, KeyMap};
use super::output::{Output, Written};
use super::read::{BatchReader, Next};
use super::throttle::Throttle;
use super::{Candidate, CleanError, CleanOptions, CleanReport, Extent};
use crate::format::{SEGMENT_SUFFIX, STAGED_SUFFIX, segment_file_name};
use crate::partition::PartitionLog;
use crate::segment::Segment;

/// The keys of the dirty part.
pub(super) struct Keys {
    pub(super) map: KeyMap,
    /// Records at and above this offset are not in the map.
    pub(super) end: Offset,
}

/// One compaction round.
pub(super) struct Round<'a> {
    log: &'a PartitionLog,
    options: &'a CleanOptions<'a>,
    throttle: Throttle<'a>,
    pub(super) report: CleanReport,
    pub(super) next_horizon_ms: Option<i64>,
    /// The round skipped a batch or a segment: records that a later deletion marker deletes may still be there.
    markers_stay: bool,
    /// Sound segments stayed as they were although the map has their keys: the next round needs these keys again.
    pub(super) is_unfinished: bool,
}

impl<'a> Round<'a> {
    pub(super) fn new(log: &'a PartitionLog, options: &'a CleanOptions<'a>) -> Self {
        Self {
            log,
            options,
            throttle: Throttle::new(options.io_bytes_per_second, options.should_stop),
            report: CleanReport::default(),
            next_horizon_ms: None,
            markers_stay: false,
            is_unfinished: false,
        }
    }

    pub(super) fn collect_keys(&mut self, extent: &Extent) -> Result<Keys, CleanError> {
        // There are not more keys than offsets.
        let offsets: u64 = extent.dirty().map(|it| (it.end.0 - it.base().0) as u64).sum();
        let mut keys = Keys { map: KeyMap::new(offsets, self.options.key_map_bytes_max), end: extent.first_dirty };
        for candidate in extent.dirty() {
            // Without the keys of a removed segment, more records stay; that is safe.
            let Some(segment) = candidate.open(self.log)? else { continue };
            let mut reader = BatchReader::new(&segment, extent.first_dirty);
            // Keys behind damage are not needed: the records there stay.
            while let Next::Batch { batch, .. } = reader.next(&mut self.throttle)? {
                if batch.header.is_control() {
                    continue;
                }
                let Ok(records) = batch.records(self.options.unpacked_bytes_max) else { continue };
                for record in &records {
                    let Ok(record) = record else { break };
                    let offset = batch.header.offset_of(&record);
                    let Some(key) = record.key.filter(|_| offset >= extent.first_dirty) else { continue };
                    if offset < keys.end {
                        // The offsets do not rise: the filter will find this batch unreadable.
                        continue;
                    }
                    if keys.map.put(key, offset) == Err(Full) {
                        keys.end = offset;
                        self.report.bytes_read += reader.read_bytes;
                        return Ok(keys);
                    }
                }
                keys.end = batch.header.next_offset().max(keys.end);
            }
            self.report.bytes_read += reader.read_bytes;
            keys.end = candidate.end;
        }
        Ok(keys)
    }

    /// Rewrites a group of segments as one. If some are damaged, rewrites the parts between them.
    pub(super) fn rewrite(&mut self, group: &[Candidate], keys: &Keys) -> Result<(), CleanError> {
        let mut from = 0;
        for (at, candidate) in group.iter().enumerate() {
            let damaged = |segment: Arc<Segment>| !segment.index().quarantined().is_empty();
            if !candidate.open(self.log)?.is_some_and(damaged) {
                continue;
            }
            self.rewrite_sound(group.get(from..at).unwrap_or_default(), keys)?;
            self.pass_over(candidate);
            from = at + 1;
        }
        self.rewrite_sound(group.get(from..).unwrap_or_default(), keys)
    }

    fn pass_over(&mut self, candidate: &Candidate) {
        self.report.damaged_segments.push(candidate.base());
        self.markers_stay = true;
    }

    fn rewrite_sound(&mut self, group: &[Candidate], keys: &Keys) -> Result<(), CleanError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let path = staged_path(self.log, first.base());
        let written = self.write_group(group, keys, path.clone());
        let written = match written {
            Ok(GroupEnd::Written(written)) if written.index.end_offset() == last.end => written,
            Ok(GroupEnd::Same) => return Ok(()),
            Ok(GroupEnd::Gone) => {
                self.discard(&path);
                self.note_gone();
                return Ok(());
            }
            Ok(GroupEnd::Damaged(at)) => {
                Output::discard(&*self.log.disk(), &path);
                return self.rewrite_around(group, at, keys);
            }
            // Damage cut off the last batches: the index knows it, or the next read finds it.
            Ok(GroupEnd::Written(_)) => {
                Output::discard(&*self.log.disk(), &path);
                self.pass_over_all(group);
                return Ok(());
            }
            Err(error) => {
                self.discard(&path);
                return Err(error);
            }
        };
        let before: u64 = group.iter().map(|candidate| candidate.bytes).sum();
        let after = written.index.end_position();
        // If no record has a timestamp, retention uses the date of the file.
        let path_of = |old: &Candidate| self.log.directory().join(segment_file_name(old.base(), SEGMENT_SUFFIX));
        let modified = group.iter().filter_map(|old| fs::metadata(path_of(old)).and_then(|it| it.modified()).ok());
        if let Some(modified) = modified.max()
            && let Err(error) = self.log.disk().set_modified(&written.file, modified)
        {
            tracing::debug!(partition = %self.log.name(), %error, "cannot set the date of a compacted segment; retention uses the date of its file");
        }
        if self.install(first.base()..last.end, written)? {
            self.report.segments_replaced += group.len();
            self.report.segments_written += 1;
            self.report.bytes_written += after;
            self.report.bytes_freed += before.saturating_sub(after);
        } else {
            self.note_gone();
        }
        Ok(())
    }

    /// Removes the unfinished file, unless the directory may belong to a later partition of the same name.
    fn discard(&self, path: &Path) {
        if !self.log.is_deleted() {
            Output::discard(&*self.log.disk(), path);
        }
    }

    /// Some segments of the group were removed, maybe not all of them.
    fn note_gone(&mut self) {
        self.markers_stay = true;
        self.is_unfinished = true;
    }

    /// Leaves a whole group as it is, because it is not known which of its segments is damaged.
    fn pass_over_all(&mut self, group: &[Candidate]) {
        for candidate in group {
            self.pass_over(candidate);
        }
    }

    /// Replaces the old segments by the new one. Returns false if they are not in the log any more.
    fn install(&self, run: Range<Offset>, written: Written) -> Result<bool, CleanError> {
        let Written { path, file, index } = written;
        if let Err(error) = self.log.disk().sync_data(&file) {
            Output::discard(&*self.log.disk(), &path);
            let error = CleanError::from(error);
            if let CleanError::Io { source } = &error {
                self.log.take_offline_after("fdatasync of a compacted segment", source);
            }
            return Err(error);
        }
        let start = run.start;
        match self.log.replace_slots(run, &path) {
            Ok(()) => {
                self.log.unless_deleted(|| {
                    self.log.store_index(start, &index);
                });
                Ok(true)
            }
            // Retention or a deletion removed them first.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || self.log.is_deleted() => {
                self.discard(&path);
                Ok(false)
            }
            Err(error) => {
                if self.log.offline_reason().is_none() {
                    Output::discard(&*self.log.disk(), &path);
                }
                Err(error.into())
            }
        }
    }

    /// Rewrites the segments before and behind the damaged one, which stays as it is.
    fn rewrite_around(&mut self, group: &[Candidate], at: Offset, keys: &Keys) -> Result<(), CleanError> {
        let hit = |candidate: &Candidate| candidate.base() <= at && at < candidate.end;
        if !group.iter().any(hit) {
            // There are bytes behind the last batch of the group, and no offset tells where.
            self.pass_over_all(group);
            return Ok(());
        }
        for part in group.split_inclusive(hit) {
            let (sound, bad) = match part.split_last() {
                Some((last, sound)) if hit(last) => (sound, Some(last)),
                _ => (part, None),
            };
            if !sound.is_empty() {
                self.rewrite_sound(sound, keys)?;
            }
            if let Some(bad) = bad {
                tracing::error!(
                    partition = %self.log.name(),
                    segment = bad.base().0,
                    offset = at.0,
                    "a damaged segment is not compacted"
                );
                self.pass_over(bad);
            }
        }
        Ok(())
    }

    fn write_group(&mut self, group: &[Candidate], keys: &Keys, path: PathBuf) -> Result<GroupEnd, CleanError> {
        let Some(first) = group.first() else { return Ok(GroupEnd::Same) };
        let Some(opened) = first.open(self.log)? else { return Ok(GroupEnd::Gone) };
        let interval_bytes = self.log.options().index_interval_bytes;
        let mut output = Output::new(self.log.disk(), path, opened, interval_bytes);
        let mut thinned = Vec::new();
        for candidate in group {
            let Some(segment) = candidate.open(self.log)? else { return Ok(GroupEnd::Gone) };
            let segment = &*segment;
            let mut reader = BatchReader::new(segment, segment.base_offset());
            loop {
                let (batch, position) = match reader.next(&mut self.throttle)? {
                    Next::Batch { batch, position } => (batch, position),
                    Next::End => break,
                    Next::Damaged(at) => return Ok(GroupEnd::Damaged(at)),
                };
                let header = batch.header;
                thinned.clear();
                match self.filter(&batch, keys, &mut thinned) {
                    Outcome::Kept => output.keep(batch.bytes, segment, position, &mut self.throttle)?,
                    Outcome::Opaque => {
                        self.report.opaque_batches += 1;
                        self.markers_stay = true;
                        output.keep(batch.bytes, segment, position, &mut self.throttle)?;
                    }
                    Outcome::Rewritten => output.put(&thinned, &mut self.throttle)?,
                    Outcome::Emptied if header.is_idempotent() && (self.options.is_producer_end)(&header) => {
                        output.put_empty(batch.bytes, &header, segment, position, &mut self.throttle)?;
                    }
                    Outcome::Emptied => {
                        output.drop_batch(batch.bytes, &header, segment, position, &mut self.throttle)?;
                    }
                }
            }
            self.report.bytes_read += reader.read_bytes;
        }
        Ok(output.finish(&mut self.throttle)?.map_or(GroupEnd::Same, GroupEnd::Written))
    }

    fn filter(&mut self, batch: &Batch<'_>, keys: &Keys, out: &mut Vec<u8>) -> Outcome {
        let CleanOptions { now_ms, delete_retention_ms, unpacked_bytes_max, .. } = *self.options;
        let horizon_ms = now_ms.saturating_add(delete_retention_ms.max(0));
        let standing = batch.header.delete_horizon();
        let (mut removed, mut has_markers) = (0, false);
        let outcome = filter(
            batch,
            unpacked_bytes_max,
            horizon_ms,
            |offset, record| {
                // Nothing replaces a record without a key. A record that is not in the map waits for the next round.
                let Some(key) = record.key.filter(|_| offset < keys.end) else { return Verdict::Keep };
                if keys.map.last(key).is_some_and(|last| last > offset) {
                    removed += 1;
                    return Verdict::Drop;
                }
                if record.value.is_some() {
                    return Verdict::Keep;
                }
                if !self.markers_stay && standing.is_some_and(|horizon| horizon < now_ms) {
                    removed += 1;
                    return Verdict::Drop;
                }
                has_markers = true;
                Verdict::Expire
            },
            out,
        );
        if matches!(outcome, Outcome::Rewritten | Outcome::Emptied) {
            self.report.records_removed += removed;
        }
        if has_markers && !self.markers_stay && outcome != Outcome::Opaque {
            let horizon = standing.unwrap_or(horizon_ms);
            self.next_horizon_ms = Some(self.next_horizon_ms.map_or(horizon, |next| next.min(horizon)));
        }
        outcome
    }
}

fn staged_path(log: &PartitionLog, base: Offset) -> PathBuf {
    log.directory().join(segment_file_name(base, STAGED_SUFFIX))
}

/// How the writing of a group ended.
enum GroupEnd {
    /// With a new segment.
    Written(Written),
    /// Without one: nothing would change.
    Same,
    /// At damage at this offset.
    Damaged(Offset),
    /// At a segment that was removed.
    Gone,
}
