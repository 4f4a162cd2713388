//! The files of the store.
//!
//! ```text
//! store/
//!   wasm/<sha256>.wasm                  admitted components, byte for byte as uploaded
//!   compiled/<sha256>-<engine>.native   machine code for this engine and processor, written here and nowhere else
//!   seal.key                            32 random bytes, readable by this user alone
//!   work/                               uploads and compilations under way; emptied at start
//! ```
//!
//! Only `wasm/` is worth a backup. Compiled files are derived: a missing, foreign or damaged one is made again from the
//! component. Machine code is believed, so each compiled file carries an HMAC under `seal.key` over its digest, its engine
//! and its content, and a file that does not match is not executed but made again.
//!
//! ```text
//! compiled file:  "OTTLANC1" | HMAC-SHA256 (32) | length of manifest (u32 LE) | manifest pairs (JSON) | machine code
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use crate::digest::Digest;

const COMPILED_MAGIC: &[u8; 8] = b"OTTLANC1";
const SEAL_BYTES: usize = 32;

/// Something about the files of the store went wrong.
#[derive(Debug, thiserror::Error)]
#[error("plugin store: cannot {action} {}: {source}", path.display())]
pub struct VaultError {
    /// What was tried.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What is wrong with a component in the store. Pushing the same file again mends it.
#[derive(Debug, thiserror::Error)]
pub enum ComponentFault {
    /// There is no such file.
    #[error("plugin store: {} is missing", .0.display())]
    Missing(PathBuf),
    /// Its content does not match its name.
    #[error("plugin store: {} is damaged: its content does not match its name", .0.display())]
    Damaged(PathBuf),
    /// The system refused to read it.
    #[error(transparent)]
    Unreadable(#[from] VaultError),
}

/// The components of the store in `dir`, each with what is wrong with it. Reads only, and all of each.
pub fn check_store(dir: &Path) -> Result<Vec<(Digest, Option<ComponentFault>)>, VaultError> {
    let vault = Vault::new(dir.to_owned());
    Ok(vault.digests()?.into_iter().map(|digest| (digest, vault.check(&digest).err())).collect())
}

/// The store's directory. Nothing on disk is touched before the first plugin.
pub(crate) struct Vault {
    dir: PathBuf,
    seal: Mutex<Option<[u8; SEAL_BYTES]>>,
    works: AtomicU64,
}

/// A directory of its own under `work/`; gone when dropped.
pub(crate) struct WorkDir {
    path: PathBuf,
}

/// A compiled file whose seal was good.
pub(crate) struct Compiled {
    pub(crate) pairs: Vec<(String, String)>,
    content: Vec<u8>,
    code_at: usize,
}

impl Vault {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, seal: Mutex::new(None), works: AtomicU64::new(0) }
    }

    pub(crate) fn wasm_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("wasm").join(format!("{digest}.wasm"))
    }

    fn compiled_path(&self, digest: &Digest, engine: &str) -> PathBuf {
        self.dir.join("compiled").join(format!("{digest}-{engine}.native"))
    }

    /// A fresh directory for one upload or compilation.
    pub(crate) fn work_dir(&self) -> Result<WorkDir, VaultError> {
        self.open()?;
        let number = self.works.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join("work").join(number.to_string());
        create_dir(&path)?;
        // The compile child gets this path after a change of directory.
        let path = fs::canonicalize(&path).map_err(|source| VaultError { action: "find", path, source })?;
        Ok(WorkDir { path })
    }

    /// Moves an uploaded and synced file to its place, for good.
    pub(crate) fn keep_wasm(&self, from: &Path, digest: &Digest) -> Result<(), VaultError> {
        let to = self.wasm_path(digest);
        fs::rename(from, &to).map_err(|source| VaultError { action: "create", path: to.clone(), source })?;
        sync_parent(&to)
    }

    /// Whether a component is in the store.
    pub(crate) fn has_wasm(&self, digest: &Digest) -> bool {
        self.wasm_path(digest).is_file()
    }

    /// Whether a component is there and still is what its name says.
    pub(crate) fn check(&self, digest: &Digest) -> Result<(), ComponentFault> {
        let path = self.wasm_path(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(()),
            Ok(_) => Err(ComponentFault::Damaged(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ComponentFault::Missing(path)),
            Err(source) => Err(VaultError { action: "read", path, source }.into()),
        }
    }

    /// Whether there is a compiled form, for any engine.
    pub(crate) fn has_compiled(&self, digest: &Digest) -> bool {
        let name = digest.to_string();
        let entries = fs::read_dir(self.dir.join("compiled")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&name))
    }

    /// The component, if it is there and still is what its name says.
    pub(crate) fn read_wasm(&self, digest: &Digest) -> Result<Vec<u8>, VaultError> {
        let path = self.wasm_path(digest);
        let bytes = fs::read(&path).map_err(|source| VaultError { action: "read", path: path.clone(), source })?;
        if Digest::of(&bytes) != *digest {
            let source = io::Error::new(
                io::ErrorKind::InvalidData,
                "the content does not match its name; push the same file again",
            );
            return Err(VaultError { action: "trust", path, source });
        }
        Ok(bytes)
    }

    /// Writes what the compile child made, sealed.
    pub(crate) fn keep_compiled(
        &self,
        work: &WorkDir,
        digest: &Digest,
        engine: &str,
        pairs: &[(String, String)],
        code: &[u8],
    ) -> Result<(), VaultError> {
        let to = self.compiled_path(digest, engine);
        let failed = |source| VaultError { action: "write", path: to.clone(), source };
        let manifest = serde_json::to_vec(pairs).map_err(|error| failed(error.into()))?;
        let length = (manifest.len() as u32).to_le_bytes();
        let mut seal = self.seal_over(digest, engine)?;
        for part in [&length[..], &manifest, code] {
            seal.update(part);
        }
        let tag = seal.finalize().into_bytes();
        let from = work.path.join("sealed");
        write_synced(&from, &[COMPILED_MAGIC, &tag, &length, &manifest, code]).map_err(failed)?;
        fs::rename(&from, &to).map_err(failed)?;
        self.forget_compiled(digest, &to)?;
        sync_parent(&to)
    }

    /// Removes the compiled forms of a plugin but one: those for engines of older releases.
    fn forget_compiled(&self, digest: &Digest, kept: &Path) -> Result<(), VaultError> {
        remove_files_of(&self.dir.join("compiled"), digest, |path| path != kept)
    }

    /// The compiled form for this engine, if there is one that this host made.
    pub(crate) fn read_compiled(&self, digest: &Digest, engine: &str) -> Result<Option<Compiled>, VaultError> {
        self.open()?;
        let path = self.compiled_path(digest, engine);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(VaultError { action: "read", path, source }),
        };
        let compiled = self.unseal(digest, engine, content)?;
        if compiled.is_none() {
            tracing::warn!(path = %path.display(), "compiled plugin is damaged or foreign; it is compiled again");
        }
        Ok(compiled)
    }

    fn unseal(&self, digest: &Digest, engine: &str, content: Vec<u8>) -> Result<Option<Compiled>, VaultError> {
        let Some((tag, sealed)) =
            content.strip_prefix(COMPILED_MAGIC).and_then(|rest| rest.split_first_chunk::<SEAL_BYTES>())
        else {
            return Ok(None);
        };
        let mut seal = self.seal_over(digest, engine)?;
        seal.update(sealed);
        if seal.verify_slice(tag).is_err() {
            return Ok(None);
        }
        let Some((length, rest)) = sealed.split_first_chunk::<4>() else { return Ok(None) };
        let Some((manifest, code)) = rest.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            return Ok(None);
        };
        let Ok(pairs) = serde_json::from_slice(manifest) else { return Ok(None) };
        let code_at = content.len() - code.len();
        Ok(Some(Compiled { pairs, content, code_at }))
    }

    /// Forgets a plugin. Partitioners that are loaded go on.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), VaultError> {
        self.open()?;
        for folder in ["compiled", "wasm"] {
            let dir = self.dir.join(folder);
            remove_files_of(&dir, digest, |_| true)?;
            sync_dir(&dir)?;
        }
        Ok(())
    }

    /// The digests of all admitted components.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>, VaultError> {
        let dir = self.dir.join("wasm");
        let failed = |source| VaultError { action: "list", path: dir.clone(), source };
        let mut digests = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(digests),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let digest =
                name.to_str().and_then(|name| name.strip_suffix(".wasm")).and_then(|hex| hex.parse::<Digest>().ok());
            digests.extend(digest);
        }
        digests.sort_unstable();
        Ok(digests)
    }

    fn seal_over(&self, digest: &Digest, engine: &str) -> Result<Hmac<Sha256>, VaultError> {
        let key = self.open()?;
        let mut seal =
            Hmac::<Sha256>::new_from_slice(&key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        seal.update(digest.as_bytes());
        seal.update(&(engine.len() as u32).to_le_bytes());
        seal.update(engine.as_bytes());
        Ok(seal)
    }

    /// Makes the directories, empties `work/` and reads the key, once.
    fn open(&self) -> Result<[u8; SEAL_BYTES], VaultError> {
        let mut seal = self.seal.lock();
        if let Some(key) = *seal {
            return Ok(key);
        }
        let work = self.dir.join("work");
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(VaultError { action: "empty", path: work, source: error });
            }
            _ => {}
        }
        for folder in ["wasm", "compiled", "work"] {
            create_dir(&self.dir.join(folder))?;
        }
        sync_dir(&self.dir)?;
        let key = self.read_or_make_key()?;
        *seal = Some(key);
        Ok(key)
    }

    fn read_or_make_key(&self) -> Result<[u8; SEAL_BYTES], VaultError> {
        let path = self.dir.join("seal.key");
        let failed = |action| {
            let path = path.clone();
            move |source| VaultError { action, path, source }
        };
        match fs::read(&path) {
            Ok(bytes) => {
                if let Ok(key) = bytes.try_into() {
                    return Ok(key);
                }
                tracing::warn!(path = %path.display(), "the seal of compiled plugins is damaged; all are compiled again");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read")(error)),
        }
        let mut key = [0; SEAL_BYTES];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key)).map_err(failed("make"))?;
        let fresh = self.dir.join("work").join("seal.key");
        write_synced(&fresh, &[&key]).and_then(|()| fs::rename(&fresh, &path)).map_err(failed("write"))?;
        sync_dir(&self.dir)?;
        Ok(key)
    }
}

impl Compiled {
    pub(crate) fn code(&self) -> &[u8] {
        self.content.get(self.code_at..).unwrap_or_default()
    }
}

impl WorkDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a plugin's work directory");
        }
    }
}

fn create_dir(path: &Path) -> Result<(), VaultError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| VaultError {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Removes the files of a plugin that match.
fn remove_files_of(dir: &Path, digest: &Digest, matches: impl Fn(&Path) -> bool) -> Result<(), VaultError> {
    let name = digest.to_string();
    let failed = |source| VaultError { action: "remove from", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let of_it = path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(&name));
        if of_it && matches(&path) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn sync_dir(path: &Path) -> Result<(), VaultError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|source| VaultError {
        action: "sync",
        path: path.to_owned(),
        source,
    })
}

fn sync_parent(path: &Path) -> Result<(), VaultError> {
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("store"));
        (dir, vault)
    }

    fn pairs() -> Vec<(String, String)> {
        vec![("kind".to_owned(), "partitioner".to_owned())]
    }

    #[test]
    fn compiled_code_comes_back_only_for_its_own_digest_and_engine() {
        let (_dir, vault) = vault();
        let digest = Digest::of(b"plugin");
        assert!(vault.read_compiled(&digest, "e1").unwrap().is_none());
        let work = vault.work_dir().unwrap();
        vault.keep_compiled(&work, &digest, "e1", &pairs(), b"code").unwrap();
        let compiled = vault.read_compiled(&digest, "e1").unwrap().unwrap();
        assert_eq!((compiled.code(), &compiled.pairs), (&b"code"[..], &pairs()));

        // The file of another plugin or engine under this name has a good seal, but not for this name.
        let other = Digest::of(b"other");
        fs::copy(vault.compiled_path(&digest, "e1"), vault.compiled_path(&other, "e1")).unwrap();
        fs::copy(vault.compiled_path(&digest, "e1"), vault.compiled_path(&digest, "e2")).unwrap();
        assert!(vault.read_compiled(&other, "e1").unwrap().is_none());
        assert!(vault.read_compiled(&digest, "e2").unwrap().is_none());
    }

    #[test]
    fn compiled_code_of_an_older_engine_makes_room() {
        let (_dir, vault) = vault();
        let (digest, other) = (Digest::of(b"plugin"), Digest::of(b"other"));
        for (digest, engine) in [(&digest, "e1"), (&other, "e1"), (&digest, "e2")] {
            vault.keep_compiled(&vault.work_dir().unwrap(), digest, engine, &pairs(), b"code").unwrap();
        }
        assert!(!vault.compiled_path(&digest, "e1").exists());
        assert!(vault.read_compiled(&digest, "e2").unwrap().is_some());
        assert!(vault.read_compiled(&other, "e1").unwrap().is_some());
    }

    #[test]
    fn no_flipped_or_missing_byte_of_compiled_code_is_believed() {
        let (_dir, vault) = vault();
        let digest = Digest::of(b"plugin");
        let work = vault.work_dir().unwrap();
        vault.keep_compiled(&work, &digest, "e", &pairs(), b"code").unwrap();
        let path = vault.compiled_path(&digest, "e");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, bad).unwrap();
            assert!(vault.read_compiled(&digest, "e").unwrap().is_none(), "flipped byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(vault.read_compiled(&digest, "e").unwrap().is_none(), "cut at {at}");
        }
        fs::write(&path, &good).unwrap();
        assert!(vault.read_compiled(&digest, "e").unwrap().is_some());
    }

    #[test]
    fn a_lost_key_makes_compiled_code_foreign_and_nothing_else() {
        let (dir, first) = vault();
        let digest = Digest::of(b"plugin");
        first.keep_compiled(&first.work_dir().unwrap(), &digest, "e", &pairs(), b"code").unwrap();
        let again = Vault::new(dir.path().join("store"));
        assert!(again.read_compiled(&digest, "e").unwrap().is_some());
        fs::write(dir.path().join("store/seal.key"), b"short").unwrap();
        let third = Vault::new(dir.path().join("store"));
        assert!(third.read_compiled(&digest, "e").unwrap().is_none());
    }

    #[test]
    fn leftovers_of_a_crash_are_gone_at_the_next_start() {
        let (dir, first) = vault();
        let work = first.work_dir().unwrap();
        fs::write(work.path().join("component.wasm"), b"half an upload").unwrap();
        std::mem::forget(work);
        let again = Vault::new(dir.path().join("store"));
        let work = again.work_dir().unwrap();
        assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(dir.path().join("store/work")).unwrap().count(), 1);
    }

    #[test]
    fn a_component_that_changed_on_disk_is_not_used() {
        let (_dir, vault) = vault();
        let work = vault.work_dir().unwrap();
        let digest = Digest::of(b"component");
        let from = work.path().join("component.wasm");
        fs::write(&from, b"component").unwrap();
        vault.keep_wasm(&from, &digest).unwrap();
        assert_eq!(vault.read_wasm(&digest).unwrap(), b"component");
        assert_eq!(vault.digests().unwrap(), [digest]);
        fs::write(vault.wasm_path(&digest), b"something").unwrap();
        assert!(vault.read_wasm(&digest).unwrap_err().to_string().contains("push the same file again"));
        assert!(matches!(vault.check(&digest), Err(ComponentFault::Damaged(_))));
        vault.remove(&digest).unwrap();
        assert_eq!(vault.digests().unwrap(), []);
    }
}
