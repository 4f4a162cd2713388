//! The two copies of the metadata, written in one order.
//!
//! ```text
//! <data dir>/metadata.log             the first copy
//! <log directory>/metadata.copy       the second one, on another disk than the first where there is one
//! ```
//!
//! A change is written to the first copy, synced, then to the second one, synced, then it counts: the first copy has every
//! change that was ever answered. Where the second copy cannot be written (a full disk, a log directory that is offline) the
//! change is made all the same and the log says so; the next change writes the whole copy again, in another log directory
//! if need be. Where the first copy cannot be written the change is refused; after a failed sync of it so is every
//! later one.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::Disk;

use super::MetaError;
use super::copy::{Copy, Snapshot, WriteError, find};
use super::merge::{Found, FoundCopy, Verdict};
use super::report::MetaReport;

/// The first copy, in the data directory.
pub(super) const FIRST_COPY: &str = "metadata.log";
/// The second one, in a log directory.
pub(super) const SECOND_COPY: &str = "metadata.copy";

/// A directory for the second copy.
#[derive(Debug, Clone)]
pub struct CopyHome {
    /// Where.
    pub directory: PathBuf,
    /// What it is written through.
    pub disk: Arc<dyn Disk>,
}

/// Both copies.
#[derive(Debug)]
pub(super) struct Pair {
    first: Copy,
    second: Copy,
    /// Where the second copy may be, the best place first.
    homes: Vec<CopyHome>,
    /// That there is no second copy was said.
    told: bool,
    /// Why no change is made any more.
    closed: Option<String>,
}

impl Pair {
    /// The copies of a data directory, not yet written to. Without `homes` the second one lies beside the first.
    pub(super) fn new(data_dir: &Path, disk: &Arc<dyn Disk>, homes: Vec<CopyHome>) -> Self {
        let homes = in_order(data_dir, homes, disk);
        let (directory, second_disk) =
            homes.first().map_or((data_dir, disk), |home| (home.directory.as_path(), &home.disk));
        Self {
            first: Copy::new(data_dir, FIRST_COPY, Arc::clone(disk)),
            second: Copy::new(directory, SECOND_COPY, Arc::clone(second_disk)),
            homes,
            told: false,
            closed: None,
        }
    }

    /// What is there, the first copy first, then the second one in each place where it may be.
    pub(super) fn find(&self, disk: &dyn Disk) -> Vec<FoundCopy> {
        let mut found = vec![find(self.first.path(), disk)];
        found.extend(self.homes.iter().map(|home| find(&home.directory.join(SECOND_COPY), &*home.disk)));
        found
    }

    /// Begins to write: to copies that were found whole as they are, to others once they are written as a whole. Without any
    /// room that is tried again with the first change.
    pub(super) fn take_up(
        &mut self,
        found: &[FoundCopy],
        verdicts: &[Verdict],
        snapshot: &Snapshot,
        report: &mut MetaReport,
    ) {
        for (place, (copy, verdict)) in found.iter().zip(verdicts).enumerate().take(2) {
            let target = if place == 0 { &mut self.first } else { &mut self.second };
            if let (Verdict::Whole, Some(scan)) = (verdict, copy.scan())
                && target.resume(scan).is_ok()
            {
                continue;
            }
            if let Verdict::Foreign(store) = verdict {
                let aside = copy.path.with_added_extension(store.to_string());
                tracing::warn!(path = %aside.display(), "a copy of other metadata is kept under another name");
                let _ = std::fs::rename(&copy.path, aside);
            }
            match target.rewrite(snapshot) {
                Ok(()) => report.written.push((copy.path.clone(), verdict.clone())),
                Err(error) => {
                    let path = target.path().to_owned();
                    let is_lost = matches!(error, WriteError::SyncFailed(_));
                    let error = error.of(&path);
                    tracing::error!(%error, "a copy of the metadata is not written");
                    report.unwritten.push((path.clone(), error.to_string()));
                    match (place, path.parent()) {
                        (0, _) => self.closed = is_lost.then(|| error.to_string()),
                        (_, Some(directory)) if is_lost => self.leave(directory),
                        (_, _) => {}
                    }
                    self.told |= place > 0;
                }
            }
        }
        self.remove_stale(found, verdicts);
    }

    /// Copies that no change goes to would be taken for the truth one day.
    fn remove_stale(&self, found: &[FoundCopy], verdicts: &[Verdict]) {
        if !self.first.is_open() || !self.second.is_open() {
            return;
        }
        for ((copy, verdict), home) in found.iter().zip(verdicts).skip(1).zip(&self.homes) {
            if copy.path != self.second.path()
                && matches!(copy.found, Found::Bytes(_))
                && !matches!(verdict, Verdict::Foreign(_))
                && let Err(error) = home.disk.remove_file(&copy.path)
            {
                tracing::warn!(path = %copy.path.display(), %error, "an old copy of the metadata is not removed");
            }
        }
    }

    /// Whether the first copy can be written to.
    pub(super) fn has_first(&self) -> bool {
        self.first.is_open()
    }

    /// How many copies have everything.
    pub(super) fn whole(&self) -> usize {
        usize::from(self.first.is_open()) + usize::from(self.second.is_open())
    }

    /// Makes a change durable. `before` is everything before it, for a copy that has to be written as a whole.
    pub(super) fn append(
        &mut self,
        number: u64,
        change: &[u8],
        before: impl Fn() -> Result<Snapshot, MetaError>,
    ) -> Result<(), MetaError> {
        if let Some(reason) = &self.closed {
            return Err(MetaError::Closed { reason: reason.clone() });
        }
        if !self.first.is_open() {
            let snapshot = before()?;
            let written = self.first.rewrite(&snapshot);
            self.first_is(written)?;
        }
        let written = self.first.append(number, change);
        self.first_is(written)?;
        let written = if self.second.is_open() {
            self.second.append(number, change)
        } else {
            let snapshot = before()?;
            self.move_second(&snapshot).and_then(|()| self.second.append(number, change))
        };
        self.second_is(written);
        Ok(())
    }

    /// Writes copies anew in which changes take more than what they led to.
    pub(super) fn shorten(&mut self, now: impl Fn() -> Result<Snapshot, MetaError>) {
        if !self.first.is_long() && !self.second.is_long() {
            return;
        }
        let Ok(snapshot) = now() else { return };
        if self.first.is_long() {
            let written = self.first.rewrite(&snapshot);
            // A change that could not be made durable says so by itself.
            let _ = self.first_is(written);
        }
        if self.second.is_long() {
            let written = self.second.rewrite(&snapshot);
            self.second_is(written);
        }
    }

    /// Writes the second copy as a whole, in the first place that takes it.
    fn move_second(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let mut refused = io::Error::other("no log directory takes it");
        for home in self.homes.clone() {
            let mut copy = Copy::new(&home.directory, SECOND_COPY, Arc::clone(&home.disk));
            match copy.rewrite(snapshot) {
                Ok(()) => {
                    self.second = copy;
                    return Ok(());
                }
                Err(WriteError::Refused(error)) => refused = error,
                Err(WriteError::SyncFailed(error)) => {
                    self.leave(&home.directory);
                    refused = error;
                }
            }
        }
        Err(WriteError::Refused(refused))
    }

    fn first_is(&mut self, written: Result<(), WriteError>) -> Result<(), MetaError> {
        let Err(error) = written else { return Ok(()) };
        let error = error.of(self.first.path());
        if let MetaError::Closed { reason } = &error {
            tracing::error!(%reason, "the metadata takes no change any more until a restart");
            self.closed = Some(reason.clone());
        }
        Err(error)
    }

    /// Gives a place up until a restart: after a failed sync the system may show what the disk does not have.
    fn leave(&mut self, directory: &Path) {
        self.homes.retain(|home| home.directory != directory);
    }

    fn second_is(&mut self, written: Result<(), WriteError>) {
        if let Err(WriteError::SyncFailed(_)) = &written
            && let Some(directory) = self.second.path().parent().map(Path::to_owned)
        {
            self.leave(&directory);
        }
        match written {
            Ok(()) if self.told => {
                tracing::info!(path = %self.second.path().display(), "there is a second copy of the metadata again");
                self.told = false;
            }
            Err(error) if !self.told && !self.second.is_open() => {
                let error = error.of(self.second.path());
                tracing::error!(%error, "there is no second copy of the metadata until it can be written again");
                self.told = true;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// The places for the second copy, those on another disk than the first copy before the others.
fn in_order(data_dir: &Path, mut homes: Vec<CopyHome>, disk: &Arc<dyn Disk>) -> Vec<CopyHome> {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let first = device(data_dir);
    homes.sort_by_key(|home| device(&home.directory) == first);
    if homes.is_empty() {
        homes.push(CopyHome { directory: data_dir.to_owned(), disk: Arc::clone(disk) });
    }
    homes
}
