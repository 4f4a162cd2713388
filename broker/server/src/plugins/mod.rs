//! The plugins of this broker: names, their immutable versions, and the one of them that is active.
//!
//! Owns the registry (persisted through [`MetadataStore`]), the uploads, and the plugins that are bound to topics.
//! Promises that a version, once given, always means the same bytes, and that activating another one takes effect with
//! the next batch: batches that are in a plugin finish in the version they entered; that nothing in use is deleted, since
//! users are counted under the lock that deletes and activates. Calls that write block on the disk
//! or compile; only [`PluginRegistry::bound`] is made for the way of a record.

pub(crate) mod uploads;

mod bound;
mod history;
mod host;
mod reservations;
mod stats;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_plugin_host::{Admitted, Digest, Host, Kind, LoadError};
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

pub(crate) use bound::{Binding, BoundPlugin, Instance};
pub(crate) use host::plugin_host;
pub(crate) use reservations::Reservation;
pub(crate) use stats::{PluginStats, Verdicts};
pub(crate) use uploads::{Chunk, Progress, UploadError, Uploads};

use crate::config::PluginRef;
use crate::meta::{MetaError, MetadataStore, PluginRecord, PluginVersionRecord};
use reservations::{Pushing, Reservations};

/// Names, versions, uploads and bound plugins.
pub struct PluginRegistry {
    meta: Arc<dyn MetadataStore>,
    host: Host,
    uploads: Uploads,
    pushing: Pushing,
    reservations: Arc<Reservations>,
    /// One change of the registry at a time; readers do not wait for it.
    changing: Mutex<()>,
    names: RwLock<BTreeMap<String, Arc<PluginRecord>>>,
    /// Counts the changes, so that a bound plugin knows whether it is still the right one.
    generation: AtomicU64,
    bound: RwLock<HashMap<(Uuid, Kind), Arc<BoundPlugin>>>,
    /// What the versions did that were bound since the start, by name and version, as long as there are these versions.
    stats: Mutex<BTreeMap<(String, i32), Arc<PluginStats>>>,
}

/// Why the registry did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No plugin of this name.
    #[error("there is no plugin {0:?}")]
    UnknownName(String),
    /// No such version of it.
    #[error("plugin {name:?} has no version {version}")]
    UnknownVersion {
        /// The plugin.
        name: String,
        /// The version.
        version: i32,
    },
    /// Nothing was active before that a rollback did not leave.
    #[error(
        "plugin {name:?} runs version {active_version}, and no earlier one ran that is not marked bad: name the version to return to"
    )]
    NoPrevious {
        /// The plugin.
        name: String,
        /// The version that stays active.
        active_version: i32,
    },
    /// The plugin has versions, but none is active.
    #[error("plugin {0:?} has no active version: activate one, or name a version")]
    NoneActive(String),
    /// Topics still use it.
    #[error("plugin {plugin} is used by {}: set another plugin, or none, in the topic first", topics.join(", "))]
    InUse {
        /// The plugin, with its version if one was named.
        plugin: String,
        /// The topics.
        topics: Vec<String>,
    },
    /// The active version goes last.
    #[error("version {version} of plugin {name:?} is active: activate another one first, or delete all versions")]
    Active {
        /// The plugin.
        name: String,
        /// The version.
        version: i32,
    },
    /// The plugin is for something else.
    #[error("{plugin} is a {is}, a {wanted} is needed")]
    WrongKind {
        /// `name@version`.
        plugin: String,
        /// What it is.
        is: String,
        /// What the topic wants it for.
        wanted: Kind,
    },
    /// A plugin cannot serve a topic that wants it.
    #[error("{plugin} cannot serve {what}: {source}")]
    Load {
        /// `name@version`.
        plugin: String,
        /// The topic, or what else it was tried for.
        what: String,
        /// Why.
        source: LoadError,
    },
    /// The registry could not be stored; nothing has changed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A stored digest does not read.
    #[error("the registry names {0:?} as a digest, which it is not")]
    BadDigest(String),
}

impl RegistryError {
    /// Whether the caller is at fault, rather than this broker's disk.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Meta(_) | Self::BadDigest(_))
    }
}

/// A topic that names a plugin, or is about to.
#[derive(Debug, Clone)]
pub struct PluginUser {
    /// The topic's id, once it names the plugin.
    pub topic_id: Option<Uuid>,
    /// Its name.
    pub topic: String,
    /// What the plugin is to do.
    pub kind: Kind,
    /// The plugin it names.
    pub plugin: PluginRef,
    /// The text it hands to the plugin.
    pub config: String,
}

/// A version that a name stands for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    version: i32,
    digest: Digest,
}

impl PluginRegistry {
    /// Reads the registry. Loads no plugin: that comes with the first batch that needs one.
    pub fn open(meta: Arc<dyn MetadataStore>, host: Host) -> Result<Self, MetaError> {
        let names = meta.plugins()?.into_iter().map(|record| (record.name.clone(), Arc::new(record))).collect();
        Ok(Self {
            meta,
            host,
            uploads: Uploads::default(),
            pushing: Pushing::default(),
            reservations: Arc::default(),
            changing: Mutex::default(),
            names: RwLock::new(names),
            generation: AtomicU64::new(0),
            bound: RwLock::default(),
            stats: Mutex::default(),
        })
    }

    /// The host that runs the plugins.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Every plugin that has versions, by name.
    pub fn all(&self) -> Vec<Arc<PluginRecord>> {
        let names = self.names.read();
        names.values().filter(|record| !record.versions.is_empty()).cloned().collect()
    }

    /// The plugin of this name.
    pub fn get(&self, name: &str) -> Option<Arc<PluginRecord>> {
        self.record(name).filter(|record| !record.versions.is_empty())
    }

    /// Takes a piece of an upload; with the last one the plugin gets its version. The first version of a name becomes
    /// the active one. Bytes that the name has already keep the version they have; where the store lost them they are taken again.
    pub fn push(&self, name: &str, chunk: Chunk<'_>) -> Result<(u64, i32), PushError> {
        let _push = self.pushing.begin(chunk.digest);
        if let Some(version) = self.whole_version_of(name, chunk.digest) {
            return Ok((chunk.total_bytes, version));
        }
        match self.uploads.push(&self.host, chunk)? {
            Progress::Continue(offset) => match self.whole_version_of(name, chunk.digest) {
                Some(version) => Ok((chunk.total_bytes, version)),
                None => Ok((offset, 0)),
            },
            Progress::Admitted(admitted) => Ok((admitted.bytes, self.register(name, &admitted)?)),
        }
    }

    /// Lets a topic name a plugin with this configuration, as soon as it likes: while the reservation lasts the plugin
    /// is not deleted and no version becomes active that cannot serve the topic. The error is what the topic's owner
    /// reads.
    pub fn reserve(&self, topic: &str, binding: Binding<'_>) -> Result<Reservation, RegistryError> {
        let Binding { kind, plugin, config } = binding;
        let (reservation, resolved) = {
            let _changing = self.changing.lock();
            let resolved = self.resolve(kind, plugin)?;
            let (topic, plugin, config) = (topic.to_owned(), plugin.clone(), config.to_owned());
            (self.reservations.enter(PluginUser { topic_id: None, topic, kind, plugin, config }), resolved)
        };
        self.load(&plugin.name, kind, resolved, config, "this topic")?;
        Ok(reservation)
    }

    /// Makes a version the active one, for all topics that name the plugin without a version, from their next batch on.
    /// Before that it is loaded for each of them, so that a version that cannot serve is refused and none of them waits.
    /// `topics` are those that name plugins, asked for while no other topic can come to name this one.
    pub fn activate(
        &self,
        name: &str,
        version: i32,
        topics: impl FnOnce() -> Vec<PluginUser>,
    ) -> Result<i32, RegistryError> {
        let _changing = self.changing.lock();
        let record = self.get(name).ok_or_else(|| RegistryError::UnknownName(name.to_owned()))?;
        self.replace_active(&record, &record.activated(version), topics)
    }

    /// Makes an earlier version active again: the one named, otherwise the last of the history. The version that it leaves is marked
    /// bad, so that no later rollback returns to it.
    pub fn roll_back(
        &self,
        name: &str,
        to: Option<i32>,
        topics: impl FnOnce() -> Vec<PluginUser>,
    ) -> Result<i32, RegistryError> {
        let _changing = self.changing.lock();
        let record = self.get(name).ok_or_else(|| RegistryError::UnknownName(name.to_owned()))?;
        let no_previous = || RegistryError::NoPrevious { name: name.to_owned(), active_version: record.active_version };
        let changed = record.rolled_back(to).ok_or_else(no_previous)?;
        let active_version = self.replace_active(&record, &changed, topics)?;
        if active_version != record.active_version {
            tracing::warn!(plugin = name, version = record.active_version, "plugin version marked bad by a rollback");
        }
        Ok(active_version)
    }

    /// Stores the record with another active version, as soon as that can serve all topics that follow the active one.
    fn replace_active(
        &self,
        record: &PluginRecord,
        changed: &PluginRecord,
        topics: impl FnOnce() -> Vec<PluginUser>,
    ) -> Result<i32, RegistryError> {
        let (name, version) = (&*changed.name, changed.active_version);
        let digest = digest_of(record, version)?;
        if record.active_version == version {
            return Ok(version);
        }
        let resolved = Resolved { version, digest };
        let users = self.reservations.and(topics);
        let following = || users.iter().filter(|user| user.plugin.name == name && user.plugin.version.is_none());
        let mut ready = Vec::new();
        for user in following() {
            let instance = self.load(name, user.kind, resolved, &user.config, &format!("topic {}", user.topic))?;
            let stats = self.stats_of(name, version);
            let bound = Arc::new(BoundPlugin::new(name, version, instance, &user.config, stats));
            // One that is about to name it looks it up with its first batch.
            ready.extend(user.topic_id.map(|topic_id| ((topic_id, user.kind), bound)));
        }
        self.store(changed.clone())?;
        {
            let mut bound = self.bound.write();
            let alive: HashSet<Uuid> = users.iter().filter_map(|user| user.topic_id).collect();
            bound.retain(|(topic_id, _), _| alive.contains(topic_id));
            let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
            for (use_of_topic, plugin) in ready {
                plugin.confirm(generation);
                bound.insert(use_of_topic, plugin);
            }
        }
        tracing::info!(plugin = name, version, previous = record.active_version, "plugin version activated");
        Ok(version)
    }

    /// Removes a version, or all of them, unless topics use it. Version numbers are not given again. `topics` are those
    /// that name plugins, asked for while no other topic can come to name this one.
    pub fn delete(
        &self,
        name: &str,
        version: Option<i32>,
        topics: impl FnOnce() -> Vec<PluginUser>,
    ) -> Result<(), RegistryError> {
        let _changing = self.changing.lock();
        let record = self.get(name).ok_or_else(|| RegistryError::UnknownName(name.to_owned()))?;
        let plugin = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
        if let Some(version) = version {
            digest_of(&record, version)?;
        }
        let needs_it = |user: &&PluginUser| {
            let named = user.plugin.version.unwrap_or(record.active_version);
            user.plugin.name == name && version.is_none_or(|version| version == named)
        };
        let users = self.reservations.and(topics);
        let mut topics: Vec<String> = users.iter().filter(needs_it).map(|user| user.topic.clone()).collect();
        // One that changes its settings is about to name it and names it already.
        topics.dedup();
        if !topics.is_empty() {
            return Err(RegistryError::InUse { plugin, topics });
        }
        let (gone, kept): (Vec<_>, Vec<_>) =
            record.versions.iter().cloned().partition(|known| version.is_none_or(|version| version == known.version));
        if let Some(version) = version.filter(|version| *version == record.active_version && !kept.is_empty()) {
            return Err(RegistryError::Active { name: name.to_owned(), version });
        }
        self.store(record.with_versions(kept))?;
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.remove_components(&gone);
        let is_gone = |version: i32| gone.iter().any(|known| known.version == version);
        self.stats.lock().retain(|(known, version), _| known != name || !is_gone(*version));
        tracing::info!(plugin, "plugin deleted");
        Ok(())
    }

    /// The plugin of a topic, loaded if it is not yet. After the first batch this is a look into a table.
    pub fn bound(&self, topic_id: Uuid, topic: &str, binding: Binding<'_>) -> Result<Arc<BoundPlugin>, RegistryError> {
        let generation = self.generation.load(Ordering::Acquire);
        let use_of_topic = (topic_id, binding.kind);
        let known = self.bound.read().get(&use_of_topic).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.serves(binding) && known.is_confirmed(generation)) {
            return Ok(Arc::clone(known));
        }
        let resolved = self.resolve(binding.kind, binding.plugin)?;
        let plugin = match known {
            // Some other plugin changed: this one is still right.
            Some(known) if known.serves(binding) && known.is(resolved) => known,
            _ => {
                let name = &binding.plugin.name;
                let instance = self.load(name, binding.kind, resolved, binding.config, &format!("topic {topic}"))?;
                let stats = self.stats_of(name, resolved.version);
                Arc::new(BoundPlugin::new(name, resolved.version, instance, binding.config, stats))
            }
        };
        plugin.confirm(generation);
        self.bound.write().insert(use_of_topic, Arc::clone(&plugin));
        Ok(plugin)
    }

    /// Writes a log line for every topic whose plugin was built against another version of the contract: producers to it get
    /// errors until it is built again.
    pub(crate) fn tell_foreign_contracts(&self, users: &[PluginUser]) {
        // Many topics may use one component, which is read as a whole.
        let mut known: HashMap<Digest, Option<String>> = HashMap::new();
        for user in users {
            let Ok(Resolved { version, digest }) = self.resolve(user.kind, &user.plugin) else { continue };
            if let Some(contract) = known.entry(digest).or_insert_with(|| self.host.foreign_contract(&digest)) {
                let (topic, plugin) = (&user.topic, &user.plugin.name);
                tracing::error!(
                    topic,
                    plugin,
                    version,
                    contract,
                    "the plugin of a topic is built against a contract that this release does not speak; producers to the \
                     topic get errors that they retry, until the plugin is built again with the kit of this release, pushed \
                     under the same name and activated"
                );
            }
        }
    }

    /// What the versions did that ran since the start, by name and version.
    pub fn stats(&self) -> Vec<(String, i32, Arc<PluginStats>)> {
        let stats = self.stats.lock();
        stats.iter().map(|((name, version), stats)| (name.clone(), *version, Arc::clone(stats))).collect()
    }

    fn stats_of(&self, name: &str, version: i32) -> Arc<PluginStats> {
        Arc::clone(self.stats.lock().entry((name.to_owned(), version)).or_default())
    }

    /// Linear memory of the plugins that topics use, in bytes, by name and version.
    pub fn memory_held_bytes(&self) -> BTreeMap<(String, i32), u64> {
        let mut held = BTreeMap::new();
        for bound in self.bound.read().values() {
            let of_version = held.entry((bound.name().to_owned(), bound.version())).or_default();
            *of_version += bound.memory_held_bytes();
        }
        held
    }

    /// Writes log lines about failures that had none, where the last one was a while ago.
    pub(crate) fn tell_unmentioned_failures(&self) {
        for bound in self.bound.read().values() {
            bound.tell_unmentioned_when_due();
        }
    }

    /// Lets go of what is loaded for topics that are gone.
    pub(crate) fn forget_topics(&self, is_gone: impl Fn(Uuid) -> bool) {
        self.bound.write().retain(|(topic_id, _), _| !is_gone(*topic_id));
    }

    fn register(&self, name: &str, admitted: &Admitted) -> Result<i32, MetaError> {
        let _changing = self.changing.lock();
        if let Some(version) = self.version_of(name, admitted.digest) {
            return Ok(version);
        }
        let mut record = self.record(name).map_or_else(
            || PluginRecord { name: name.to_owned(), next_version: 1, ..PluginRecord::default() },
            |record| PluginRecord::clone(&record),
        );
        let version = record.next_version;
        record.next_version += 1;
        record.versions.push(PluginVersionRecord {
            version,
            digest: admitted.digest.to_string(),
            kind: admitted.manifest.kind.to_string(),
            bytes: admitted.bytes as i64,
            created_ms: crate::clock::now_ms(),
            reads: admitted.manifest.reads.names(),
        });
        if record.active_version == 0 {
            record.active_version = version;
        }
        self.store(record)?;
        self.generation.fetch_add(1, Ordering::AcqRel);
        tracing::info!(plugin = name, version, digest = %admitted.digest, "plugin version registered");
        Ok(version)
    }

    /// Removes components that no name has any more and that are not being pushed. What cannot be removed is only space.
    fn remove_components(&self, gone: &[PluginVersionRecord]) {
        let kept: HashSet<String> =
            self.all().iter().flat_map(|record| record.versions.iter().map(|known| known.digest.clone())).collect();
        for version in gone.iter().filter(|version| !kept.contains(&version.digest)) {
            let Ok(digest) = version.digest.parse::<Digest>() else { continue };
            self.pushing.unless(digest, || {
                if let Err(error) = self.host.remove(&digest) {
                    tracing::warn!(%digest, %error, "a deleted plugin stays in the store");
                }
            });
        }
    }

    fn store(&self, record: PluginRecord) -> Result<(), MetaError> {
        self.meta.put_plugin(&record)?;
        let mut names = self.names.write();
        names.insert(record.name.clone(), Arc::new(record));
        Ok(())
    }

    fn load(
        &self,
        name: &str,
        kind: Kind,
        resolved: Resolved,
        config: &str,
        what: &str,
    ) -> Result<Instance, RegistryError> {
        if !self.host.is_loaded(&resolved.digest)
            && let Err(fault) = self.host.check(&resolved.digest)
        {
            let version = resolved.version;
            tracing::error!(plugin = name, version, used_by = what, %fault, "push the same file of the plugin again");
        }
        let (host, digest) = (&self.host, &resolved.digest);
        let loaded = match kind {
            Kind::Serializer => host.serializer(digest, config).map(Instance::Serializer),
            _ => host.partitioner(digest, config).map(Instance::Partitioner),
        };
        loaded.map_err(|source| RegistryError::Load {
            plugin: format!("{name}@{}", resolved.version),
            what: what.to_owned(),
            source,
        })
    }

    fn resolve(&self, kind: Kind, plugin: &PluginRef) -> Result<Resolved, RegistryError> {
        let record = self.get(&plugin.name).ok_or_else(|| RegistryError::UnknownName(plugin.name.clone()))?;
        let version = match plugin.version.unwrap_or(record.active_version) {
            0 => return Err(RegistryError::NoneActive(plugin.name.clone())),
            version => version,
        };
        let is_other = |known: &&PluginVersionRecord| known.version == version && known.kind != kind.to_string();
        if let Some(other) = record.versions.iter().find(is_other) {
            let plugin = format!("{}@{version}", plugin.name);
            return Err(RegistryError::WrongKind { plugin, is: other.kind.clone(), wanted: kind });
        }
        Ok(Resolved { version, digest: digest_of(&record, version)? })
    }

    fn version_of(&self, name: &str, digest: Digest) -> Option<i32> {
        let digest = digest.to_string();
        let record = self.record(name)?;
        record.versions.iter().find(|known| known.digest == digest).map(|known| known.version)
    }

    /// The same where the store has the bytes as they were. While they are being pushed again it is not asked.
    fn whole_version_of(&self, name: &str, digest: Digest) -> Option<i32> {
        let version = self.version_of(name, digest)?;
        (!self.uploads.is_under_way(digest) && self.host.check(&digest).is_ok()).then_some(version)
    }

    fn record(&self, name: &str) -> Option<Arc<PluginRecord>> {
        self.names.read().get(name).cloned()
    }
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The upload.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The registry could not be stored; the component is kept, so that pushing again is quick.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

fn digest_of(record: &PluginRecord, version: i32) -> Result<Digest, RegistryError> {
    let known = record.versions.iter().find(|known| known.version == version);
    let known = known.ok_or_else(|| RegistryError::UnknownVersion { name: record.name.clone(), version })?;
    known.digest.parse().map_err(|_| RegistryError::BadDigest(known.digest.clone()))
}
