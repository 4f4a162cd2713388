//! Small crash-safe files. A reader gets the old content or the new one, complete, or an error if both copies are
//! damaged.
//!
//! ```text
//! file  = copy ‖ copy                       one copy is enough, so one bad sector loses nothing
//! copy  = magic "OTTLAST1" · version u32 · payload bytes u32 · CRC-32C u32 (of version, bytes, payload) · payload
//!         zero-padded to a multiple of 512; a file written in place may have longer padding
//! ```
//!
//! On a full disk there is no space for a second file. Then a small file is overwritten in place: first the copy that
//! readers do not use, and when that is durable, the other one.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::canary::{Canary, broken};
use crate::disk::{Disk, RealDisk};
use crate::format::STATE_MAGIC;

const HEADER_BYTES: usize = 20;
const SECTOR_BYTES: usize = 512;
/// State files are much smaller; a greater length is damage.
const PAYLOAD_MAX_BYTES: usize = 256 << 20;
/// File systems give out space in blocks of this size or a multiple of it: a file owns the rest of its last block.
const BLOCK_BYTES: usize = 4096;

/// One small file that is replaced as a whole: write aside, sync, rename, sync the directory.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    version: u32,
    disk: Arc<dyn Disk>,
}

/// Why a state file was not written.
#[derive(Debug, thiserror::Error)]
pub enum StateWriteError {
    /// The payload is longer than 256 MiB.
    #[error("a state file holds at most {PAYLOAD_MAX_BYTES} bytes, {bytes} were given")]
    TooLarge {
        /// Length of the payload.
        bytes: usize,
    },
    /// A system call failed. The old content is still there.
    #[error("writing {path}: {source}", path = path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl StateWriteError {
    /// Whether the disk was full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

impl From<StateWriteError> for io::Error {
    fn from(error: StateWriteError) -> Self {
        match error {
            StateWriteError::Io { source, .. } => source,
            error @ StateWriteError::TooLarge { .. } => Self::other(error),
        }
    }
}

/// Whether an error means that there is no space, or no more space for this user.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why a state file was not read.
#[derive(Debug, thiserror::Error)]
pub enum StateReadError {
    /// Neither copy in the file is whole.
    #[error("{path} is damaged: neither of its two copies is whole", path = path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
    },
    /// Written by a later release.
    #[error("{path} has version {found}, this release knows {known}", path = path.display())]
    Version {
        /// The state file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version asked for.
        known: u32,
    },
    /// A system call failed.
    #[error("reading {path}: {source}", path = path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
}

impl StateFile {
    /// A state file at `path`, whose payload has the layout `version`. Does not access the disk.
    pub fn new(path: impl Into<PathBuf>, version: u32) -> Self {
        Self::on(Arc::new(RealDisk), path.into(), version)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, path: PathBuf, version: u32) -> Self {
        Self { path, version, disk }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the content. When this returns, the new content survives a power cut. After an error the old content
    /// stays.
    pub fn write(&self, payload: &[u8]) -> Result<(), StateWriteError> {
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(StateWriteError::TooLarge { bytes: payload.len() });
        }
        self.replace(payload).map_err(|source| StateWriteError::Io { path: self.path.clone(), source })
    }

    fn replace(&self, payload: &[u8]) -> io::Result<()> {
        let file = match self.write_beside(payload) {
            Err(full) if is_full(&full) => return self.overwrite(payload, full),
            written => written?,
        };
        self.disk.sync_data(&file)?;
        self.disk.rename(&self.beside(), &self.path)?;
        self.path.parent().map_or(Ok(()), |directory| self.disk.sync_dir(directory))
    }

    /// The first half of a write, for callers that sync many files together: writes the new content to a second file.
    pub(crate) fn stage(&self, payload: &[u8]) -> Result<PathBuf, StateWriteError> {
        let written = self.write_beside(payload).map(|_| self.beside());
        written.map_err(|source| StateWriteError::Io { path: self.path.clone(), source })
    }

    /// The second half, after the second file was synced: renames it. The caller syncs the directory.
    pub(crate) fn install(&self) -> Result<(), StateWriteError> {
        let renamed = self.disk.rename(&self.beside(), &self.path);
        renamed.map_err(|source| StateWriteError::Io { path: self.path.clone(), source })
    }

    fn write_beside(&self, payload: &[u8]) -> io::Result<File> {
        let copy = encode_copy(self.version, payload);
        let file = self.disk.create(&self.beside())?;
        if let Err(error) = self.disk.write_at(&file, &mut [IoSlice::new(&copy), IoSlice::new(&copy)], 0) {
            // The unfinished file would only use space that others need.
            let _ = self.disk.remove_file(&self.beside());
            return Err(error);
        }
        Ok(file)
    }

    /// Overwrites the existing file if that needs no space; otherwise returns `full`.
    fn overwrite(&self, payload: &[u8], full: io::Error) -> io::Result<()> {
        let Ok(before) = fs::read(&self.path) else { return Err(full) };
        let mut copy = encode_copy(self.version, payload);
        let copy_bytes = copy.len().max(before.len() / 2);
        // The old content has to be in the first copy, which stays until the second copy is durable.
        if decode_copy(&before).is_none() || copy_bytes * 2 > before.len().next_multiple_of(BLOCK_BYTES) {
            return Err(full);
        }
        copy.resize(copy_bytes, 0);
        let file = self.disk.open(&self.path, true)?;
        for position in [copy_bytes as u64, 0] {
            self.disk.write_at(&file, &mut [IoSlice::new(&copy)], position)?;
            self.disk.sync_data(&file)?;
        }
        Ok(())
    }

    fn beside(&self) -> PathBuf {
        self.path.with_added_extension("tmp")
    }

    /// The content, or `None` if there is no such file.
    pub fn read(&self) -> Result<Option<Vec<u8>>, StateReadError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateReadError::Io { path: self.path.clone(), source }),
        };
        let second = bytes.get(bytes.len() / 2..).unwrap_or_default();
        let Some((version, payload)) = decode_copy(&bytes).or_else(|| decode_copy(second)) else {
            return Err(StateReadError::Damaged { path: self.path.clone() });
        };
        if version != self.version {
            return Err(StateReadError::Version { path: self.path.clone(), found: version, known: self.version });
        }
        Ok(Some(payload.to_vec()))
    }

    /// Removes the file durably. A missing file is no error.
    pub fn remove(&self) -> Result<(), StateWriteError> {
        let remove = || {
            if !self.path.try_exists()? {
                return Ok(());
            }
            self.disk.remove_file(&self.path)?;
            self.path.parent().map_or(Ok(()), |directory| self.disk.sync_dir(directory))
        };
        remove().map_err(|source| StateWriteError::Io { path: self.path.clone(), source })
    }
}

fn encode_copy(version: u32, payload: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity((HEADER_BYTES + payload.len()).next_multiple_of(SECTOR_BYTES));
    copy.extend_from_slice(&STATE_MAGIC);
    copy.extend_from_slice(&version.to_be_bytes());
    copy.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    copy.extend_from_slice(&checksum(version, payload).to_be_bytes());
    copy.extend_from_slice(payload);
    copy.resize(copy.len().next_multiple_of(SECTOR_BYTES), 0);
    copy
}

fn decode_copy(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let version = u32::from_be_bytes(*version);
    let payload = rest.get(..u32::from_be_bytes(*length) as usize)?;
    (*magic == STATE_MAGIC && u32::from_be_bytes(*crc) == checksum(version, payload)).then_some((version, payload))
}

fn checksum(version: u32, payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    if broken(Canary::SilentFormat) {
        digest.update(b"another layout");
    }
    digest.update(&version.to_be_bytes());
    digest.update(&(payload.len() as u32).to_be_bytes());
    digest.update(payload);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskCall, FaultyDisk};

    #[test]
    fn any_single_damaged_byte_is_survived() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateFile::new(directory.path().join("state"), 7);
        assert!(state.read().unwrap().is_none());
        let payload = vec![0xA5; 1000];
        state.write(b"old").unwrap();
        state.write(&payload).unwrap();
        let whole = fs::read(state.path()).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(state.path(), &damaged).unwrap();
            assert_eq!(state.read().unwrap().as_deref(), Some(&payload[..]), "byte {at}");
        }
        fs::write(state.path(), vec![0; whole.len()]).unwrap();
        assert!(matches!(state.read(), Err(StateReadError::Damaged { .. })));
        fs::write(state.path(), &whole).unwrap();
        assert!(matches!(StateFile::new(state.path(), 8).read(), Err(StateReadError::Version { found: 7, .. })));
        state.remove().unwrap();
        state.remove().unwrap();
        assert!(state.read().unwrap().is_none());
    }

    #[test]
    fn failed_write_leaves_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        let state = StateFile::on(disk.clone(), directory.path().join("state"), 1);
        state.write(b"old").unwrap();
        for call in [DiskCall::Write, DiskCall::Sync, DiskCall::Rename] {
            disk.fail(call, 0, 1, libc::EIO);
            state.write(b"new").unwrap_err();
            assert_eq!(state.read().unwrap().as_deref(), Some(&b"old"[..]));
        }
        // There is no space, and the content is too long for the space of the file.
        disk.fail(DiskCall::Write, 0, 1, libc::ENOSPC);
        assert!(state.write(&[1; 4000]).unwrap_err().is_full());
        assert_eq!(state.read().unwrap().as_deref(), Some(&b"old"[..]));
    }

    #[test]
    fn a_small_state_file_is_written_on_a_full_disk_and_never_half() {
        for full in [DiskCall::Create, DiskCall::Write] {
            for payload_bytes in [1, 480, 500, 1100] {
                let payload = vec![7; payload_bytes];
                for seed in 0..40 {
                    let directory = tempfile::tempdir().unwrap();
                    let disk = FaultyDisk::new();
                    let state = StateFile::on(disk.clone(), directory.path().join("state"), 1);
                    state.write(&[6; 600]).unwrap();
                    disk.fail(full, 0, 1, libc::ENOSPC);
                    // A cut after the first copy, in the middle of the second copy, or at the end.
                    let whole = seed % 2 == 0;
                    if !whole {
                        disk.fail(DiskCall::Sync, (seed % 4 / 2) as usize, 1, libc::EIO);
                    }
                    assert_eq!(state.write(&payload).is_ok(), whole);
                    disk.power_cut(seed).unwrap();
                    let found = StateFile::new(state.path(), 1).read().unwrap().unwrap();
                    assert!(found == payload || (!whole && found == [6; 600]), "{} bytes", found.len());
                }
            }
        }
    }
}
