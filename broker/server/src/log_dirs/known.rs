//! Which log directories there were: so that a disk that is not mounted is noticed, and not taken for a new one.
//!
//! Each directory has a file with its id; the data directory has the list of ids and the paths where they were last
//! found. A path of the list without an id file is a directory that is missing.

use std::io;
use std::path::{Path, PathBuf};

use ottla_log::{StateFile, StateReadError};
use ottla_wire::Uuid;

/// The list, in the data directory: lines of id and path.
const LIST_FILE: &str = "log-directories";
const LIST_VERSION: u32 = 1;
/// The id, in each log directory.
const ID_FILE: &str = "directory-id";
const ID_VERSION: u32 = 1;

/// The directories there were.
#[derive(Debug, Default)]
pub(super) struct KnownDirs(Vec<(Uuid, PathBuf)>);

/// What is at the path of a log directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A directory of this id.
    Id(Uuid),
    /// An empty id file: the operator wants a new directory here.
    Invitation,
    /// No directory, or none of ours.
    Nothing,
}

pub(super) fn id_path(directory: &Path) -> PathBuf {
    directory.join(ID_FILE)
}

pub(super) fn find(directory: &Path) -> io::Result<Found> {
    let path = id_path(directory);
    match StateFile::new(&path, ID_VERSION).read() {
        Ok(Some(id)) => Ok(Uuid::from_slice(&id).map_or(Found::Invitation, Found::Id)),
        Ok(None) => Ok(Found::Nothing),
        // Which id it was is no matter: that there is one shows that the directory is there.
        Err(StateReadError::Damaged { .. }) => Ok(Found::Invitation),
        Err(StateReadError::Io { source, .. }) => Err(source),
        Err(error @ StateReadError::Version { .. }) => Err(io::Error::other(error)),
    }
}

/// Gives a directory an id. None where it cannot be written: then the next start tries again.
pub(super) fn give_id(directory: &Path) -> Option<Uuid> {
    let id = Uuid::new_v4();
    match StateFile::new(id_path(directory), ID_VERSION).write(id.as_bytes()) {
        Ok(()) => Some(id),
        Err(error) => {
            tracing::warn!(%error, "the id of a log directory is not written");
            None
        }
    }
}

impl KnownDirs {
    /// The list as the last start left it. One that cannot be read protects nothing, and is no reason not to start.
    pub(super) fn read(data_dir: &Path) -> Self {
        let payload = StateFile::new(data_dir.join(LIST_FILE), LIST_VERSION).read().unwrap_or_else(|error| {
            tracing::error!(%error, "which log directories there were is not known: a missing one is not noticed");
            None
        });
        let text = String::from_utf8(payload.unwrap_or_default()).unwrap_or_default();
        let line = |line: &str| {
            let (id, path) = line.split_once(' ')?;
            Some((id.parse().ok()?, PathBuf::from(path)))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Where they were.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|(_, path)| path.clone()).collect()
    }

    /// Whether there was a log directory at `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|(_, known)| known == path)
    }

    /// Keeps the list for the next start: what was opened, and what is missing.
    pub(super) fn remember(&self, data_dir: &Path, opened: Vec<(Uuid, PathBuf)>, missing: &[(PathBuf, String)]) {
        let still = self.0.iter().filter(|(id, path)| {
            missing.iter().any(|(missing, _)| missing == path) && opened.iter().all(|(opened, _)| opened != id)
        });
        let mut list: Vec<_> = still.cloned().collect();
        list.extend(opened);
        for (_, path) in self.0.iter().filter(|(id, _)| list.iter().all(|(listed, _)| listed != id)) {
            tracing::warn!("the log directory {} is not in log.dirs any more", path.display());
        }
        list.sort();
        let mut before = self.0.clone();
        before.sort();
        if list == before {
            return;
        }
        let lines: Vec<_> = list.iter().map(|(id, path)| format!("{id} {}\n", path.display())).collect();
        let text = lines.concat();
        if let Err(error) = StateFile::new(data_dir.join(LIST_FILE), LIST_VERSION).write(text.as_bytes()) {
            tracing::warn!(%error, "which log directories there are is not written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_known_by_its_path_until_it_is_taken_out() {
        let data = tempfile::tempdir().unwrap();
        let (one, two) = (PathBuf::from("/logs/one"), PathBuf::from("/logs/two of them"));
        let (id_one, id_two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        KnownDirs::default().remember(data.path(), vec![(id_one, one.clone()), (id_two, two.clone())], &[]);
        let known = KnownDirs::read(data.path());
        assert!(known.has(&one) && known.has(&two));
        known.remember(data.path(), vec![(id_one, one.clone())], &[(two.clone(), "gone".to_owned())]);
        assert!(KnownDirs::read(data.path()).has(&two), "a directory that is missing stays known");
        known.remember(data.path(), vec![(id_one, one)], &[]);
        assert!(!KnownDirs::read(data.path()).has(&two));
    }

    #[test]
    fn an_empty_id_file_invites_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path()).unwrap(), Found::Nothing);
        std::fs::write(id_path(dir.path()), []).unwrap();
        assert_eq!(find(dir.path()).unwrap(), Found::Invitation);
        let id = give_id(dir.path()).unwrap();
        assert_eq!(find(dir.path()).unwrap(), Found::Id(id));
    }
}
