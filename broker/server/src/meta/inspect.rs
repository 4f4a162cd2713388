//! The copies of the metadata seen from outside: for tools, with or without a broker on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_log::{Disk, RealDisk};
use uuid::Uuid;

use super::copy::{Copy, Snapshot, look};
use super::local::{LocalStore, lock};
use super::merge::{FoundCopy, Merged, merge};
use super::pair::{CopyHome, FIRST_COPY, SECOND_COPY};
use super::{Contents, Loss, MetaError, MetaReport, Verdict, old};

/// How often copies are looked at that a broker may be writing to.
const LOOKS: usize = 5;
/// What is added to the name of a copy that was replaced.
const REPLACED: &str = "before-restore";

/// What the copies hold, put together.
#[derive(Debug)]
pub struct Survey {
    /// Every place where a copy may be, the first copy first.
    pub copies: Vec<(PathBuf, Verdict)>,
    /// Everything that reads.
    pub contents: Contents,
    /// The last change.
    pub sequence: u64,
    /// What no copy has.
    pub loss: Option<Loss>,
    /// The file of an older release that `contents` are from: the next start takes it over.
    pub old: Option<PathBuf>,
}

impl Survey {
    /// Whether there is nothing, not even something damaged.
    pub fn is_empty(&self) -> bool {
        self.old.is_none() && self.copies.iter().all(|(_, verdict)| *verdict == Verdict::Absent)
    }

    /// How many copies have everything.
    pub fn whole(&self) -> usize {
        self.copies.iter().filter(|(_, verdict)| *verdict == Verdict::Whole).count()
    }
}

/// Looks at the copies of a data directory with these log directories. Reads only.
pub fn survey(data_dir: &Path, log_dirs: &[PathBuf]) -> Result<Survey, MetaError> {
    let mut paths = vec![data_dir.join(FIRST_COPY)];
    paths.extend(places(data_dir, log_dirs).iter().map(|directory| directory.join(SECOND_COPY)));
    let mut last = None;
    for _ in 0..LOOKS {
        let found: Vec<FoundCopy> = paths.iter().map(|path| look(path)).collect();
        let merged = merge(&found)?;
        // A broker may have written between two looks: then the next look finds another last change.
        let again = last.is_some_and(|sequence| sequence == merged.sequence);
        last = Some(merged.sequence);
        if again || merged.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Whole | Verdict::Absent)) {
            return surveyed(data_dir, paths, merged);
        }
    }
    let found: Vec<FoundCopy> = paths.iter().map(|path| look(path)).collect();
    let merged = merge(&found)?;
    surveyed(data_dir, paths, merged)
}

fn surveyed(data_dir: &Path, paths: Vec<PathBuf>, merged: Merged) -> Result<Survey, MetaError> {
    let Merged { store, mut contents, sequence, loss, verdicts, .. } = merged;
    let mut old = None;
    if store.is_none()
        && loss.is_none()
        && let Some(taken) = old::read(data_dir)?
    {
        contents = taken;
        old = Some(old::path(data_dir));
    }
    Ok(Survey { copies: paths.into_iter().zip(verdicts).collect(), contents, sequence, loss, old })
}

/// What one file holds that was a copy somewhere.
pub fn contents_of(path: &Path) -> Result<Contents, MetaError> {
    let merged = merge(&[look(path)])?;
    match merged.loss {
        Some(loss) => Err(MetaError::Lost { loss, copies: vec![(path.to_owned(), Verdict::Illegible)] }),
        None => Ok(merged.contents),
    }
}

/// Makes every copy whole that another one can make whole, as a start does. Refuses while a broker runs.
pub fn repair(data_dir: &Path, log_dirs: &[PathBuf]) -> Result<MetaReport, MetaError> {
    let (_, report) = LocalStore::open(data_dir, homes(log_dirs), &[])?;
    Ok(report)
}

/// Replaces all metadata. Copies that are there are kept beside the new ones, under another name. Says where the new ones are. Refuses
/// while a broker runs.
pub fn replace(
    data_dir: &Path,
    log_dirs: &[PathBuf],
    contents: &Contents,
    sequence: u64,
) -> Result<Vec<PathBuf>, MetaError> {
    let _lock = lock(data_dir)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    // Copies of the store before count no more, wherever they turn up.
    let snapshot = Snapshot::of(contents, Uuid::new_v4(), sequence)?;
    let places = places(data_dir, log_dirs);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MetaError::Write { path, source }
    };
    let old = places.iter().map(|directory| directory.join(SECOND_COPY)).chain([data_dir.join(FIRST_COPY)]);
    let old: Vec<PathBuf> = old.filter(|path| path.exists()).collect();
    for path in &old {
        std::fs::copy(path, path.with_added_extension(REPLACED)).map_err(failed(path))?;
    }
    let second = places.first().map_or(data_dir, PathBuf::as_path);
    let mut written = Vec::new();
    for (directory, name) in [(data_dir, FIRST_COPY), (second, SECOND_COPY)] {
        let mut copy = Copy::new(directory, name, Arc::clone(&disk));
        copy.rewrite(&snapshot).map_err(|error| error.of(&directory.join(name)))?;
        written.push(copy.path().to_owned());
    }
    for path in old.iter().filter(|path| !written.contains(path)) {
        std::fs::remove_file(path).map_err(failed(path))?;
    }
    old::set_aside(data_dir);
    Ok(written)
}

/// Where second copies may be.
fn places(data_dir: &Path, log_dirs: &[PathBuf]) -> Vec<PathBuf> {
    let there: Vec<PathBuf> = log_dirs.iter().filter(|directory| directory.is_dir()).cloned().collect();
    if there.is_empty() { vec![data_dir.to_owned()] } else { there }
}

fn homes(log_dirs: &[PathBuf]) -> Vec<CopyHome> {
    let there = log_dirs.iter().filter(|directory| directory.is_dir());
    there.map(|directory| CopyHome { directory: directory.clone(), disk: Arc::new(RealDisk) }).collect()
}
