//! Admits plugins into the store and loads them out of it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::component::Component;

use crate::binding::{Loaded, Setup};
use crate::call_error::CallError;
use crate::compile::{CompileError, Compiler, ComponentRefusal, Output};
use crate::contract::{PACKAGE, interface};
use crate::digest::Digest;
use crate::engine::Runtime;
use crate::header::NotAComponent;
use crate::instance::Prepared;
use crate::limits::Limits;
use crate::manifest::{Kind, Manifest, ManifestError};
use crate::partitioner::Partitioner;
use crate::policy::DeadLetterPolicy;
use crate::serializer::Serializer;
use crate::trap::reason;
use crate::vault::{ComponentFault, Vault, VaultError, WorkDir};

/// Where plugins are kept, what compiles them, and what they may cost.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Directory of the store; created with the first plugin.
    pub store_dir: PathBuf,
    /// The compile child.
    pub compiler: Compiler,
    /// Bounds for every plugin.
    pub limits: Limits,
}

/// Admits and loads plugins. Cheap to create and to clone: the engine and the store's directory come with the first
/// plugin. All calls block; admission takes as long as compiling does.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    vault: Vault,
    compiler: Compiler,
    limits: Limits,
    runtime: Mutex<Option<Arc<Runtime>>>,
    loaded: Mutex<HashMap<Digest, Weak<Loaded>>>,
    /// One compilation at a time, so that uploads cannot multiply its memory.
    compiling: Mutex<()>,
}

/// A plugin that is in the store for good.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Its name in the store.
    pub digest: Digest,
    /// What it says about itself.
    pub manifest: Manifest,
    /// Size of the component.
    pub bytes: u64,
}

/// Why an upload was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum AdmitError {
    #[error("the plugin has {declared_bytes} bytes, {max_bytes} are allowed (plugin.max.bytes)")]
    TooLarge { declared_bytes: u64, max_bytes: u64 },
    #[error("{received_bytes} bytes arrived, {declared_bytes} were declared")]
    WrongSize { declared_bytes: u64, received_bytes: u64 },
    #[error("the bytes have the digest {found}, {declared} was declared")]
    WrongDigest { declared: Digest, found: Digest },
    #[error(transparent)]
    NotAComponent(#[from] NotAComponent),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("its manifest is refused: {0}")]
    Manifest(#[from] ManifestError),
    #[error("the WebAssembly engine cannot start: {reason}")]
    Engine { reason: String },
    #[error(transparent)]
    Store(#[from] VaultError),
}

impl AdmitError {
    /// Whether the upload is at fault, rather than this host's disk or processes.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Engine { .. } | Self::Store(_) => false,
            Self::Compile(error) => {
                use CompileError::{Files, Interrupted, OtherBuild, Start};
                !matches!(error, Start { .. } | Files(_) | OtherBuild { .. } | Interrupted { .. })
            }
            _ => true,
        }
    }
}

/// Why a plugin of the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages are the documentation
pub enum LoadError {
    #[error("there is no plugin {digest} in the store; push the same file again")]
    NotStored { digest: Digest },
    #[error("the plugin cannot be compiled again: {0}")]
    Compile(#[from] CompileError),
    #[error("its manifest is refused: {0}")]
    Manifest(#[from] ManifestError),
    #[error("it is a {found}, a {wanted} is needed")]
    OtherKind { found: Kind, wanted: Kind },
    #[error("its compiled form cannot be loaded: {reason}")]
    Code { reason: String },
    #[error("the WebAssembly engine cannot start: {reason}")]
    Engine { reason: String },
    #[error(transparent)]
    Store(#[from] VaultError),
    /// No instance could be started; among others the configuration was refused.
    #[error(transparent)]
    Start(#[from] CallError),
}

impl Host {
    /// A host that touches nothing before its first plugin.
    pub fn new(options: HostOptions) -> Self {
        let HostOptions { store_dir, compiler, limits } = options;
        Self {
            inner: Arc::new(Inner {
                vault: Vault::new(store_dir),
                compiler,
                limits,
                runtime: Mutex::default(),
                loaded: Mutex::default(),
                compiling: Mutex::default(),
            }),
        }
    }

    /// The bounds for every plugin.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// A partitioner for one topic, with a first instance that has accepted the configuration.
    pub fn partitioner(&self, digest: &Digest, setup: impl Into<Setup>) -> Result<Arc<Partitioner>, LoadError> {
        Ok(Arc::new(Partitioner::new(self.load_as(Kind::Partitioner, digest)?, setup.into())?))
    }

    /// A serializer for one topic, with a first instance that has accepted the configuration.
    pub fn serializer(&self, digest: &Digest, setup: impl Into<Setup>) -> Result<Arc<Serializer>, LoadError> {
        Ok(Arc::new(Serializer::new(self.load_as(Kind::Serializer, digest)?, setup.into())?))
    }

    /// A dead-letter policy for one topic, with a first instance that has accepted the configuration.
    pub fn dead_letter_policy(
        &self,
        digest: &Digest,
        setup: impl Into<Setup>,
    ) -> Result<Arc<DeadLetterPolicy>, LoadError> {
        Ok(Arc::new(DeadLetterPolicy::new(self.load_as(Kind::DeadLetterPolicy, digest)?, setup.into())?))
    }

    /// What a plugin of the store says about itself.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, LoadError> {
        Ok(self.load(digest)?.manifest.clone())
    }

    /// Whether a plugin is in the store.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.inner.vault.has_wasm(digest)
    }

    /// Whether the component is in the store as it was uploaded. Reads all of it.
    pub fn check(&self, digest: &Digest) -> Result<(), ComponentFault> {
        self.inner.vault.check(digest)
    }

    /// The contract that a component of the store is built against, where this host does not speak it: every call of the
    /// plugin would fail. Reads the file and runs nothing of it.
    pub fn foreign_contract(&self, digest: &Digest) -> Option<String> {
        foreign_contract(&self.inner.vault.read_wasm(digest).ok()?)
    }

    /// Whether its code is in memory, in use by some topic.
    pub fn is_loaded(&self, digest: &Digest) -> bool {
        self.loaded(digest).is_some()
    }

    /// The component as it was uploaded.
    pub fn component(&self, digest: &Digest) -> Result<Vec<u8>, LoadError> {
        if !self.contains(digest) {
            return Err(LoadError::NotStored { digest: *digest });
        }
        Ok(self.inner.vault.read_wasm(digest)?)
    }

    /// All plugins of the store.
    pub fn digests(&self) -> Result<Vec<Digest>, VaultError> {
        self.inner.vault.digests()
    }

    /// Removes a plugin from the store. Partitioners that use it go on until they are dropped.
    pub fn remove(&self, digest: &Digest) -> Result<(), VaultError> {
        self.inner.vault.remove(digest)
    }

    pub(crate) fn vault(&self) -> &Vault {
        &self.inner.vault
    }

    pub(crate) fn admit_file(
        &self,
        work: &WorkDir,
        path: &Path,
        digest: Digest,
        bytes: u64,
    ) -> Result<Admitted, AdmitError> {
        let runtime = self.runtime().map_err(|error| AdmitError::Engine { reason: reason(&error) })?;
        let parse = |pairs: Vec<_>| Manifest::parse(told_kind(&pairs), pairs, self.limits());
        let vault = &self.inner.vault;
        if self.contains(&digest)
            && let Some(compiled) = vault.read_compiled(&digest, runtime.fingerprint())?
        {
            if vault.check(&digest).is_err() {
                vault.keep_wasm(path, &digest)?;
                tracing::info!(%digest, "a damaged component of the plugin store is whole again");
            }
            return Ok(Admitted { digest, manifest: parse(compiled.pairs)?, bytes });
        }
        let _one_at_a_time = self.inner.compiling.lock();
        let output = self.compile(&runtime, work, path, &digest)?;
        let manifest = parse(output.pairs)?;
        vault.keep_wasm(path, &digest)?;
        tracing::info!(%digest, bytes, kind = %manifest.kind, reads = ?manifest.reads.names(), "plugin admitted");
        Ok(Admitted { digest, manifest, bytes })
    }

    /// Compiles a file of the work directory and keeps the code. The component itself comes after its code, so that what
    /// is in the store was compiled at least once.
    fn compile(
        &self,
        runtime: &Runtime,
        work: &WorkDir,
        path: &Path,
        digest: &Digest,
    ) -> Result<Output, CompileFailed> {
        let output = self.inner.compiler.compile(runtime, work.path(), path)?;
        self.inner.vault.keep_compiled(work, digest, runtime.fingerprint(), &output.pairs, &output.code)?;
        Ok(output)
    }

    fn load_as(&self, wanted: Kind, digest: &Digest) -> Result<Arc<Loaded>, LoadError> {
        let loaded = self.load(digest)?;
        match loaded.manifest.kind {
            found if found != wanted => Err(LoadError::OtherKind { found, wanted }),
            _ => Ok(loaded),
        }
    }

    /// Compiled code that is already loaded, or that of the store, or made again from the component. Only the last waits
    /// for other compilations: an upload that is slow to compile must not hold up a topic.
    fn load(&self, digest: &Digest) -> Result<Arc<Loaded>, LoadError> {
        if let Some(loaded) = self.loaded(digest) {
            return Ok(loaded);
        }
        // What is compiled serves without the component, too.
        if !self.contains(digest) && !self.inner.vault.has_compiled(digest) {
            return Err(LoadError::NotStored { digest: *digest });
        }
        let runtime = self.runtime().map_err(|error| LoadError::Engine { reason: reason(&error) })?;
        if let Some(loaded) = self.load_compiled(&runtime, digest)? {
            return Ok(loaded);
        }
        let _one_at_a_time = self.inner.compiling.lock();
        if let Some(loaded) = self.load_compiled(&runtime, digest)? {
            return Ok(loaded); // another thread made it while it held the lock
        }
        let vault = &self.inner.vault;
        if !self.contains(digest) {
            return Err(LoadError::NotStored { digest: *digest });
        }
        let work = vault.work_dir()?;
        let path = work.path().join("component.wasm");
        let component = vault.read_wasm(digest)?;
        // Every batch of its topics comes here: no child is started for what an upload would be refused for.
        if let Some(found) = foreign_contract(&component) {
            return Err(CompileError::Refused(ComponentRefusal::other_contract(found)).into());
        }
        std::fs::write(&path, component).map_err(|source| VaultError {
            action: "write",
            path: path.clone(),
            source,
        })?;
        let Output { pairs, code } = self.compile(&runtime, &work, &path, digest)?;
        Ok(self.remember(load_code(&runtime, digest, pairs, &code)?))
    }

    fn load_compiled(&self, runtime: &Arc<Runtime>, digest: &Digest) -> Result<Option<Arc<Loaded>>, LoadError> {
        let Some(compiled) = self.inner.vault.read_compiled(digest, runtime.fingerprint())? else { return Ok(None) };
        match load_code(runtime, digest, compiled.pairs.clone(), compiled.code()) {
            Ok(loaded) => Ok(Some(self.remember(loaded))),
            Err(error @ LoadError::Manifest(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%digest, %error, "compiled plugin cannot be loaded; it is compiled again");
                Ok(None)
            }
        }
    }

    fn loaded(&self, digest: &Digest) -> Option<Arc<Loaded>> {
        self.inner.loaded.lock().get(digest).and_then(Weak::upgrade)
    }

    /// Shares the code with the next caller that loads it. Where two loaded it at once, the first stays.
    fn remember(&self, loaded: Loaded) -> Arc<Loaded> {
        let mut all = self.inner.loaded.lock();
        all.retain(|_, weak| weak.strong_count() > 0);
        if let Some(first) = all.get(&loaded.digest).and_then(Weak::upgrade) {
            return first;
        }
        let loaded = Arc::new(loaded);
        all.insert(loaded.digest, Arc::downgrade(&loaded));
        loaded
    }

    /// Linear memory that all instances have now.
    pub fn memory_bytes(&self) -> u64 {
        self.inner.runtime.lock().as_ref().map_or(0, |runtime| runtime.memory.used())
    }

    fn runtime(&self) -> Result<Arc<Runtime>, wasmtime::Error> {
        let mut runtime = self.inner.runtime.lock();
        if let Some(runtime) = &*runtime {
            return Ok(Arc::clone(runtime));
        }
        let created = Runtime::new(&self.inner.limits, self.inner.limits.instances_max)?;
        *runtime = Some(Arc::clone(&created));
        Ok(created)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("limits", self.limits()).finish_non_exhaustive()
    }
}

/// Compiling failed, or keeping what it made did.
enum CompileFailed {
    Compile(CompileError),
    Store(VaultError),
}

impl From<CompileError> for CompileFailed {
    fn from(error: CompileError) -> Self {
        Self::Compile(error)
    }
}

impl From<VaultError> for CompileFailed {
    fn from(error: VaultError) -> Self {
        Self::Store(error)
    }
}

impl From<CompileFailed> for AdmitError {
    fn from(failed: CompileFailed) -> Self {
        match failed {
            CompileFailed::Compile(error) => error.into(),
            CompileFailed::Store(error) => error.into(),
        }
    }
}

impl From<CompileFailed> for LoadError {
    fn from(failed: CompileFailed) -> Self {
        match failed {
            CompileFailed::Compile(error) => error.into(),
            CompileFailed::Store(error) => error.into(),
        }
    }
}

/// The first interface of the contract that a component names, if it names none that this host speaks.
fn foreign_contract(component: &[u8]) -> Option<String> {
    let mut first = None;
    for at in memchr::memmem::find_iter(component, PACKAGE) {
        let rest = component.get(at..).unwrap_or_default();
        let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'/' | b'-' | b'@' | b'.');
        let name = String::from_utf8_lossy(rest.get(..rest.iter().take_while(is_of_name).count()).unwrap_or_default());
        let Some((name, version)) = name.split_once('@') else { continue };
        // 0.1.7 is served as 0.1.0 is, a prerelease of either is not.
        let served = format!("{name}@0.1.0");
        let is_served = Kind::ALL.iter().any(|kind| interface(*kind) == served);
        if is_served && version.starts_with("0.1.") && !version.contains('-') {
            return None;
        }
        first.get_or_insert_with(|| format!("{name}@{version}"));
    }
    first
}

/// The kind that pairs tell, which the compile child compared with the interface that the component exports.
fn told_kind(pairs: &[(String, String)]) -> Kind {
    let told = pairs.iter().find(|(name, _)| name == "kind").map(|(_, text)| text.as_str());
    Kind::ALL.into_iter().find(|kind| told == Some(&kind.to_string())).unwrap_or(Kind::Partitioner)
}

fn load_code(
    runtime: &Arc<Runtime>,
    digest: &Digest,
    pairs: Vec<(String, String)>,
    code: &[u8],
) -> Result<Loaded, LoadError> {
    let manifest = Manifest::parse(told_kind(&pairs), pairs, &runtime.limits)?;
    let unloadable = |error: wasmtime::Error| LoadError::Code { reason: reason(&error) };
    // SAFETY: the code was made by this host's own compile child, either just now or under a seal that only this host
    // has the key of; nothing that was uploaded comes here.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(&runtime.engine, code) }.map_err(unloadable)?;
    let prepared = Prepared::new(manifest.kind, &component).map_err(unloadable)?;
    Ok(Loaded { runtime: Arc::clone(runtime), digest: *digest, manifest, prepared })
}
