//! A component on its way in, chunk by chunk, refused as early as possible.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::header;
use crate::host::{AdmitError, Admitted, Host};
use crate::vault::{VaultError, WorkDir};

const HEADER_BYTES: usize = 8;

/// Bytes received so far, in a file of the store's work directory. Dropping it forgets them.
pub struct Upload {
    host: Host,
    work: WorkDir,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    header: Vec<u8>,
    declared_bytes: u64,
    received_bytes: u64,
}

impl Host {
    /// Begins an upload of so many bytes, which is refused at once if they are too many.
    pub fn upload(&self, declared_bytes: u64) -> Result<Upload, AdmitError> {
        Upload::begin(self.clone(), declared_bytes)
    }

    /// Checks, compiles and keeps a component that is in memory.
    pub fn admit(&self, component: &[u8]) -> Result<Admitted, AdmitError> {
        header::check(component)?;
        let mut upload = self.upload(component.len() as u64)?;
        upload.push(component)?;
        upload.finish(None)
    }
}

impl Upload {
    fn begin(host: Host, declared_bytes: u64) -> Result<Self, AdmitError> {
        let max_bytes = host.limits().plugin_bytes_max;
        if declared_bytes > max_bytes {
            return Err(AdmitError::TooLarge { declared_bytes, max_bytes });
        }
        let work = host.vault().work_dir()?;
        let path = work.path().join("component.wasm");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| VaultError { action: "create", path: path.clone(), source })?;
        Ok(Self {
            host,
            work,
            path,
            file,
            hasher: Sha256::new(),
            header: Vec::with_capacity(HEADER_BYTES),
            declared_bytes,
            received_bytes: 0,
        })
    }

    /// Bytes received so far: where the next chunk begins.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Whether all declared bytes are here.
    pub fn is_complete(&self) -> bool {
        self.received_bytes == self.declared_bytes
    }

    /// Takes the next chunk. What is no component is refused with its first eight bytes.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), AdmitError> {
        let received_bytes = self.received_bytes.saturating_add(chunk.len() as u64);
        if received_bytes > self.declared_bytes {
            return Err(AdmitError::WrongSize { declared_bytes: self.declared_bytes, received_bytes });
        }
        if self.header.len() < HEADER_BYTES {
            self.header.extend(chunk.iter().take(HEADER_BYTES - self.header.len()));
            if self.header.len() == HEADER_BYTES {
                header::check(&self.header)?;
            }
        }
        let written = self.file.write_all(chunk);
        written.map_err(|source| VaultError { action: "write", path: self.path.clone(), source })?;
        self.hasher.update(chunk);
        self.received_bytes = received_bytes;
        Ok(())
    }

    /// Checks, compiles and keeps the component. `declared` is the digest that the sender computed, if it told one. Blocks
    /// for as long as compiling takes.
    pub fn finish(self, declared: Option<Digest>) -> Result<Admitted, AdmitError> {
        let Self { host, work, path, file, hasher, header, declared_bytes, received_bytes } = self;
        header::check(&header)?;
        if received_bytes != declared_bytes {
            return Err(AdmitError::WrongSize { declared_bytes, received_bytes });
        }
        let digest = Digest::finish(hasher);
        if let Some(declared) = declared.filter(|&declared| declared != digest) {
            return Err(AdmitError::WrongDigest { declared, found: digest });
        }
        file.sync_all().map_err(|source| VaultError { action: "sync", path: path.clone(), source })?;
        drop(file);
        host.admit_file(&work, &path, digest, received_bytes)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("received_bytes", &self.received_bytes)
            .field("declared_bytes", &self.declared_bytes)
            .finish_non_exhaustive()
    }
}
