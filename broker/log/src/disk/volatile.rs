//! The changes of files and names that are not durable, with enough data to undo any part that a power cut may take.
//!
//! After a cut, each sector of a file keeps some of its unsynced writes, the earliest ones; the file has one of the
//! lengths that it had. A directory keeps its earliest unsynced changes of names and loses the later ones, as in a
//! journaling file system. Bytes and names are independent: a new name may lead to a file whose bytes are lost.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const SECTOR_BYTES: u64 = 512;

/// A small random generator with a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A random number below `bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True one time in `times`; never for 0.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }
}

/// One change of the bytes or the length of a file.
#[derive(Debug)]
struct Change {
    position: u64,
    /// How many bytes from `position` on were written or cut off.
    bytes: u64,
    /// The bytes before the change, as far as the file reached.
    old: Vec<u8>,
    old_bytes: u64,
    new_bytes: u64,
}

#[derive(Debug)]
struct Unsynced {
    file: File,
    changes: Vec<Change>,
}

/// One change of a name in a directory.
#[derive(Debug)]
enum NameChange {
    Created(PathBuf),
    /// If a file had the new name before, it is kept under a third name.
    Renamed {
        from: PathBuf,
        to: PathBuf,
        kept: Option<PathBuf>,
    },
    Removed {
        path: PathBuf,
        kept: PathBuf,
    },
}

/// Everything that is not durable.
#[derive(Debug, Default)]
pub(super) struct Volatile {
    files: HashMap<(u64, u64), Unsynced>,
    /// Writes that a failed sync lost: the page cache still shows them until it is dropped, and no later sync writes
    /// them.
    lost: Vec<((u64, u64), Unsynced)>,
    names: Vec<NameChange>,
    kept: u64,
}

impl Volatile {
    /// Records the bytes that a write is about to overwrite.
    pub(super) fn before_write(&mut self, file: &File, position: u64, bytes: u64) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.remember(file, position, bytes, length.max(position + bytes))
    }

    /// Records the bytes that a change of the length is about to cut off.
    pub(super) fn before_set_len(&mut self, file: &File, new_bytes: u64) -> io::Result<()> {
        let length = file.metadata()?.len();
        self.remember(file, new_bytes.min(length), length.saturating_sub(new_bytes), new_bytes)
    }

    fn remember(&mut self, file: &File, position: u64, bytes: u64, new_bytes: u64) -> io::Result<()> {
        let metadata = file.metadata()?;
        let old_bytes = metadata.len();
        let mut old = vec![0; bytes.min(old_bytes.saturating_sub(position)) as usize];
        file.read_exact_at(&mut old, position)?;
        let key = (metadata.dev(), metadata.ino());
        let unsynced = match self.files.entry(key) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(Unsynced { file: file.try_clone()?, changes: Vec::new() })
            }
        };
        unsynced.changes.push(Change { position, bytes, old, old_bytes, new_bytes });
        Ok(())
    }

    pub(super) fn created(&mut self, path: &Path) {
        self.names.push(NameChange::Created(path.to_path_buf()));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let kept = if to.is_file() { Some(self.keep(to)?) } else { None };
        fs::rename(from, to)?;
        if to.is_dir() {
            follow(&mut self.names, from, to);
        }
        self.names.push(NameChange::Renamed { from: from.to_path_buf(), to: to.to_path_buf(), kept });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let kept = self.keep(path)?;
        fs::remove_file(path)?;
        self.names.push(NameChange::Removed { path: path.to_path_buf(), kept });
        Ok(())
    }

    /// Gives a file another name, so that it can be restored.
    fn keep(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.kept += 1;
        let kept = path.with_file_name(format!(".kept-{}", self.kept));
        fs::hard_link(path, &kept)?;
        Ok(kept)
    }

    pub(super) fn synced(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        self.files.remove(&(metadata.dev(), metadata.ino()));
        Ok(())
    }

    /// Notes that a sync of the file failed.
    pub(super) fn lost(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        self.lost.extend(self.files.remove(&key).map(|unsynced| (key, unsynced)));
        Ok(())
    }

    /// Drops the lost writes of a file, so that reads show the bytes of the disk.
    pub(super) fn forget_lost(&mut self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        let lost = self.lost.extract_if(.., |(other, _)| *other == key);
        lost.collect::<Vec<_>>().into_iter().rev().try_for_each(|(_, unsynced)| unsynced.undo())
    }

    pub(super) fn synced_dir(&mut self, directory: &Path) -> io::Result<()> {
        // A sync of a directory makes all earlier changes in it durable too, and a rename belongs to two directories.
        let mut directories = HashSet::from([directory.to_path_buf()]);
        let (mut durable, mut rest) = (Vec::new(), Vec::new());
        for change in self.names.drain(..).rev() {
            if change.directories().iter().any(|directory| directories.contains(*directory)) {
                directories.extend(change.directories().into_iter().map(Path::to_path_buf));
                durable.push(change);
            } else {
                rest.push(change);
            }
        }
        rest.reverse();
        self.names = rest;
        forget(durable)
    }

    pub(super) fn synced_all(&mut self) -> io::Result<()> {
        self.files.clear();
        forget(std::mem::take(&mut self.names))
    }

    /// Forgets the changes below a directory that was removed for good.
    pub(super) fn forget_below(&mut self, directory: &Path) {
        self.names.retain_mut(|change| !change.paths_mut().iter().any(|path| path.starts_with(directory)));
    }

    /// Undoes the changes that the power cut takes.
    pub(super) fn cut(self, random: &mut Random) -> io::Result<()> {
        let mut files: Vec<_> = self.files.into_iter().collect();
        // Only a sorted order gives the same cut for the same seed.
        files.sort_unstable_by_key(|(key, _)| *key);
        for (_, unsynced) in files {
            unsynced.cut(random)?;
        }
        for (_, unsynced) in self.lost.into_iter().rev() {
            unsynced.undo()?;
        }
        let mut broken: HashSet<PathBuf> = HashSet::new();
        let mut lost = Vec::new();
        let mut stays = Vec::new();
        for change in self.names {
            let follows = change.directories().iter().any(|directory| broken.contains(*directory));
            if follows || random.one_in(2) {
                broken.extend(change.directories().into_iter().map(Path::to_path_buf));
                lost.push(change);
            } else {
                stays.push(change);
            }
        }
        while let Some(change) = lost.pop() {
            if let NameChange::Renamed { from, to, .. } = &change
                && to.is_dir()
            {
                follow(&mut lost, to, from);
            }
            change.undo()?;
        }
        forget(stays)
    }
}

impl Unsynced {
    /// Undoes all changes.
    fn undo(self) -> io::Result<()> {
        for change in self.changes.iter().rev() {
            change.undo(&self.file, 0, u64::MAX)?;
        }
        self.changes.first().map_or(Ok(()), |first| self.file.set_len(first.old_bytes))
    }

    fn cut(self, random: &mut Random) -> io::Result<()> {
        let mut sectors: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, change) in self.changes.iter().enumerate().filter(|(_, change)| change.bytes > 0) {
            let last = (change.position + change.bytes - 1) / SECTOR_BYTES;
            (change.position / SECTOR_BYTES..=last).for_each(|sector| sectors.entry(sector).or_default().push(at));
        }
        let torn = random.below(2 * sectors.len() as u64) as usize;
        // All, nothing, or a random part: bugs are more likely at the extremes.
        let mode = random.below(4);
        for (number, (sector, changes)) in sectors.into_iter().enumerate() {
            let keeps = match mode {
                0 => 0,
                1 => changes.len(),
                _ => random.below(changes.len() as u64 + 1) as usize,
            };
            let from = if number == torn { sector * SECTOR_BYTES + random.below(SECTOR_BYTES) } else { 0 };
            for at in changes.get(keeps..).unwrap_or_default().iter().rev() {
                if let Some(change) = self.changes.get(*at) {
                    let (start, end) = ((sector * SECTOR_BYTES).max(from), (sector + 1) * SECTOR_BYTES);
                    change.undo(&self.file, start, end)?;
                }
            }
        }
        let kept = random.below(self.changes.len() as u64 + 1) as usize;
        let length = match kept.checked_sub(1).and_then(|last| self.changes.get(last)) {
            Some(change) => change.new_bytes,
            None => self.changes.first().map_or(0, |change| change.old_bytes),
        };
        self.file.set_len(length)
    }
}

impl Change {
    /// Restores the old bytes between `start` and `end`.
    fn undo(&self, file: &File, start: u64, end: u64) -> io::Result<()> {
        let (start, end) = (start.max(self.position), end.min(self.position + self.bytes));
        if start >= end {
            return Ok(());
        }
        let (from, to) = ((start - self.position) as usize, (end - self.position) as usize);
        let mut old = self.old.get(from..to.min(self.old.len())).unwrap_or_default().to_vec();
        old.resize(to - from, 0);
        file.write_all_at(&old, start)
    }
}

impl NameChange {
    fn directories(&self) -> Vec<&Path> {
        match self {
            Self::Created(path) | Self::Removed { path, .. } => path.parent().into_iter().collect(),
            Self::Renamed { from, to, .. } => from.parent().into_iter().chain(to.parent()).collect(),
        }
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Created(path) => vec![path],
            Self::Removed { path, kept } => vec![path, kept],
            Self::Renamed { from, to, kept } => [from, to].into_iter().chain(kept.as_mut()).collect(),
        }
    }

    fn undo(self) -> io::Result<()> {
        match self {
            Self::Created(path) if path.is_dir() => fs::remove_dir_all(path),
            Self::Created(path) => fs::remove_file(path),
            Self::Renamed { from, to, kept } => {
                fs::rename(&to, from)?;
                kept.map_or(Ok(()), |kept| fs::rename(kept, to))
            }
            Self::Removed { path, kept } => fs::rename(kept, path),
        }
    }
}

/// A directory was renamed: adjusts the recorded paths inside of it.
fn follow(names: &mut [NameChange], from: &Path, to: &Path) {
    for path in names.iter_mut().flat_map(NameChange::paths_mut) {
        if let Ok(inside) = path.strip_prefix(from)
            && inside != Path::new("")
        {
            *path = to.join(inside);
        }
    }
}

/// Removes the files that were kept for changes which are durable now.
fn forget(changes: Vec<NameChange>) -> io::Result<()> {
    for change in changes {
        if let NameChange::Removed { kept, .. } | NameChange::Renamed { kept: Some(kept), .. } = change {
            fs::remove_file(kept)?;
        }
    }
    Ok(())
}
