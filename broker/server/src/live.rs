//! The settings in force: those of the start, and over them what was set while the broker ran, which lasts.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_coordinator::group::GroupConfig;
use parking_lot::{Mutex, RwLock};

use crate::config::{Config, GROUP_SETTINGS, GroupSetting, MetricsSubscription, Setting, SettingsConflict, is_live};
use crate::meta::{ConfigResource, ConfigsRecord, MetaError, MetadataStore};

/// Subscriptions to the metrics of clients that there may be.
const CLIENT_METRICS_MAX: usize = 100;

/// Settings by name, as the client wrote them.
pub type Overrides = BTreeMap<String, String>;

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
pub enum LiveConfigError {
    /// No setting has this name.
    #[error("Unknown {kind} config name: {name}")]
    Unknown {
        /// `broker`, `group` or `client metrics`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The setting is read at the start alone.
    #[error("Cannot update these configs dynamically: {name}. Set it where the broker is started.")]
    ReadOnly {
        /// The setting.
        name: &'static str,
    },
    /// The setting does not accept the value.
    #[error("Invalid value {value} for configuration {name}: {wrong}")]
    BadValue {
        /// The setting.
        name: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// There are as many subscriptions to the metrics of clients as there may be.
    #[error("there are {CLIENT_METRICS_MAX} subscriptions to client metrics already; delete one first")]
    TooManyClientMetrics,
    /// Two settings cannot both hold.
    #[error(transparent)]
    Conflict(#[from] SettingsConflict),
    /// The metadata could not be written; nothing changed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// All settings at one moment.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The settings of this broker.
    pub config: Config,
    /// What was set for all brokers.
    pub all_brokers: Overrides,
    /// What was set for this broker; counts more.
    pub this_broker: Overrides,
    /// What was set for groups, by group id.
    pub groups: BTreeMap<String, Overrides>,
    /// What was set on client-metrics resources, by their names.
    pub client_metrics: BTreeMap<String, Overrides>,
}

impl InForce {
    /// What the group coordinator needs to know.
    pub fn group_config(&self) -> GroupConfig {
        let mut config = self.config.group_config();
        for (group, overrides) in &self.groups {
            let times = config.of_groups.entry(group.as_str().into()).or_default();
            for setting in GROUP_SETTINGS {
                if let Some(ms) = overrides.get(setting.name).and_then(|text| text.trim().parse().ok()) {
                    (setting.set)(times, ms);
                }
            }
        }
        config
    }
}

/// The settings of a running broker.
pub struct LiveConfig {
    started: Config,
    meta: Arc<dyn MetadataStore>,
    in_force: RwLock<Arc<InForce>>,
    /// Held while settings change.
    changing: Mutex<()>,
}

impl LiveConfig {
    /// The settings of a start, with what was set earlier over them. A value that this version refuses is left out, with a line
    /// in the log: it must not keep the broker from its data.
    pub fn open(started: &Config, meta: Arc<dyn MetadataStore>) -> Result<Self, MetaError> {
        let (mut all_brokers, mut this_broker) = (Overrides::new(), Overrides::new());
        let (mut groups, mut client_metrics) = (BTreeMap::new(), BTreeMap::new());
        for ConfigsRecord { resource, name, configs } in meta.configs()? {
            match resource {
                ConfigResource::Broker if name.is_empty() => all_brokers = configs,
                ConfigResource::Broker if name == started.node_id.to_string() => this_broker = configs,
                ConfigResource::Broker => {}
                ConfigResource::Group => drop(groups.insert(name, configs)),
                ConfigResource::ClientMetrics => drop(client_metrics.insert(name, configs)),
            }
        }
        let mut config = started.clone();
        for overrides in [&mut all_brokers, &mut this_broker] {
            overrides.retain(|name, value| match set(&mut config, name, value) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!("{error}; the setting of the start holds until it is corrected");
                    false
                }
            });
        }
        if let Err(conflict) = config.check() {
            tracing::error!("{conflict}; the settings of the start hold until that is corrected");
            config = started.clone();
        }
        let in_force = InForce { config, all_brokers, this_broker, groups, client_metrics };
        Ok(Self {
            started: started.clone(),
            meta,
            in_force: RwLock::new(Arc::new(in_force)),
            changing: Mutex::default(),
        })
    }

    /// The settings of the start.
    pub fn started(&self) -> &Config {
        &self.started
    }

    /// The settings that hold now.
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read())
    }

    /// Replaces what is set on a resource by what `change` makes of it, on the disk and then in memory, and hands the result to
    /// `follow` before another change can come. With `validate_only` it is only checked. Blocks on the disk.
    pub fn alter<E: From<LiveConfigError>>(
        &self,
        resource: ConfigResource,
        name: &str,
        validate_only: bool,
        change: impl FnOnce(&Overrides) -> Result<Overrides, E>,
        follow: impl FnOnce(&InForce),
    ) -> Result<(), E> {
        let _changing = self.changing.lock();
        let mut next = InForce::clone(&self.in_force());
        let none = Overrides::new();
        let before = match resource {
            ConfigResource::Broker if name.is_empty() => &next.all_brokers,
            ConfigResource::Broker => &next.this_broker,
            ConfigResource::Group => next.groups.get(name).unwrap_or(&none),
            ConfigResource::ClientMetrics => next.client_metrics.get(name).unwrap_or(&none),
        };
        let configs = change(before)?;
        match resource {
            ConfigResource::Broker if name.is_empty() => next.all_brokers.clone_from(&configs),
            ConfigResource::Broker => next.this_broker.clone_from(&configs),
            ConfigResource::Group if configs.is_empty() => drop(next.groups.remove(name)),
            ConfigResource::Group => drop(next.groups.insert(name.to_owned(), configs.clone())),
            ConfigResource::ClientMetrics if configs.is_empty() => drop(next.client_metrics.remove(name)),
            ConfigResource::ClientMetrics => drop(next.client_metrics.insert(name.to_owned(), configs.clone())),
        }
        next.config = self.started.clone();
        for (name, value) in next.all_brokers.iter().chain(&next.this_broker) {
            set(&mut next.config, name, value)?;
        }
        next.config.check().map_err(LiveConfigError::from)?;
        match resource {
            ConfigResource::Broker => {}
            ConfigResource::Group => check_group(&next.config, &configs)?,
            ConfigResource::ClientMetrics if next.client_metrics.len() > CLIENT_METRICS_MAX => {
                return Err(LiveConfigError::TooManyClientMetrics.into());
            }
            ConfigResource::ClientMetrics => check_client_metrics(&configs)?,
        }
        if validate_only {
            return Ok(());
        }
        let record = ConfigsRecord { resource, name: name.to_owned(), configs };
        self.meta.put_configs(&record).map_err(LiveConfigError::from)?;
        let next = Arc::new(next);
        *self.in_force.write() = Arc::clone(&next);
        follow(&next);
        Ok(())
    }
}

/// Sets a broker setting that can be set while the broker runs.
fn set(config: &mut Config, name: &str, value: &str) -> Result<(), LiveConfigError> {
    let unknown = || LiveConfigError::Unknown { kind: "broker", name: name.to_owned() };
    let setting = Setting::find(name).ok_or_else(unknown)?;
    if !is_live(setting) {
        return Err(LiveConfigError::ReadOnly { name: setting.name });
    }
    let bad = |wrong| LiveConfigError::BadValue { name: name.to_owned(), value: value.to_owned(), wrong };
    (setting.set)(config, value).map_err(bad)
}

/// Checks the settings of a group against the bounds of the broker, and against each other.
fn check_group(config: &Config, overrides: &Overrides) -> Result<(), LiveConfigError> {
    for (name, value) in overrides {
        let unknown = || LiveConfigError::Unknown { kind: "group", name: name.clone() };
        let GroupSetting { bounds, .. } = GroupSetting::find(name).ok_or_else(unknown)?;
        let bad = |wrong| LiveConfigError::BadValue { name: name.clone(), value: value.clone(), wrong };
        let (min, max) = bounds(config);
        match value.trim().parse::<i32>() {
            Ok(ms) if (min..=max).contains(&ms) => {}
            Ok(_) => {
                let [at_least, at_most] = GroupSetting::find(name).map_or(["", ""], |setting| setting.bound_names);
                return Err(bad(format!("it lies outside {at_least} = {min} and {at_most} = {max}")));
            }
            Err(_) => return Err(bad("a number of milliseconds is wanted".to_owned())),
        }
    }
    let in_force = |setting: &GroupSetting| {
        overrides
            .get(setting.name)
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_else(|| (setting.default)(config))
    };
    let [session, heartbeat] = GROUP_SETTINGS;
    if in_force(heartbeat) >= in_force(session) {
        return Err(LiveConfigError::BadValue {
            name: heartbeat.name.to_owned(),
            value: in_force(heartbeat).to_string(),
            wrong: format!("it has to be less than {} = {}", session.name, in_force(session)),
        });
    }
    Ok(())
}

fn check_client_metrics(overrides: &Overrides) -> Result<(), LiveConfigError> {
    MetricsSubscription::read(overrides).map(drop).map_err(|(name, wrong)| {
        let value = overrides.get(&name).cloned().unwrap_or_default();
        LiveConfigError::BadValue { name, value, wrong }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::LocalStore;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_stored_setting_that_is_refused_by_now_costs_the_others_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(dir.path(), Vec::new(), &[]).unwrap().0);
        let stored = overrides(&[
            ("no.such", "1"),
            ("num.partitions", "many"),
            ("offset.metadata.max.bytes", "2048"),
            ("node.id", "7"),
        ]);
        let record = ConfigsRecord { resource: ConfigResource::Broker, name: String::new(), configs: stored };
        meta.put_configs(&record).unwrap();
        let live = LiveConfig::open(&Config::default(), meta).unwrap().in_force();
        assert_eq!(
            (live.config.offset_metadata_max_bytes, live.config.num_partitions, live.config.node_id),
            (2048, 4, 1)
        );
        assert_eq!(live.all_brokers, overrides(&[("offset.metadata.max.bytes", "2048")]));
    }

    #[test]
    fn this_broker_counts_more_than_all_and_all_more_than_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let meta: Arc<dyn MetadataStore> = Arc::new(LocalStore::open(dir.path(), Vec::new(), &[]).unwrap().0);
        let started = Config { num_partitions: 2, ..Config::default() };
        let live = LiveConfig::open(&started, Arc::clone(&meta)).unwrap();
        let give = |name: &str, pairs: &[(&str, &str)]| {
            let configs = overrides(pairs);
            live.alter::<LiveConfigError>(ConfigResource::Broker, name, false, |_| Ok(configs), |_| ())
        };
        give("1", &[("num.partitions", "9")]).unwrap();
        give("", &[("num.partitions", "5")]).unwrap();
        assert_eq!(live.in_force().config.num_partitions, 9);
        let again = LiveConfig::open(&started, Arc::clone(&meta)).unwrap();
        assert_eq!(again.in_force().config.num_partitions, 9, "after a restart, too");
        give("1", &[]).unwrap();
        assert_eq!(live.in_force().config.num_partitions, 5);
        let wrong = give("", &[("num.partitions", "20000")]).unwrap_err().to_string();
        assert!(wrong.contains("ottla.topic.partitions.max"), "{wrong}");
        let wrong = give("", &[("log.dir", "/x")]).unwrap_err();
        assert!(matches!(wrong, LiveConfigError::ReadOnly { name: "log.dir" }), "{wrong}");
        give("", &[]).unwrap();
        assert_eq!(live.in_force().config, started);
        assert!(meta.configs().unwrap().is_empty());
    }
}
