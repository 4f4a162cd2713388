//! Which APIs and versions Ottla speaks, and what is missing in them: the only list of it.
//!
//! The definitions in [`crate::message`] repeat their versions where a reader wants to see them; the compiler refuses a
//! definition that disagrees with this table. What is not supported is written per API and printed in the docs.
//!
//! Three ranges per API, because they may differ: *versions* is what the codec has a definition of, *served* is what the
//! broker answers, *advertised* is what its `ApiVersions` says. Clients speak *versions*. Produce is advertised from 0, since
//! librdkafka before 2.11 switches compression off otherwise (KAFKA-18659), and served from 3, as by Kafka 4. An API that the
//! codec knows and no handler serves is `not served`: both ranges are empty, and to a client of the broker it does not exist.

use std::fmt;

/// A version of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion(pub i16);

impl From<i16> for ApiVersion {
    fn from(version: i16) -> Self {
        Self(version)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Versions from `min` to `max`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl VersionRange {
    /// No version at all.
    pub const NONE: Self = Self { min: 0, max: -1 };

    /// The versions from `min` to `max`, both included.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// Whether there is no version in it.
    pub const fn is_empty(self) -> bool {
        self.max < self.min
    }

    /// Whether `version` is one of them.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// All of them, lowest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// To whom an API is advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every client.
    Everyone,
    /// Only clients that name themselves `ottla` in `ApiVersions` (v3 and later): unknown keys make some others fail.
    OttlaClients,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// The key.
    pub key: ApiKey,
    /// Kafka's name.
    pub name: &'static str,
    /// What the codec has a definition of: what a client may speak.
    pub versions: VersionRange,
    /// What the broker answers; empty where it has no handler.
    pub served: VersionRange,
    /// What the broker's `ApiVersions` says; empty where it has no handler.
    pub advertised: VersionRange,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: i16,
    /// Which listeners show it.
    pub audience: Audience,
    /// What Kafka can do here and Ottla cannot (yet).
    pub not_supported: &'static str,
}

macro_rules! apis {
    ($(
        $(#[$doc:meta])*
        $name:ident = $key:literal, versions $min:literal ..= $max:literal, flexible $flexible:literal .., $audience:ident,
        $(served $served_min:literal ..= $served_max:literal,
        advertised $advertised_min:literal ..= $advertised_max:literal,
        not supported: $missing:literal)? $(not $served:ident)?;
    )*) => {
        /// Names an API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {$(
            $(#[$doc])*
            #[doc = ""]
            #[doc = concat!("Versions ", $min, " to ", $max, ".", $(" Not supported: ", $missing, ".")? $(" Not ", stringify!($served), " yet.")?)]
            $name = $key,
        )*}

        impl ApiKey {
            /// The API with this key, if Ottla speaks it.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The row of the table.
            pub const fn api(self) -> &'static Api {
                match self {$(
                    Self::$name => const {
                        #[allow(unused_mut)]
                        let mut api = Api {
                            key: Self::$name,
                            name: stringify!($name),
                            versions: VersionRange::new($min, $max),
                            served: VersionRange::NONE,
                            advertised: VersionRange::NONE,
                            flexible_from: $flexible,
                            audience: Audience::$audience,
                            not_supported: "all of it",
                        };
                        $(
                            api.served = VersionRange::new($served_min, $served_max);
                            api.advertised = VersionRange::new($advertised_min, $advertised_max);
                            api.not_supported = $missing;
                        )?
                        &{ api }
                    },
                )*}
            }
        }

        /// Everything that the codec knows, by key.
        pub const APIS: &[&Api] = &[$(ApiKey::$name.api(),)*];
    };
}

apis! {
    /// Appends record batches to partitions.
    Produce = 0, versions 3..=13, flexible 9.., Everyone,
        served 3..=13, advertised 0..=13, not supported: "versions 0 to 2, transactions";
    /// Reads record batches from partitions, waiting for new ones if asked to.
    Fetch = 1, versions 4..=18, flexible 12.., Everyone,
        served 4..=18, advertised 4..=18, not supported: "follower fetching";
    /// Finds offsets by timestamp.
    ListOffsets = 2, versions 1..=11, flexible 6.., Everyone,
        served 1..=11, advertised 1..=11, not supported: "tiered storage (-5 and -6 find nothing)";
    /// Describes brokers, topics and partitions.
    Metadata = 3, versions 0..=13, flexible 9.., Everyone,
        served 0..=13, advertised 0..=13, not supported: "authorized operations";
    /// Commits offsets of a consumer group.
    OffsetCommit = 8, versions 2..=10, flexible 8.., Everyone,
        served 2..=10, advertised 2..=10, not supported: "transactions";
    /// Tells the committed offsets of consumer groups.
    OffsetFetch = 9, versions 1..=10, flexible 6.., Everyone,
        served 1..=10, advertised 1..=10, not supported: "transactions (`require_stable` changes nothing)";
    /// Finds the coordinator of a group, transaction or share group.
    FindCoordinator = 10, versions 0..=6, flexible 3.., Everyone,
        served 0..=6, advertised 0..=6, not supported: "transactions and share groups";
    /// Joins a consumer group.
    JoinGroup = 11, versions 0..=9, flexible 6.., Everyone,
        served 0..=9, advertised 0..=9, not supported: "nothing is missing";
    /// Keeps a member of a consumer group alive.
    Heartbeat = 12, versions 0..=4, flexible 4.., Everyone,
        served 0..=4, advertised 0..=4, not supported: "nothing is missing";
    /// Leaves a consumer group.
    LeaveGroup = 13, versions 0..=5, flexible 4.., Everyone,
        served 0..=5, advertised 0..=5, not supported: "nothing is missing";
    /// Hands in or asks for the assignment of a generation.
    SyncGroup = 14, versions 0..=5, flexible 4.., Everyone,
        served 0..=5, advertised 0..=5, not supported: "nothing is missing";
    /// Describes classic groups.
    DescribeGroups = 15, versions 0..=6, flexible 5.., Everyone,
        served 0..=6, advertised 0..=6, not supported: "authorized operations";
    /// Lists groups.
    ListGroups = 16, versions 0..=5, flexible 3.., Everyone,
        served 0..=5, advertised 0..=5, not supported: "nothing is missing";
    /// Lists the APIs a client may use.
    ApiVersions = 18, versions 0..=4, flexible 3.., Everyone,
        served 0..=4, advertised 0..=4, not supported: "finalized features";
    /// Creates topics.
    CreateTopics = 19, versions 2..=7, flexible 5.., Everyone,
        served 2..=7, advertised 2..=7, not supported: "more than one replica";
    /// Deletes topics by name or id.
    DeleteTopics = 20, versions 1..=6, flexible 4.., Everyone,
        served 1..=6, advertised 1..=6, not supported: "nothing is missing";
    /// Moves the first offset of partitions up (KIP-107).
    DeleteRecords = 21, versions 0..=2, flexible 2.., Everyone,
        served 0..=2, advertised 0..=2, not supported: "nothing is missing";
    /// Hands out producer ids for idempotent producers (KIP-98).
    InitProducerId = 22, versions 0..=5, flexible 2.., Everyone,
        served 0..=5, advertised 0..=5, not supported: "transactional ids";
    /// Says where leader epochs end, so that a client finds out what it read and the log no longer has (KIP-320).
    OffsetForLeaderEpoch = 23, versions 2..=4, flexible 4.., Everyone,
        served 2..=4, advertised 2..=4, not supported: "nothing is missing";
    /// Describes the configuration of topics and of the broker.
    DescribeConfigs = 32, versions 1..=4, flexible 4.., Everyone,
        served 1..=4, advertised 1..=4, not supported: "nothing is missing";
    /// Replaces all configuration values of a resource.
    AlterConfigs = 33, versions 0..=2, flexible 2.., Everyone,
        served 0..=2, advertised 0..=2, not supported: "nothing is missing";
    /// Describes the log directories, the partitions in them and what is left of their disks.
    DescribeLogDirs = 35, versions 1..=4, flexible 2.., Everyone,
        served 1..=4, advertised 1..=4, not supported: "nothing is missing";
    /// Adds partitions to topics (KIP-195).
    CreatePartitions = 37, versions 0..=3, flexible 2.., Everyone,
        served 0..=3, advertised 0..=3, not supported: "more than one replica";
    /// Deletes groups (KIP-229).
    DeleteGroups = 42, versions 0..=2, flexible 2.., Everyone,
        served 0..=2, advertised 0..=2, not supported: "nothing is missing";
    /// Elects partition leaders (KIP-460).
    ElectLeaders = 43, versions 0..=2, flexible 2.., Everyone,
        served 0..=2, advertised 0..=2, not supported: "nothing is missing on one node";
    /// Changes single configuration values (KIP-339).
    IncrementalAlterConfigs = 44, versions 0..=1, flexible 1.., Everyone,
        served 0..=1, advertised 0..=1, not supported: "nothing is missing";
    /// Moves replicas (KIP-455).
    AlterPartitionReassignments = 45, versions 0..=1, flexible 0.., Everyone,
        served 0..=1, advertised 0..=1, not supported: "more than one replica";
    /// Lists the moves of replicas (KIP-455).
    ListPartitionReassignments = 46, versions 0..=0, flexible 0.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "nothing is missing on one node";
    /// Deletes single committed offsets (KIP-496).
    OffsetDelete = 47, versions 0..=0, flexible 1.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "nothing is missing";
    /// Describes the nodes of the cluster (KIP-700).
    DescribeCluster = 60, versions 0..=2, flexible 0.., Everyone,
        served 0..=2, advertised 0..=2, not supported: "nothing is missing on one node";
    /// Describes the producers of partitions (KIP-664).
    DescribeProducers = 61, versions 0..=0, flexible 0.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "transactions";
    /// Joins, stays in or leaves a group (KIP-848).
    ConsumerGroupHeartbeat = 68, versions 0..=1, flexible 0.., Everyone,
        served 0..=1, advertised 0..=1, not supported: "nothing is missing";
    /// Describes KIP-848 groups.
    ConsumerGroupDescribe = 69, versions 0..=1, flexible 0.., Everyone,
        served 0..=1, advertised 0..=1, not supported: "authorized operations";
    /// Tells which metrics the broker wants of clients (KIP-714).
    GetTelemetrySubscriptions = 71, versions 0..=0, flexible 0.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "nothing is missing";
    /// Takes metrics of clients (KIP-714).
    PushTelemetry = 72, versions 0..=0, flexible 0.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "histograms, summaries, differences (passed over and counted)";
    /// Lists what can have settings (KIP-714, KIP-1142).
    ListConfigResources = 74, versions 0..=1, flexible 0.., Everyone,
        served 0..=1, advertised 0..=1, not supported: "nothing is missing";
    /// Describes partitions, page by page (KIP-966).
    DescribeTopicPartitions = 75, versions 0..=0, flexible 0.., Everyone,
        served 0..=0, advertised 0..=0, not supported: "eligible leader replicas";
    /// Ottla: uploads a plugin in chunks.
    PushPlugin = 20000, versions 0..=0, flexible 0.., OttlaClients,
        served 0..=0, advertised 0..=0, not supported: "nothing is missing";
    /// Ottla: lists plugins, their versions and the topics that use them.
    DescribePlugins = 20001, versions 0..=1, flexible 0.., OttlaClients,
        served 0..=1, advertised 0..=1, not supported: "nothing is missing";
    /// Ottla: makes a version of a plugin the active one.
    ActivatePlugin = 20002, versions 0..=1, flexible 0.., OttlaClients,
        served 0..=1, advertised 0..=1, not supported: "nothing is missing";
    /// Ottla: removes versions of a plugin.
    DeletePlugin = 20003, versions 0..=0, flexible 0.., OttlaClients,
        served 0..=0, advertised 0..=0, not supported: "nothing is missing";
}

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name.
    pub const fn name(self) -> &'static str {
        self.api().name
    }

    /// Whether `version` of this API uses compact lengths and tagged fields.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.api().flexible_from
    }
}

impl Api {
    /// Whether the broker has a handler for it.
    pub const fn is_served(&self) -> bool {
        !self.served.is_empty()
    }

    /// The rows that the broker serves.
    pub fn served() -> impl Iterator<Item = &'static Api> {
        APIS.iter().copied().filter(|api| api.is_served())
    }

    /// The rows that a client gets to see in `ApiVersions`.
    pub fn advertised_to(is_ottla_client: bool) -> impl Iterator<Item = &'static Api> {
        Self::served().filter(move |api| is_ottla_client || api.audience == Audience::Everyone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_finds_itself() {
        assert!(APIS.is_sorted_by_key(|api| api.key));
        for api in APIS {
            assert_eq!(ApiKey::from_code(api.key.code()), Some(api.key));
            assert!(api.advertised.max == api.served.max && api.advertised.min <= api.served.min, "{}", api.name);
            assert!(api.served.iter().all(|version| api.versions.contains(version)), "{}", api.name);
            assert!(!api.versions.is_empty() && !api.not_supported.is_empty());
        }
        assert_eq!(ApiKey::from_code(4), None);
    }

    #[test]
    fn stock_clients_see_no_foreign_keys() {
        assert!(Api::advertised_to(false).all(|api| api.key.code() < 20000));
        assert_eq!(Api::advertised_to(true).count(), Api::served().count());
    }
}
