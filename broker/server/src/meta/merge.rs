//! One state out of all copies: each record and each change comes from a copy that has it whole.
//!
//! A change is written to the first copy, synced, then written to the second. So after a power cut at any moment the first
//! copy has every change of the second; an unfinished change is at the end of one copy and not in the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;

use super::MetaError;
use super::contents::{Change, Contents};
use super::frame::{Kind, Scan, VERSION};

/// As many numbers of what is gone are collected: more do not help the operator.
const LISTED_MAX: usize = 1000;

/// A copy as it was found on the disk.
#[derive(Debug)]
pub(super) struct FoundCopy {
    pub(super) path: PathBuf,
    pub(super) found: Found,
}

/// What is where a copy may be.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// The system refused to read it.
    Unreadable(String),
    Bytes(Scan),
}

impl FoundCopy {
    pub(super) fn scan(&self) -> Option<&Scan> {
        match &self.found {
            Found::Bytes(scan) => Some(scan),
            Found::Nothing | Found::Unreadable(_) => None,
        }
    }
}

/// What a copy amounts to beside the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has everything.
    Whole,
    /// There is none.
    Absent,
    /// It was not written to when the last changes were made.
    Behind {
        /// Its last change.
        last: u64,
        /// The last change of the store.
        of: u64,
    },
    /// The end of a change that no process finished.
    Torn,
    /// Its frames are whole; bytes behind its end are not zero.
    Littered {
        /// How many.
        bytes: usize,
    },
    /// These bytes do not read; everything else in it does.
    Damaged {
        /// Where, and how many bytes.
        places: Vec<(u64, u64)>,
    },
    /// Nothing in it reads.
    Illegible,
    /// The system refused to read it.
    Unreadable(String),
    /// It is a copy of another store.
    Foreign(Uuid),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Absent => f.write_str("not there"),
            Self::Behind { last, of } => write!(f, "behind: its last change is {last} of {of}"),
            Self::Torn => f.write_str("ends with a change that was not finished"),
            Self::Littered { bytes } => {
                write!(f, "damaged behind its end: {bytes} bytes are not zero, no record is lost")
            }
            Self::Damaged { places } => {
                let places: Vec<_> = places.iter().map(|(at, bytes)| format!("{bytes} bytes at byte {at}")).collect();
                write!(f, "damaged: {}", places.join(", "))
            }
            Self::Illegible => f.write_str("damaged: nothing in it can be read"),
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
            Self::Foreign(store) => write!(f, "a copy of other metadata, {store}"),
        }
    }
}

/// What no copy has whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records of the last snapshot: how many there were, and which are gone, counted from 0.
    pub records: Option<(u64, Vec<u64>)>,
    /// Changes since, by sequence.
    pub changes: Vec<u64>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[u64]| {
            let shown: Vec<_> = numbers.iter().take(10).map(u64::to_string).collect();
            let more = if numbers.len() > 10 { format!(" and {} more", numbers.len() - 10) } else { String::new() };
            format!("{}{more}", shown.join(", "))
        };
        match &self.records {
            Some((0, _)) => f.write_str("an unknown number of records")?,
            Some((of, gone)) => write!(f, "{} of {of} records (number {})", gone.len(), list(gone))?,
            None => {}
        }
        if !self.changes.is_empty() {
            let separator = if self.records.is_some() { " and " } else { "" };
            let noun = if self.changes.len() == 1 { "change" } else { "changes" };
            write!(f, "{separator}{} {noun} (number {})", self.changes.len(), list(&self.changes))?;
        }
        Ok(())
    }
}

/// All copies put together.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) store: Option<Uuid>,
    /// Everything that reads.
    pub(super) contents: Contents,
    /// The last change, read or lost.
    pub(super) sequence: u64,
    pub(super) loss: Option<Loss>,
    /// The first copy shows that there is no later change: it surely had every one.
    pub(super) is_latest: bool,
    /// In the order of the copies.
    pub(super) verdicts: Vec<Verdict>,
}

/// Puts the copies together; the first one is written to first. An error is a copy that a newer release wrote.
pub(super) fn merge(copies: &[FoundCopy]) -> Result<Merged, MetaError> {
    let heads = || copies.iter().filter_map(|copy| Some((copy, copy.scan()?.head?)));
    if let Some((copy, head)) = heads().find(|(_, head)| head.version > VERSION) {
        return Err(MetaError::Newer { path: copy.path.clone(), found: head.version, known: VERSION });
    }
    let store = heads().next().map(|(_, head)| head.store);
    let is_foreign = |scan: &Scan| scan.head.is_some_and(|head| Some(head.store) != store);
    let ours: Vec<&Scan> = copies.iter().filter_map(FoundCopy::scan).filter(|scan| !is_foreign(scan)).collect();
    let pool = Pool::of(&ours);
    let (base, sequence, mut loss) = pool.reach();
    if pool.snapshots.is_empty() && copies.iter().any(|copy| !matches!(copy.found, Found::Nothing)) {
        loss.records = Some((0, Vec::new()));
    }
    // The copies are written one after the other: a change cannot be unfinished at the end of two of them.
    let torn_at_end = ours.iter().filter(|scan| scan.is_torn && last_of(scan) == Some(sequence)).count();
    if torn_at_end > 1 {
        loss.changes.push(sequence + 1);
    }
    let is_lost = loss.records.is_some() || !loss.changes.is_empty();
    let contents = if is_lost { pool.salvage()? } else { pool.contents(base, sequence)? };
    let last = sequence.max(loss.changes.last().copied().unwrap_or(0));
    let verdict = |copy: &FoundCopy| match &copy.found {
        Found::Nothing => Verdict::Absent,
        Found::Unreadable(error) => Verdict::Unreadable(error.clone()),
        Found::Bytes(scan) => match scan.head.filter(|_| is_foreign(scan)) {
            Some(head) => Verdict::Foreign(head.store),
            None => judge(scan, last),
        },
    };
    let verdicts: Vec<Verdict> = copies.iter().map(verdict).collect();
    let ends_cleanly = |scan: &Scan| scan.litter_bytes == 0 || scan.is_torn || scan.damaged.is_empty();
    let is_latest = copies
        .first()
        .and_then(FoundCopy::scan)
        .is_some_and(|scan| !is_foreign(scan) && ends_cleanly(scan) && last_of(scan) == Some(last));
    Ok(Merged { store, contents, sequence: last, loss: is_lost.then_some(loss), is_latest, verdicts })
}

/// The last change that a copy knows of.
fn last_of(scan: &Scan) -> Option<u64> {
    scan.frames.iter().map(|frame| if frame.kind == Kind::Change { frame.number } else { frame.snapshot }).max()
}

fn judge(scan: &Scan, sequence: u64) -> Verdict {
    let Some(last) = last_of(scan) else { return Verdict::Illegible };
    if scan.whole_until().is_some() {
        return if last == sequence { Verdict::Whole } else { Verdict::Behind { last, of: sequence } };
    }
    let damaged = scan.damaged.iter().map(|range| (range.start as u64, range.len() as u64));
    let mut places: Vec<(u64, u64)> = damaged.collect();
    if places.is_empty() {
        // Whole up to its end, where something begins that is no frame.
        return match (scan.is_torn, last == sequence) {
            (true, true) => Verdict::Torn,
            (false, true) => Verdict::Littered { bytes: scan.litter_bytes },
            (_, false) => Verdict::Damaged { places: vec![(scan.end as u64, scan.file_bytes() - scan.end as u64)] },
        };
    }
    if scan.litter_bytes > 0 {
        places.push((scan.end as u64, scan.file_bytes() - scan.end as u64));
    }
    Verdict::Damaged { places }
}

/// Every sound frame of every copy.
#[derive(Default)]
struct Pool<'a> {
    /// How many records a snapshot has, by the head of a file that has it.
    heads: BTreeMap<u64, u64>,
    records: BTreeMap<(u64, u64), &'a [u8]>,
    changes: BTreeMap<u64, &'a [u8]>,
    /// Snapshots that are mentioned anywhere.
    snapshots: BTreeSet<u64>,
}

impl<'a> Pool<'a> {
    fn of(scans: &[&'a Scan]) -> Self {
        let mut pool = Self::default();
        for scan in scans {
            for frame in &scan.frames {
                pool.snapshots.insert(frame.snapshot);
                let payload = scan.payload(frame);
                match frame.kind {
                    Kind::Head => drop(pool.heads.insert(frame.snapshot, frame.number)),
                    Kind::Record => drop(pool.records.insert((frame.snapshot, frame.number), payload)),
                    Kind::Change => drop(pool.changes.insert(frame.number, payload)),
                }
            }
        }
        pool
    }

    /// Which records of a snapshot are gone; `None` where it is not known how many there were.
    fn missing(&self, snapshot: u64) -> Option<Vec<u64>> {
        let records = *self.heads.get(&snapshot)?;
        let is_gone = |index: &u64| !self.records.contains_key(&(snapshot, *index));
        Some((0..records).filter(is_gone).take(LISTED_MAX).collect())
    }

    /// The snapshot to begin with, the change it leads to, and what is gone.
    fn reach(&self) -> (u64, u64, Loss) {
        let latest = self.snapshots.last().max(self.changes.keys().last()).copied().unwrap_or(0);
        let gone_behind = |end: u64| -> Vec<u64> {
            (end + 1..=latest).filter(|number| !self.changes.contains_key(number)).take(LISTED_MAX).collect()
        };
        let end_from = |snapshot: u64| {
            let follow = self.changes.range(snapshot + 1..).map(|(number, _)| *number).zip(snapshot + 1..);
            follow.take_while(|(number, due)| number == due).last().map_or(snapshot, |(number, _)| number)
        };
        let complete =
            self.snapshots.iter().copied().filter(|it| self.missing(*it).is_some_and(|gone| gone.is_empty()));
        if let Some((end, base)) = complete.map(|snapshot| (end_from(snapshot), snapshot)).max() {
            return (base, end, Loss { records: None, changes: gone_behind(end) });
        }
        let Some(base) = self.snapshots.last().copied() else { return (0, 0, Loss::default()) };
        let gone = self.missing(base).unwrap_or_default();
        let records = self.heads.get(&base).copied().unwrap_or(0);
        (base, latest, Loss { records: Some((records, gone)), changes: gone_behind(base) })
    }

    fn contents(&self, base: u64, end: u64) -> Result<Contents, MetaError> {
        let mut contents = Contents::default();
        let records = self.records.range((base, 0)..=(base, u64::MAX));
        for ((_, index), payload) in records {
            contents.apply(Change::decode(&format!("record {index}"), payload)?);
        }
        for (number, payload) in self.changes.range(base + 1..).take_while(|(number, _)| **number <= end) {
            contents.apply(Change::decode(&format!("change {number}"), payload)?);
        }
        Ok(contents)
    }

    /// Everything that reads, older snapshots first: what a newer one lost may be in an older one.
    fn salvage(&self) -> Result<Contents, MetaError> {
        let mut contents = Contents::default();
        let snapshots: Vec<u64> = self.snapshots.iter().copied().collect();
        for (place, snapshot) in snapshots.iter().enumerate() {
            let until = snapshots.get(place + 1).copied().unwrap_or(u64::MAX);
            for ((_, index), payload) in self.records.range((*snapshot, 0)..=(*snapshot, u64::MAX)) {
                contents.apply(Change::decode(&format!("record {index}"), payload)?);
            }
            for (number, payload) in self.changes.range(snapshot + 1..).take_while(|(number, _)| **number <= until) {
                contents.apply(Change::decode(&format!("change {number}"), payload)?);
            }
        }
        Ok(contents)
    }
}
