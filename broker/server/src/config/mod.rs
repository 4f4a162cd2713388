//! Settings of the broker: one table gives the struct, the defaults, the names, the help text and what
//! DescribeConfigs answers. Names are Kafka's where Kafka has one. Topic settings are the second table, in `topic.rs`.

pub mod client_metrics;
mod group;
pub mod kafka;
pub mod listeners;
mod live;
mod load;
mod machine;
mod nearest;
mod reference;
pub mod topic;
pub mod value;

use std::path::PathBuf;

pub use client_metrics::{CLIENT_METRICS_SETTINGS, ClientMetricsSetting, MetricsSubscription};
pub use group::{GROUP_SETTINGS, GroupMigration, GroupSetting};
use listeners::{AdvertisedList, ListenerList, ProtocolMap};
pub use live::is_live;
pub use load::{LoadError, load_file, set_pair};
pub use nearest::did_you_mean;
use ottla_coordinator::fetch_session::FetchSessionConfig;
pub use ottla_front::HostPort;
pub use ottla_log::Durability;
pub use reference::{broker_reference, settings_page, topic_reference};

/// The names of Kafka's settings, to be sure that each has its place here.
#[cfg(test)]
const KAFKA_NAMES: &str = include_str!("kafka_settings.txt");
use topic::{CleanupPolicy, TimestampType, TopicCompression};
pub use topic::{PluginRef, TopicSettings};
pub use value::{PathList, SettingValue, ValueKind};
use value::{check_allowed, spelled};

spelled! {
    /// How log lines are written.
    LogFormat {
        /// For people.
        Text = "text",
        /// An object per line, for programs.
        Json = "json",
    }
}

impl SettingValue for Durability {
    const KIND: ValueKind = ValueKind::String;
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "fsync" => Ok(Self::Fsync),
            "page-cache" => Ok(Self::PageCache),
            _ => Err(format!("{text:?} is none of: fsync, page-cache")),
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Fsync => "fsync".to_owned(),
            Self::PageCache => "page-cache".to_owned(),
        }
    }
}

/// The part of the machine's memory that requests take at most, as a divisor.
const MEMORY_SHARE: u64 = 4;
/// What they may take on the smallest machine.
const MEMORY_BYTES_MIN: u64 = 128 << 20;

/// One line of the table of settings.
pub struct Setting {
    /// The dotted name.
    pub name: &'static str,
    /// What it does, one or two sentences.
    pub doc: &'static str,
    /// Its type as admin tools see it.
    pub kind: ValueKind,
    /// Whether it may be unset, which the empty text says.
    pub optional: bool,
    /// The value in a configuration, as text.
    pub show: fn(&Config) -> String,
    /// Reads a value into a configuration.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl Setting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $name:literal $field:ident : $type:ty = $default:expr $(, in $allowed:expr)? ; )+) => {
        /// Everything the broker can be told, with its defaults.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        /// The table: every setting in the order the documentation shows it.
        pub static SETTINGS: &[Setting] = &[
            $( Setting {
                name: $name,
                doc: concat!($($doc),+),
                kind: <$type as SettingValue>::KIND,
                optional: <$type as SettingValue>::OPTIONAL,
                show: |config| config.$field.show(),
                set: |config, text| {
                    let value = <$type>::parse(text)?;
                    $(
                        check_allowed(&$allowed, &value, text)?;
                    )?
                    config.$field = value;
                    Ok(())
                },
            }, )+
        ];
    };
}

settings! {
    /// Directory that holds everything: the logs of the partitions, the metadata, the plugins.
    "log.dir" data_dir: PathBuf = PathBuf::from("./ottla-data");
    /// Directories for the logs of the partitions, separated by commas, best on disks of their own: one that fails takes
    /// its own partitions offline and no others. Unset: the directory `log` in `log.dir`.
    "log.dirs" log_dirs: PathList = PathList::default();
    /// Where the broker listens: `NAME://HOST:PORT`, several separated by commas; `HOST:PORT` alone is the listener PLAINTEXT.
    /// Port 0 lets the system choose one, and no host (`PLAINTEXT://:9092`) is every interface. Addresses that others can
    /// reach need --i-accept-an-open-broker.
    "listeners" listeners: ListenerList = ListenerList::on("127.0.0.1", 9092);
    /// Where metrics are served over HTTP: GET /metrics for Prometheus and GET /healthz. Unset: nowhere. Like `listeners`
    /// it has to be a loopback address, unless --i-accept-an-open-broker says otherwise.
    "metrics.listener" metrics_listen: Option<HostPort> = None;
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or by module, as in `ottla_broker=debug,info`. Unset: what
    /// the environment says in OTTLA_LOG, then RUST_LOG, then `info`.
    "ottla.log.level" log_level: Option<String> = None;
    /// How it is logged: `text` for people, or `json`, an object per line with everything that the broker says.
    "ottla.log.format" log_format: LogFormat = LogFormat::Text;
    /// Most partitions that have lines of their own on the page of metrics. Topics get theirs in the order of their names
    /// until there are so many partitions; what is beyond counts in the sums alone.
    "metrics.partitions.max" metrics_partitions_max: usize = 10_000, in 0..=10_000_000;
    /// Largest push of metrics that a client measured (KIP-714), in bytes, packed and unpacked.
    "telemetry.max.bytes" telemetry_max_bytes: i32 = 1 << 20, in 1..=i32::MAX;
    /// Most numbers of clients that are kept for the page of metrics, about 600 bytes of memory each at most.
    "ottla.telemetry.series.max" telemetry_series_max: usize = 10_000, in 0..=1_000_000;
    /// The address that clients of each listener are told to connect to, by the name of the listener: `NAME://HOST:PORT`,
    /// port 0 being the one listened on. A listener without one tells the address it listens on, or, on every interface,
    /// the one that the asking client already reached.
    "advertised.listeners" advertised_listeners: AdvertisedList = AdvertisedList::default();
    /// What is spoken on which listener: `NAME:PROTOCOL`, separated by commas. A listener can be PLAINTEXT alone yet, and one
    /// that the map leaves out is PLAINTEXT; TLS (SSL) and SASL come later.
    "listener.security.protocol.map" listener_protocols: ProtocolMap = ProtocolMap::default();
    /// The number of this broker in the cluster.
    "node.id" node_id: i32 = 1, in 0..=i32::MAX;
    /// When acks=all is answered and records become visible: `fsync` (survives a power cut) or `page-cache` (survives
    /// the death of the process). Topics choose their own with the topic setting of the same name.
    "ottla.durability" durability: Durability = Durability::Fsync;
    /// Partitions of a topic that does not say how many it wants.
    "num.partitions" num_partitions: i32 = 4, in 1..=100_000;
    /// Most partitions that one topic may have.
    "ottla.topic.partitions.max" topic_partitions_max: i32 = 10_000, in 1..=100_000;
    /// Whether a topic is created when a client that allows it first names it.
    "auto.create.topics.enable" auto_create_topics: bool = true;
    /// Whether topics can be deleted.
    "delete.topic.enable" delete_topics: bool = true;
    /// Replicas of a topic that does not say how many it wants. One node has one.
    "default.replication.factor" default_replication_factor: i32 = 1, in 1..=1;
    /// Answer a topic that asks for more replicas than there are nodes with one replica instead of
    /// INVALID_REPLICATION_FACTOR. Kafka Connect and ksqlDB ask for three by default.
    "ottla.replication.factor.clamp" clamp_replication_factor: bool = false;
    /// Acknowledging replicas that a topic wants at least. One node has one, so one is what is held.
    "min.insync.replicas" min_insync_replicas: i32 = 1, in 1..=i32::MAX;
    /// Largest request, in bytes. A larger one closes its connection.
    "socket.request.max.bytes" request_max_bytes: i32 = 100 << 20, in 1024..=i32::MAX;
    /// Connections that may be open at once.
    "max.connections" connections_max: usize = 10_000, in 1..=1_000_000;
    /// Connections that one address may have open at once.
    "max.connections.per.ip" connections_per_ip_max: usize = 10_000, in 1..=1_000_000;
    /// Silence after which a connection is closed, in milliseconds.
    "connections.max.idle.ms" connection_idle_ms: u64 = 600_000, in 100..=u64::from(u32::MAX);
    /// Requests of one connection that may wait for their answer; the next one is read when one has left.
    "ottla.connection.requests.max" connection_requests_max: usize = 64, in 1..=10_000;
    /// Bytes of requests of one connection that may wait for their answer.
    "ottla.connection.request.bytes.max" connection_request_bytes_max: usize = 64 << 20, in 1024..=1 << 40;
    /// Most memory that requests, their answers and the work on them take together, in bytes. Beyond it requests wait, or
    /// get an error that clients retry. Unset: a quarter of the memory of the machine, or of the control group.
    "ottla.memory.max.bytes" memory_max: Option<i64> = None, in 128 << 20..=i64::MAX;
    /// Threads that serve connections; 0 takes one per processor.
    "num.network.threads" network_threads: usize = 0, in 0..=1024;
    /// Largest record batch, in bytes as sent (after compression).
    "message.max.bytes" message_max_bytes: i32 = 1_048_588, in 0..=i32::MAX;
    /// Largest answer to one fetch, in bytes.
    "fetch.max.bytes" fetch_max_bytes: i32 = 55 << 20, in 1024..=i32::MAX;
    /// Fetch sessions (KIP-227) that are kept; 0 keeps none. A client without one names all of its partitions in each fetch.
    "max.incremental.fetch.session.cache.slots" fetch_sessions_max: usize = 1000, in 0..=1_000_000;
    /// Partitions in all fetch sessions together, about 300 bytes of memory each.
    "ottla.fetch.session.partitions.max" fetch_session_partitions_max: usize = 200_000, in 0..=1 << 30;
    /// Bytes after which a partition begins a new segment file.
    "log.segment.bytes" segment_bytes: i32 = 1 << 30, in topic::SEGMENT_BYTES_MIN..=i32::MAX;
    /// Age after which a partition begins a new segment file, in milliseconds. Unset: `log.roll.hours`.
    "log.roll.ms" roll_ms: Option<i64> = None, in 1..=i64::MAX;
    /// Age after which a partition begins a new segment file, in hours.
    "log.roll.hours" roll_hours: i32 = 168, in 1..=i32::MAX;
    /// Greatest random part taken off the age at which a segment is closed, in milliseconds.
    "log.roll.jitter.ms" roll_jitter_ms: i64 = 0, in 0..=i64::MAX;
    /// Bytes of log between two index entries.
    "log.index.interval.bytes" index_interval_bytes: i32 = 4096, in 0..=i32::MAX;
    /// Size of an index file in Kafka. Indexes grow as needed.
    "log.index.size.max.bytes" index_max_bytes: i32 = 10 << 20, in 4..=i32::MAX;
    /// What happens to old records: `delete`, `compact` or both.
    "log.cleanup.policy" cleanup_policy: CleanupPolicy = CleanupPolicy { delete: true, compact: false };
    /// Age after which records may be deleted, in milliseconds; -1 keeps them for ever. Unset: `log.retention.minutes`,
    /// then `log.retention.hours`.
    "log.retention.ms" retention_ms: Option<i64> = None, in -1..=i64::MAX;
    /// Age after which records may be deleted, in minutes; -1 keeps them for ever.
    "log.retention.minutes" retention_minutes: Option<i32> = None, in -1..=i32::MAX;
    /// Age after which records may be deleted, in hours; -1 keeps them for ever.
    "log.retention.hours" retention_hours: i32 = 168, in -1..=i32::MAX;
    /// Size of a partition above which its oldest records may be deleted; -1 is no limit.
    "log.retention.bytes" retention_bytes: i64 = -1, in -1..=i64::MAX;
    /// Time that a deleted file stays on the disk in Kafka, in milliseconds.
    "log.segment.delete.delay.ms" segment_delete_delay_ms: i64 = 60_000, in 0..=i64::MAX;
    /// Time between two looks at segments that are too old or too many, in milliseconds.
    "log.retention.check.interval.ms" retention_check_ms: u64 = 300_000, in 1..=u64::from(u32::MAX);
    /// Time between two looks at partitions that can be compacted, in milliseconds.
    "log.cleaner.backoff.ms" cleaner_backoff_ms: u64 = 15_000, in 1..=u64::from(u32::MAX);
    /// Memory for the keys of one compaction, in bytes: 27 per key. What does not fit is compacted in another round.
    "log.cleaner.dedupe.buffer.size" cleaner_dedupe_bytes: usize = 128 << 20, in 1 << 20..=1 << 40;
    /// Most bytes that compaction reads and writes in a second; 0 for no limit.
    "log.cleaner.io.max.bytes.per.second" cleaner_io_bytes_per_second: u64 = 100 << 20;
    /// Time that a deletion marker stays in a compacted topic, in milliseconds.
    "log.cleaner.delete.retention.ms" cleaner_delete_retention_ms: i64 = 86_400_000, in 0..=i64::MAX;
    /// Time that a record of a compacted topic stays uncompacted at least, in milliseconds.
    "log.cleaner.min.compaction.lag.ms" cleaner_min_lag_ms: i64 = 0, in 0..=i64::MAX;
    /// Time after which a record of a compacted topic must be compacted, in milliseconds.
    "log.cleaner.max.compaction.lag.ms" cleaner_max_lag_ms: i64 = i64::MAX, in 1..=i64::MAX;
    /// Share of uncompacted bytes that makes compaction worth its while.
    "log.cleaner.min.cleanable.ratio" cleaner_min_dirty_ratio: f64 = 0.5, in 0.0..=1.0;
    /// Whose clock stamps records: `CreateTime` (the producer's) or `LogAppendTime` (the broker's).
    "log.message.timestamp.type" timestamp_type: TimestampType = TimestampType::CreateTime;
    /// How far before the broker's clock a record's timestamp may lie, in milliseconds.
    "log.message.timestamp.before.max.ms" timestamp_before_max_ms: i64 = i64::MAX, in 0..=i64::MAX;
    /// How far after the broker's clock a record's timestamp may lie, in milliseconds.
    "log.message.timestamp.after.max.ms" timestamp_after_max_ms: i64 = 3_600_000, in 0..=i64::MAX;
    /// Codec of stored batches. Batches are always kept as the producer sent them, which is what `producer` asks for.
    "compression.type" compression: TopicCompression = TopicCompression::Producer;
    /// Records after which Kafka flushes. Flushing follows `ottla.durability`.
    "log.flush.interval.messages" flush_messages: i64 = i64::MAX, in 1..=i64::MAX;
    /// Time after which Kafka flushes, in milliseconds. Flushing follows `ottla.durability`.
    "log.flush.interval.ms" flush_ms: Option<i64> = None, in 0..=i64::MAX;
    /// Whether Kafka preallocates whole segments. Preallocation follows the size of the partition.
    "log.preallocate" preallocate: bool = false;
    /// Whether a replica that lags may lead. One node has one replica.
    "unclean.leader.election.enable" unclean_leader_election: bool = false;
    /// From how many contiguous bytes on a fetched piece leaves by sendfile; smaller hot ones leave by one writev.
    "ottla.deliver.sendfile.min.bytes" sendfile_min_bytes: u32 = 256 << 10;
    /// Bytes handed to one sendfile call, so that one connection cannot hold a thread.
    "ottla.deliver.step.bytes" deliver_step_bytes: usize = 1 << 20, in 4096..=1 << 30;
    /// Size of a plugin above which its upload is refused, in bytes.
    "plugin.max.bytes" plugin_max_bytes: u64 = 32 << 20, in 1024..=1 << 30;
    /// Memory of one instance of a plugin, in bytes.
    "plugin.memory.max.bytes" plugin_memory_bytes: u64 = 32 << 20, in 1 << 16..=1 << 32;
    /// Memory of all instances of all plugins together, in bytes.
    "plugin.memory.total.max.bytes" plugin_memory_total_bytes: u64 = 256 << 20, in 1 << 16..=1 << 40;
    /// Processor time that one call into a plugin may take, in milliseconds; then its batch fails.
    "plugin.call.timeout.ms" plugin_call_ms: u64 = 100, in 1..=60_000;
    /// Program that compiles plugins in a process of its own, called with `__compile`; unset: this one.
    "plugin.compiler" plugin_compiler: Option<PathBuf> = None;
    /// Most bytes that the records of one batch may unpack to where a plugin has to see them.
    "ottla.stage.unpacked.max.bytes" stage_unpacked_bytes_max: usize = 32 << 20, in 1024..=1 << 31;
    /// Most bytes of batches that wait between plugin and log, over all topics; more batches wait before the plugin.
    "ottla.route.queue.max.bytes" route_queue_bytes_max: usize = 64 << 20, in 1024..=1 << 40;
    /// Most bytes of batches that wait for a plugin, over all topics; beyond that producers are told to try
    /// again.
    "ottla.route.lane.max.bytes" route_lane_bytes_max: usize = 64 << 20, in 1024..=1 << 40;
    /// Partitions of one topic whose batches are in the plugin at the same time; 0 takes one per processor but one.
    "ottla.route.workers.max" route_workers_max: usize = 0, in 0..=256;
    /// Bytes in the route journal after which it is cut; a start may have to read twice as many.
    "ottla.route.journal.max.bytes" route_journal_bytes_max: u64 = 64 << 20, in 4096..=1 << 40;
    /// Bytes appended to a partition after which its producers are written down; a start may have to read the batch
    /// headers of as many.
    "ottla.producer.snapshot.bytes" producer_snapshot_bytes: u64 = 64 << 20, in 4096..=1 << 40;
    /// Time between two looks at what has to be written down, in milliseconds.
    "ottla.producer.snapshot.interval.ms" producer_snapshot_ms: u64 = 10_000, in 100..=86_400_000;
    /// Idempotent producers remembered, over all partitions, one that writes to ten of them counting ten times; beyond that
    /// the ones that have been idle longest are forgotten.
    "ottla.producer.ids.max" producer_ids_max: usize = 1_000_000, in 1..=1 << 40;
    /// Idle time after which an idempotent producer is forgotten, in milliseconds.
    "producer.id.expiration.ms" producer_expiration_ms: i64 = 86_400_000, in 1000..=i64::MAX;
    /// Partitions of `__consumer_offsets`, in which groups and committed offsets are kept. Counts when it is created, with
    /// the first group.
    "offsets.topic.num.partitions" offsets_topic_partitions: i32 = 50, in 1..=100_000;
    /// Bytes after which a partition of `__consumer_offsets` begins a new segment file. Counts when it is created.
    "offsets.topic.segment.bytes" offsets_topic_segment_bytes: i32 = 100 << 20, in topic::SEGMENT_BYTES_MIN..=i32::MAX;
    /// Replicas of `__consumer_offsets`. One node has one.
    "offsets.topic.replication.factor" offsets_topic_replication_factor: i32 = 1, in 1..=1;
    /// Time that committed offsets outlive the use of their group, in minutes.
    "offsets.retention.minutes" offsets_retention_minutes: i32 = 10_080, in 1..=i32::MAX;
    /// Time between two looks at offsets that are too old, in milliseconds.
    "offsets.retention.check.interval.ms" offsets_retention_check_ms: i64 = 600_000, in 1..=i64::MAX;
    /// Longest note that a client may commit with an offset, in bytes.
    "offset.metadata.max.bytes" offset_metadata_max_bytes: i32 = 4096, in 0..=i32::MAX;
    /// Shortest session timeout that a member of a classic group may ask for, in milliseconds.
    "group.min.session.timeout.ms" group_min_session_ms: i32 = 6000, in 0..=i32::MAX;
    /// Longest session timeout that a member of a classic group may ask for, in milliseconds.
    "group.max.session.timeout.ms" group_max_session_ms: i32 = 1_800_000, in 0..=i32::MAX;
    /// Time that an empty classic group waits for more members before it assigns partitions, in milliseconds.
    "group.initial.rebalance.delay.ms" group_initial_rebalance_delay_ms: i32 = 3000, in 0..=i32::MAX;
    /// Most members of a classic group.
    "group.max.size" group_max_size: i32 = i32::MAX, in 1..=i32::MAX;
    /// Most members of a consumer group (KIP-848).
    "group.consumer.max.size" group_consumer_max_size: i32 = i32::MAX, in 1..=i32::MAX;
    /// Session timeout of consumer groups, in milliseconds.
    "group.consumer.session.timeout.ms" group_consumer_session_ms: i32 = 45_000, in 1..=i32::MAX;
    /// Time between two heartbeats of a member of a consumer group, in milliseconds.
    "group.consumer.heartbeat.interval.ms" group_consumer_heartbeat_ms: i32 = 5000, in 1..=i32::MAX;
    /// Shortest session timeout that may be set on a group (`consumer.session.timeout.ms`), in milliseconds.
    "group.consumer.min.session.timeout.ms" group_consumer_min_session_ms: i32 = 45_000, in 1..=i32::MAX;
    /// Longest session timeout that may be set on a group, in milliseconds.
    "group.consumer.max.session.timeout.ms" group_consumer_max_session_ms: i32 = 60_000, in 1..=i32::MAX;
    /// Shortest heartbeat interval that may be set on a group (`consumer.heartbeat.interval.ms`), in milliseconds.
    "group.consumer.min.heartbeat.interval.ms" group_consumer_min_heartbeat_ms: i32 = 5000, in 1..=i32::MAX;
    /// Longest heartbeat interval that may be set on a group, in milliseconds.
    "group.consumer.max.heartbeat.interval.ms" group_consumer_max_heartbeat_ms: i32 = 15_000, in 1..=i32::MAX;
    /// Time between two assignments of a consumer group at least, in milliseconds.
    "group.consumer.assignment.interval.ms" group_consumer_assignment_ms: i32 = 1000, in 0..=i32::MAX;
    /// Time after which the topics that match a regular expression of a consumer group are looked for again, in milliseconds.
    "group.consumer.regex.refresh.interval.ms" group_consumer_regex_refresh_ms: i32 = 600_000, in 10_000..=i32::MAX;
    /// Which way a group may change its protocol while members are in it: `bidirectional`, `upgrade` (classic to consumer),
    /// `downgrade` or `disabled`.
    "group.consumer.migration.policy" group_consumer_migration: GroupMigration = GroupMigration::Bidirectional;
    /// Time that a stop waits for answers in flight, in milliseconds.
    "ottla.shutdown.grace.ms" shutdown_grace_ms: u64 = 10_000, in 0..=600_000;
}

/// Two settings that cannot both hold: with them something would be refused for ever, long after the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value} contradicts {other}={other_value}: {why}")]
pub struct SettingsConflict {
    /// One of them.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The other one.
    pub other: &'static str,
    /// Its value.
    pub other_value: String,
    /// What would go wrong, and what to do.
    pub why: &'static str,
}

/// A setting that may not be above another one: both by name, both values, and why.
type Bound = (&'static str, i128, &'static str, i128, &'static str);

impl Config {
    /// Looks for settings that contradict each other.
    pub fn check(&self) -> Result<(), SettingsConflict> {
        self.check_listeners()?;
        let bounds: [Bound; 6] = [
            (
                "num.partitions",
                self.num_partitions.into(),
                "ottla.topic.partitions.max",
                self.topic_partitions_max.into(),
                "no topic could be created without saying how many partitions it wants; lower the first or raise the second",
            ),
            (
                "log.cleaner.min.compaction.lag.ms",
                self.cleaner_min_lag_ms.into(),
                "log.cleaner.max.compaction.lag.ms",
                self.cleaner_max_lag_ms.into(),
                "a record would have to stay longer than it may; lower the first or raise the second",
            ),
            (
                "message.max.bytes",
                self.message_max_bytes.into(),
                "ottla.route.lane.max.bytes",
                self.route_lane_bytes_max as i128,
                "a batch of that size could never wait for a plugin; lower the first or raise the second",
            ),
            (
                "plugin.memory.max.bytes",
                self.plugin_memory_bytes.into(),
                "plugin.memory.total.max.bytes",
                self.plugin_memory_total_bytes.into(),
                "one instance of a plugin may not need more than all of them; lower the first or raise the second",
            ),
            (
                "group.min.session.timeout.ms",
                self.group_min_session_ms.into(),
                "group.max.session.timeout.ms",
                self.group_max_session_ms.into(),
                "no session timeout would be accepted; lower the first or raise the second",
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                self.group_consumer_heartbeat_ms.into(),
                "group.consumer.session.timeout.ms",
                self.group_consumer_session_ms.into(),
                "a member would be removed before its next heartbeat; lower the first or raise the second",
            ),
        ];
        match bounds.into_iter().find(|(_, value, _, max, _)| value > max) {
            None => Ok(()),
            Some((name, value, other, max, why)) => {
                Err(SettingsConflict { name, value: value.to_string(), other, other_value: max.to_string(), why })
            }
        }
    }

    /// Age after which records may be deleted, from whichever of the three settings says it most exactly; -1 for never.
    pub fn log_retention_ms(&self) -> i64 {
        let minutes = || self.retention_minutes.map(|minutes| i64::from(minutes).saturating_mul(60_000));
        let hours = || i64::from(self.retention_hours).saturating_mul(3_600_000);
        self.retention_ms.or_else(minutes).unwrap_or_else(hours).max(-1)
    }

    /// Age after which a partition begins a new segment file.
    pub fn log_roll_ms(&self) -> i64 {
        self.roll_ms.unwrap_or_else(|| i64::from(self.roll_hours).saturating_mul(3_600_000))
    }

    /// The bounds of the fetch sessions.
    pub fn fetch_session_config(&self) -> FetchSessionConfig {
        FetchSessionConfig {
            slots_max: self.fetch_sessions_max,
            partitions_max: self.fetch_session_partitions_max,
            ..FetchSessionConfig::default()
        }
    }

    /// Most memory that requests take.
    pub fn memory_max_bytes(&self) -> usize {
        let share = || (machine::memory_bytes() / MEMORY_SHARE).max(MEMORY_BYTES_MIN);
        usize::try_from(self.memory_max.unwrap_or_else(|| share() as i64)).unwrap_or(usize::MAX)
    }

    /// Lanes of one topic that are worked on at the same time.
    pub fn route_workers_per_topic(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        match self.route_workers_max {
            0 => processors.saturating_sub(1).max(1),
            workers => workers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_unit_of_a_time_counts() {
        let mut config = Config::default();
        assert_eq!((config.log_retention_ms(), config.log_roll_ms()), (604_800_000, 604_800_000));
        for (name, text, expected_ms) in [
            ("log.retention.hours", "2", 7_200_000),
            ("log.retention.minutes", "3", 180_000),
            ("log.retention.minutes", "-1", -1),
            ("log.retention.ms", "77", 77),
            ("log.retention.hours", "9", 77),
            ("log.retention.ms", "", -1),
        ] {
            (Setting::find(name).unwrap().set)(&mut config, text).unwrap();
            assert_eq!(config.log_retention_ms(), expected_ms, "{name}={text}");
        }
        assert!((Setting::find("log.retention.ms").unwrap().set)(&mut config, "-2").is_err());
        (Setting::find("log.roll.ms").unwrap().set)(&mut config, "5").unwrap();
        assert_eq!(config.log_roll_ms(), 5);
    }

    #[test]
    fn every_default_is_a_value_its_own_setting_accepts() {
        let defaults = Config::default();
        let mut read = Config::default();
        for setting in SETTINGS {
            let shown = (setting.show)(&defaults);
            (setting.set)(&mut read, &shown).unwrap_or_else(|wrong| panic!("{} = {shown}: {wrong}", setting.name));
            assert!(!setting.doc.trim().is_empty(), "{}", setting.name);
        }
        assert_eq!(read, defaults);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_both_names() {
        assert_eq!(Config::default().check(), Ok(()));
        for (pair, other) in [
            ("num.partitions=11", "ottla.topic.partitions.max=10"),
            ("log.cleaner.min.compaction.lag.ms=11", "log.cleaner.max.compaction.lag.ms=10"),
            ("message.max.bytes=2000", "ottla.route.lane.max.bytes=1999"),
            ("plugin.memory.max.bytes=65537", "plugin.memory.total.max.bytes=65536"),
            ("group.min.session.timeout.ms=11", "group.max.session.timeout.ms=10"),
            ("group.consumer.heartbeat.interval.ms=11", "group.consumer.session.timeout.ms=10"),
        ] {
            let mut config = Config::default();
            set_pair(&mut config, pair).unwrap();
            set_pair(&mut config, other).unwrap();
            let told = config.check().unwrap_err().to_string();
            assert!(told.contains(pair) && told.contains(other), "{told}");
            // As large as the other one is no contradiction.
            let (name, _) = pair.split_once('=').unwrap();
            set_pair(&mut config, &format!("{name}={}", other.split_once('=').unwrap().1)).unwrap();
            assert_eq!(config.check(), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }

    #[test]
    fn a_value_out_of_range_is_refused() {
        let mut config = Config::default();
        let setting = Setting::find("num.partitions").unwrap();
        assert!((setting.set)(&mut config, "0").is_err());
        assert!((setting.set)(&mut config, "many").is_err());
        (setting.set)(&mut config, "12").unwrap();
        assert_eq!(config.num_partitions, 12);
    }
}
