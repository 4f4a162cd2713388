//! Settings of a topic: the table that CreateTopics, DescribeConfigs, IncrementalAlterConfigs and the documentation
//! read. What a topic does not set comes from the broker's settings.

use std::collections::BTreeMap;

use super::kafka::KafkaSettings;
use super::nearest::did_you_mean;
use super::value::{SettingValue, ValueKind, check_allowed, spelled};
use super::{Config, Durability};

/// The least that `segment.bytes` may be: a partition of smaller segments is all file handles.
pub const SEGMENT_BYTES_MIN: i32 = 1 << 20;

spelled! {
    /// Whose clock stamps a record.
    TimestampType {
        /// The producer's.
        CreateTime = "CreateTime",
        /// The broker's, at append.
        LogAppendTime = "LogAppendTime",
    }
}

spelled! {
    /// What a topic's partitioner plugin may do.
    PartitionerMode {
        /// Move each record to the partition that the plugin names.
        Route = "route",
        /// Nothing; the plugin stays bound and is not called.
        Off = "off",
    }
}

spelled! {
    /// What a topic's serializer plugin may do.
    SerializerMode {
        /// Accept, rewrite or refuse each record before it is stored.
        Encode = "encode",
        /// Nothing; the plugin stays bound and is not called.
        Off = "off",
    }
}

/// Whether a setting has an effect yet. Every setting that Kafka's tools send is kept and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The broker acts on it.
    Now,
    /// Kept and shown, not yet acted on; the documentation lists it so.
    NotYet,
}

/// What happens to old data: any of `delete` and `compact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments go.
    pub delete: bool,
    /// The last record of each key stays.
    pub compact: bool,
}

impl SettingValue for CleanupPolicy {
    const KIND: ValueKind = ValueKind::List;
    fn parse(text: &str) -> Result<Self, String> {
        let mut policy = Self { delete: false, compact: false };
        for word in list_items(text) {
            match word {
                "delete" => policy.delete = true,
                "compact" => policy.compact = true,
                _ => return Err(format!("{word:?} is neither delete nor compact")),
            }
        }
        if policy.delete || policy.compact { Ok(policy) } else { Err("delete, compact or both are wanted".to_owned()) }
    }
    fn show(&self) -> String {
        match (self.compact, self.delete) {
            (true, true) => "compact,delete".to_owned(),
            (true, false) => "compact".to_owned(),
            (false, _) => "delete".to_owned(),
        }
    }
}

/// The items of a list value.
pub fn list_items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

spelled! {
    /// The codec that a topic asks for.
    TopicCompression {
        /// As the producer sent it, which is what the broker always keeps.
        Producer = "producer",
        /// Kept and shown; batches stay as the producer sent them.
        Uncompressed = "uncompressed",
        /// Kept and shown; batches stay as the producer sent them.
        Gzip = "gzip",
        /// Kept and shown; batches stay as the producer sent them.
        Snappy = "snappy",
        /// Kept and shown; batches stay as the producer sent them.
        Lz4 = "lz4",
        /// Kept and shown; batches stay as the producer sent them.
        Zstd = "zstd",
    }
}

/// A plugin named in a topic setting: `name` for the active version, `name@version` for a fixed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRef {
    /// The name it was uploaded under.
    pub name: String,
    /// The version, or the active one.
    pub version: Option<i32>,
}

impl SettingValue for PluginRef {
    const KIND: ValueKind = ValueKind::String;
    fn parse(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => match version.parse::<i32>() {
                Ok(version) if version > 0 => (name, Some(version)),
                _ => return Err(format!("{version:?} is no version: 1, 2, 3 … is wanted after the @")),
            },
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 128 || !name.chars().all(legal) {
            return Err(format!("{name:?} is no plugin name: up to 128 letters, digits, '-', '_' and '.'"));
        }
        Ok(Self { name: name.to_owned(), version })
    }
    fn show(&self) -> String {
        match self.version {
            None => self.name.clone(),
            Some(version) => format!("{}@{version}", self.name),
        }
    }
}

/// One line of the table.
pub struct TopicSetting {
    /// The dotted name.
    pub name: &'static str,
    /// The broker settings that give its default, the one that counts most first.
    pub broker_names: &'static [&'static str],
    /// What it does.
    pub doc: &'static str,
    /// Its type as admin tools see it.
    pub kind: ValueKind,
    /// Whether it may be unset, which the empty text says.
    pub optional: bool,
    /// Whether the broker acts on it.
    pub effect: Effect,
    /// The value in force, as text.
    pub show: fn(&TopicSettings) -> String,
    /// Reads a value.
    pub set: fn(&mut TopicSettings, &str) -> Result<(), String>,
}

impl TopicSetting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TOPIC_SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Whether it is for tests: understood, and shown only where it is set.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with("internal.")
    }
}

/// The setting that a mistyped name most likely meant.
fn advice(name: &str) -> String {
    let known = TOPIC_SETTINGS.iter().filter(|setting| !setting.is_internal()).map(|setting| setting.name);
    did_you_mean(name, known)
}

/// Why a set of topic settings was refused; the text is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicSettingsError {
    /// A name that is no topic setting.
    #[error("Unknown topic config name: {name}{}", advice(name))]
    Unknown {
        /// The name.
        name: String,
    },
    /// A topic setting of Kafka that would mislead if it were ignored.
    #[error("Topic config {name} is refused: {why}")]
    Refused {
        /// The name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// A value that its setting does not accept.
    #[error("Invalid value for configuration {name}: {wrong}")]
    BadValue {
        /// The setting.
        name: String,
        /// What is wrong with the value.
        wrong: String,
    },
    /// A batch that could never wait for the plugin.
    #[error(
        "conflict topic config setting max.message.bytes ({bytes}) > ottla.route.lane.max.bytes ({lane_bytes}) of the broker, \
         which bounds batches that wait for a plugin"
    )]
    MessageAboveLane {
        /// The largest batch.
        bytes: i32,
        /// The broker's bound.
        lane_bytes: usize,
    },
    /// Two values that exclude each other.
    #[error("conflict topic config setting min.compaction.lag.ms ({min_ms}) > max.compaction.lag.ms ({max_ms})")]
    CompactionLags {
        /// The least lag.
        min_ms: i64,
        /// The greatest.
        max_ms: i64,
    },
}

macro_rules! topic_settings {
    ($( $(#[doc = $doc:literal])+ $name:literal $(<- $broker_name:literal $(| $coarser_name:literal)*)? $effect:ident
        $field:ident : $type:ty = |$broker:ident| $default:expr $(, in $allowed:expr)? ; )+) => {
        /// The settings of one topic, parsed once and shared by every request that needs them.
        #[derive(Debug, Clone, PartialEq)]
        pub struct TopicSettings {
            $( $(#[doc = $doc])+ pub $field: $type, )+
            /// What the topic itself sets, as the client wrote it.
            pub overrides: BTreeMap<String, String>,
        }

        impl TopicSettings {
            /// What a topic without settings of its own gets from the broker.
            pub fn defaults(config: &Config) -> Self {
                Self { $( $field: { let $broker = config; $default }, )+ overrides: BTreeMap::new() }
            }
        }

        /// The table: every topic setting in the order the documentation shows it.
        pub static TOPIC_SETTINGS: &[TopicSetting] = &[
            $( TopicSetting {
                name: $name,
                broker_names: &[$($broker_name $(, $coarser_name)*)?],
                doc: concat!($($doc),+),
                kind: <$type as SettingValue>::KIND,
                optional: <$type as SettingValue>::OPTIONAL,
                effect: Effect::$effect,
                show: |settings| settings.$field.show(),
                set: |settings, text| {
                    let value = <$type>::parse(text)?;
                    $(
                        check_allowed(&$allowed, &value, text)?;
                    )?
                    settings.$field = value;
                    Ok(())
                },
            }, )+
        ];
    };
}

topic_settings! {
    /// When acks=all is answered and records become visible: `fsync` survives a power cut, `page-cache` only the
    /// death of the process.
    "ottla.durability" <- "ottla.durability" Now durability: Durability = |broker| broker.durability;
    /// Plugin that names the partition of each record: `name` for the active version, `name@version` for a fixed one.
    "ottla.partitioner" Now partitioner: Option<PluginRef> = |_broker| None;
    /// What the partitioner plugin may do: `route` moves each record to the partition it names, `off` leaves it unused.
    "ottla.partitioner.mode" Now partitioner_mode: PartitionerMode = |_broker| PartitionerMode::Route;
    /// Text handed to the partitioner plugin when it starts.
    "ottla.partitioner.config" Now partitioner_config: String = |_broker| String::new();
    /// Plugin that accepts, rewrites or refuses each record before it is stored: `name` or `name@version`. It comes before the partitioner.
    "ottla.serializer" Now serializer: Option<PluginRef> = |_broker| None;
    /// What the serializer plugin may do: `encode` lets it decide about each record, `off` leaves it unused.
    "ottla.serializer.mode" Now serializer_mode: SerializerMode = |_broker| SerializerMode::Encode;
    /// Text handed to the serializer plugin when it starts.
    "ottla.serializer.config" Now serializer_config: String = |_broker| String::new();
    /// Largest record batch, in bytes as sent (after compression).
    "max.message.bytes" <- "message.max.bytes" Now max_message_bytes: i32 = |broker| broker.message_max_bytes, in 0..=i32::MAX;
    /// Whose clock stamps records: `CreateTime` (the producer's) or `LogAppendTime` (the broker's).
    "message.timestamp.type" <- "log.message.timestamp.type" Now timestamp_type: TimestampType = |broker| broker.timestamp_type;
    /// How far before the broker's clock a record's timestamp may lie, in milliseconds.
    "message.timestamp.before.max.ms" <- "log.message.timestamp.before.max.ms" Now timestamp_before_max_ms: i64 = |broker| broker.timestamp_before_max_ms, in 0..=i64::MAX;
    /// How far after the broker's clock a record's timestamp may lie, in milliseconds.
    "message.timestamp.after.max.ms" <- "log.message.timestamp.after.max.ms" Now timestamp_after_max_ms: i64 = |broker| broker.timestamp_after_max_ms, in 0..=i64::MAX;
    /// Bytes after which a partition begins a new segment file; 1 MiB at least.
    "segment.bytes" <- "log.segment.bytes" Now segment_bytes: i32 = |broker| broker.segment_bytes, in SEGMENT_BYTES_MIN..=i32::MAX;
    /// The same without the minimum, for tests; wins over `segment.bytes`.
    "internal.segment.bytes" Now internal_segment_bytes: Option<i32> = |_broker| None, in 14..=i32::MAX;
    /// Bytes of log between two index entries. Holds for segments begun after the change.
    "index.interval.bytes" <- "log.index.interval.bytes" Now index_interval_bytes: i32 = |broker| broker.index_interval_bytes, in 0..=i32::MAX;
    /// What happens to old records: delete, compact or both.
    "cleanup.policy" <- "log.cleanup.policy" Now cleanup_policy: CleanupPolicy = |broker| broker.cleanup_policy;
    /// Codec of stored batches. Batches are always kept as the producer sent them, which is what `producer` asks for.
    "compression.type" <- "compression.type" NotYet compression: TopicCompression = |broker| broker.compression;
    /// Effort of gzip where Kafka compresses again, -1 for zlib's choice. Batches are kept as the producer sent them.
    "compression.gzip.level" NotYet gzip_level: i32 = |_broker| -1, in -1..=9;
    /// Effort of lz4 where Kafka compresses again. Batches are kept as the producer sent them.
    "compression.lz4.level" NotYet lz4_level: i32 = |_broker| 9, in 1..=17;
    /// Effort of zstd where Kafka compresses again. Batches are kept as the producer sent them.
    "compression.zstd.level" NotYet zstd_level: i32 = |_broker| 3, in -131_072..=22;
    /// Acknowledging replicas wanted at least. One node has one, so one is what is held.
    "min.insync.replicas" <- "min.insync.replicas" NotYet min_insync_replicas: i32 = |broker| broker.min_insync_replicas, in 1..=i32::MAX;
    /// Age after which records may be deleted, in milliseconds; -1 keeps them for ever.
    "retention.ms" <- "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" Now retention_ms: i64 = |broker| broker.log_retention_ms(), in -1..=i64::MAX;
    /// Size of a partition above which its oldest records may be deleted; -1 is no limit.
    "retention.bytes" <- "log.retention.bytes" Now retention_bytes: i64 = |broker| broker.retention_bytes, in -1..=i64::MAX;
    /// Age after which a partition begins a new segment file, in milliseconds.
    "segment.ms" <- "log.roll.ms" | "log.roll.hours" Now segment_ms: i64 = |broker| broker.log_roll_ms(), in 1..=i64::MAX;
    /// Greatest random part taken off `segment.ms`, in milliseconds.
    "segment.jitter.ms" <- "log.roll.jitter.ms" Now segment_jitter_ms: i64 = |broker| broker.roll_jitter_ms, in 0..=i64::MAX;
    /// Size of an index file. Indexes grow as needed.
    "segment.index.bytes" <- "log.index.size.max.bytes" NotYet segment_index_bytes: i32 = |broker| broker.index_max_bytes, in 4..=i32::MAX;
    /// Time that a deletion marker stays in a compacted topic, in milliseconds.
    "delete.retention.ms" <- "log.cleaner.delete.retention.ms" Now delete_retention_ms: i64 = |broker| broker.cleaner_delete_retention_ms, in 0..=i64::MAX;
    /// Time that a record of a compacted topic stays uncompacted at least, in milliseconds.
    "min.compaction.lag.ms" <- "log.cleaner.min.compaction.lag.ms" Now min_compaction_lag_ms: i64 = |broker| broker.cleaner_min_lag_ms, in 0..=i64::MAX;
    /// Time after which a record of a compacted topic must be compacted, in milliseconds.
    "max.compaction.lag.ms" <- "log.cleaner.max.compaction.lag.ms" Now max_compaction_lag_ms: i64 = |broker| broker.cleaner_max_lag_ms, in 1..=i64::MAX;
    /// Share of uncompacted bytes that makes compaction worth its while.
    "min.cleanable.dirty.ratio" <- "log.cleaner.min.cleanable.ratio" Now min_cleanable_dirty_ratio: f64 = |broker| broker.cleaner_min_dirty_ratio, in 0.0..=1.0;
    /// Time that a deleted file stays on the disk, in milliseconds.
    "file.delete.delay.ms" <- "log.segment.delete.delay.ms" NotYet file_delete_delay_ms: i64 = |broker| broker.segment_delete_delay_ms, in 0..=i64::MAX;
    /// Records after which Kafka flushes. Flushing follows `ottla.durability`.
    "flush.messages" <- "log.flush.interval.messages" NotYet flush_messages: i64 = |broker| broker.flush_messages, in 1..=i64::MAX;
    /// Time after which Kafka flushes, in milliseconds. Flushing follows `ottla.durability`.
    "flush.ms" <- "log.flush.interval.ms" NotYet flush_ms: i64 = |broker| broker.flush_ms.unwrap_or(i64::MAX), in 0..=i64::MAX;
    /// Whether Kafka preallocates whole segments. Preallocation follows the size of the partition.
    "preallocate" <- "log.preallocate" NotYet preallocate: bool = |broker| broker.preallocate;
    /// Whether a replica that lags may lead. One node has one replica.
    "unclean.leader.election.enable" <- "unclean.leader.election.enable" NotYet unclean_leader_election: bool = |broker| broker.unclean_leader_election;
}

impl TopicSettings {
    /// The defaults with `overrides` over them; the first override that is wrong is the error.
    pub fn with_overrides(config: &Config, overrides: BTreeMap<String, String>) -> Result<Self, TopicSettingsError> {
        let (settings, wrong) = Self::with_sound_overrides(config, overrides);
        match wrong.into_iter().next() {
            None => Ok(settings),
            Some(wrong) => Err(wrong),
        }
    }

    /// The defaults with those of `overrides` over them that are right, and what is wrong with the others. Those are
    /// kept among the overrides as they stand: what was stored once is not forgotten because a later version refuses it.
    pub fn with_sound_overrides(
        config: &Config,
        overrides: BTreeMap<String, String>,
    ) -> (Self, Vec<TopicSettingsError>) {
        let mut settings = Self::defaults(config);
        let mut errors = Vec::new();
        for (name, text) in &overrides {
            let Some(setting) = TopicSetting::find(name) else {
                errors.push(match KafkaSettings::find_topic(name) {
                    Some(KafkaSettings { why, .. }) => TopicSettingsError::Refused { name: name.clone(), why },
                    None => TopicSettingsError::Unknown { name: name.clone() },
                });
                continue;
            };
            if let Err(wrong) = (setting.set)(&mut settings, text) {
                errors.push(TopicSettingsError::BadValue { name: name.clone(), wrong });
            }
        }
        let (min_ms, max_ms) = (settings.min_compaction_lag_ms, settings.max_compaction_lag_ms);
        if min_ms > max_ms {
            errors.push(TopicSettingsError::CompactionLags { min_ms, max_ms });
            settings.min_compaction_lag_ms = max_ms;
        }
        let (bytes, lane_bytes) = (settings.max_message_bytes, config.route_lane_bytes_max);
        let has_plugin = settings.partitioner.is_some() || settings.serializer.is_some();
        if has_plugin && usize::try_from(bytes).is_ok_and(|bytes| bytes > lane_bytes) {
            errors.push(TopicSettingsError::MessageAboveLane { bytes, lane_bytes });
            settings.max_message_bytes = config.message_max_bytes;
        }
        settings.overrides = overrides;
        (settings, errors)
    }

    /// Whether a plugin may move records to other partitions.
    pub fn is_routed(&self) -> bool {
        self.partitioner.is_some() && self.partitioner_mode == PartitionerMode::Route
    }

    /// Whether a plugin decides what is stored.
    pub fn is_encoded(&self) -> bool {
        self.serializer.is_some() && self.serializer_mode == SerializerMode::Encode
    }

    /// Bytes after which a partition begins a new segment file.
    pub fn segment_bytes_in_force(&self) -> u64 {
        u64::try_from(self.internal_segment_bytes.unwrap_or(self.segment_bytes)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn every_default_is_a_value_its_own_setting_accepts() {
        let defaults = TopicSettings::defaults(&Config::default());
        let mut read = defaults.clone();
        for setting in TOPIC_SETTINGS {
            let shown = (setting.show)(&defaults);
            (setting.set)(&mut read, &shown).unwrap_or_else(|wrong| panic!("{} = {shown}: {wrong}", setting.name));
            for broker_name in setting.broker_names {
                assert!(crate::config::Setting::find(broker_name).is_some(), "{broker_name}");
            }
        }
        assert_eq!(read, defaults);
    }

    #[test]
    fn what_a_topic_does_not_set_comes_from_the_broker() {
        let config = Config { message_max_bytes: 77, durability: Durability::PageCache, ..Config::default() };
        let settings = TopicSettings::with_overrides(&config, overrides(&[("retention.ms", "5")])).unwrap();
        assert_eq!((settings.max_message_bytes, settings.retention_ms), (77, 5));
        assert_eq!(settings.durability, Durability::PageCache);
    }

    #[test]
    fn wrong_names_and_values_are_told_apart() {
        let config = Config::default();
        let unknown = TopicSettings::with_overrides(&config, overrides(&[("retention", "5")]));
        assert_eq!(unknown, Err(TopicSettingsError::Unknown { name: "retention".to_owned() }));
        let told = |name| TopicSettings::with_overrides(&config, overrides(&[(name, "5")])).unwrap_err().to_string();
        assert_eq!(told("retention.mss"), "Unknown topic config name: retention.mss (did you mean retention.ms?)");
        assert_eq!(told("colour"), "Unknown topic config name: colour");
        for (name, text) in [
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("max.message.bytes", "-1"),
            ("ottla.durability", "maybe"),
            ("ottla.partitioner", "a b"),
            ("ottla.partitioner", "a@latest"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("min.cleanable.dirty.ratio", "1.1"),
            ("segment.bytes", "1048575"),
            ("internal.segment.bytes", "13"),
            ("segment.ms", "0"),
            ("retention.ms", "-2"),
            ("max.compaction.lag.ms", "0"),
        ] {
            let wrong = TopicSettings::with_overrides(&config, overrides(&[(name, text)]));
            assert!(matches!(wrong, Err(TopicSettingsError::BadValue { .. })), "{name}={text}");
        }
    }

    #[test]
    fn a_least_lag_above_the_greatest_is_refused() {
        let lags = overrides(&[("min.compaction.lag.ms", "11"), ("max.compaction.lag.ms", "10")]);
        let wrong = TopicSettings::with_overrides(&Config::default(), lags);
        assert_eq!(wrong, Err(TopicSettingsError::CompactionLags { min_ms: 11, max_ms: 10 }));
    }

    #[test]
    fn a_batch_that_could_never_wait_for_the_plugin_is_refused() {
        let config = Config { route_lane_bytes_max: 2 << 20, ..Config::default() };
        let large = ("max.message.bytes", "2097153");
        let routed = overrides(&[large, ("ottla.partitioner", "by-section")]);
        let wrong = TopicSettings::with_overrides(&config, routed.clone()).unwrap_err();
        assert_eq!(wrong, TopicSettingsError::MessageAboveLane { bytes: 2_097_153, lane_bytes: 2 << 20 });
        assert!(TopicSettings::with_overrides(&config, overrides(&[large])).is_ok(), "without a plugin nothing waits");
        let (settings, _) = TopicSettings::with_sound_overrides(&config, routed);
        assert_eq!(settings.max_message_bytes, config.message_max_bytes);
    }

    #[test]
    fn a_stored_value_that_is_wrong_by_now_costs_the_others_nothing() {
        let stored = overrides(&[("segment.bytes", "14"), ("no.such", "1"), ("ottla.durability", "page-cache")]);
        let (settings, wrong) = TopicSettings::with_sound_overrides(&Config::default(), stored.clone());
        assert_eq!((settings.durability, settings.segment_bytes), (Durability::PageCache, 1 << 30));
        assert_eq!((settings.overrides, wrong.len()), (stored, 2));
    }

    #[test]
    fn tests_may_have_smaller_segments() {
        let config = Config::default();
        assert_eq!(TopicSettings::defaults(&config).segment_bytes_in_force(), 1 << 30);
        let small = TopicSettings::with_overrides(&config, overrides(&[("internal.segment.bytes", "500")])).unwrap();
        assert_eq!((small.segment_bytes, small.segment_bytes_in_force()), (1 << 30, 500));
    }

    #[test]
    fn a_plugin_is_named_with_or_without_a_version() {
        assert_eq!(PluginRef::parse("by-section"), Ok(PluginRef { name: "by-section".to_owned(), version: None }));
        let fixed = PluginRef::parse("by-section@3").unwrap();
        assert_eq!(fixed.version, Some(3));
        assert_eq!(fixed.show(), "by-section@3");
    }
}
