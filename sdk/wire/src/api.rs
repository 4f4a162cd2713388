//! Which APIs and versions Ottla speaks, and what is missing in them: the only list of it.
//!
//! The definitions in [`crate::message`] repeat their versions where a reader wants to see them; the compiler refuses a
//! definition that disagrees with this table. What is not supported is written per API and printed in the docs.
//!
//! Two ranges per API, because they may differ: *advertised* is what `ApiVersions` says, *served* is what has a
//! definition. Produce is advertised from 0, since librdkafka before 2.11 switches compression off otherwise
//! (KAFKA-18659), and served from 3, as by Kafka 4.

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
    /// The versions from `min` to `max`, both included.
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
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
    /// What `ApiVersions` says.
    pub advertised: VersionRange,
    /// What has a definition and is answered.
    pub served: VersionRange,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: i16,
    /// Who gets to see it.
    pub audience: Audience,
    /// What Kafka can do here and Ottla cannot (yet).
    pub not_supported: &'static str,
}

macro_rules! apis {
    ($(
        $(#[$doc:meta])*
        $name:ident = $key:literal,
        advertised $advertised_min:literal ..= $advertised_max:literal,
        served $served_min:literal ..= $served_max:literal,
        flexible $flexible:literal ..,
        $audience:ident,
        not supported: $missing:literal;
    )*) => {
        /// Names an API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {$(
            $(#[$doc])*
            #[doc = ""]
            #[doc = concat!("Versions ", $served_min, " to ", $served_max, ". Not supported: ", $missing, ".")]
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
                        &Api {
                            key: Self::$name,
                            name: stringify!($name),
                            advertised: VersionRange::new($advertised_min, $advertised_max),
                            served: VersionRange::new($served_min, $served_max),
                            flexible_from: $flexible,
                            audience: Audience::$audience,
                            not_supported: $missing,
                        }
                    },
                )*}
            }
        }

        /// Everything Ottla speaks, by key.
        pub const APIS: &[&Api] = &[$(ApiKey::$name.api(),)*];
    };
}

apis! {
    /// Appends record batches to partitions.
    Produce = 0, advertised 0..=12, served 3..=12, flexible 9.., Everyone,
        not supported: "versions 0 to 2, topic ids (v13), transactions";
    /// Reads record batches from partitions, waiting for new ones if asked to.
    Fetch = 1, advertised 4..=17, served 4..=17, flexible 12.., Everyone,
        not supported: "fetch sessions (KIP-227, answered with session id 0), follower fetching, the replica's high watermark (v18)";
    /// Finds offsets by timestamp.
    ListOffsets = 2, advertised 1..=10, served 1..=10, flexible 6.., Everyone,
        not supported: "tiered storage (-5 finds nothing)";
    /// Describes brokers, topics and partitions.
    Metadata = 3, advertised 0..=13, served 0..=13, flexible 9.., Everyone,
        not supported: "authorized operations";
    /// Finds the coordinator of a group, transaction or share group.
    FindCoordinator = 10, advertised 0..=6, served 0..=6, flexible 3.., Everyone,
        not supported: "transactions and share groups";
    /// Lists the APIs a client may use.
    ApiVersions = 18, advertised 0..=4, served 0..=4, flexible 3.., Everyone,
        not supported: "finalized features";
    /// Creates topics.
    CreateTopics = 19, advertised 2..=7, served 2..=7, flexible 5.., Everyone,
        not supported: "more than one replica";
    /// Deletes topics by name or id.
    DeleteTopics = 20, advertised 1..=6, served 1..=6, flexible 4.., Everyone,
        not supported: "nothing is missing";
    /// Moves the first offset of partitions up (KIP-107).
    DeleteRecords = 21, advertised 0..=2, served 0..=2, flexible 2.., Everyone,
        not supported: "nothing is missing";
    /// Hands out producer ids for idempotent producers (KIP-98).
    InitProducerId = 22, advertised 0..=5, served 0..=5, flexible 2.., Everyone,
        not supported: "transactional ids";
    /// Says where leader epochs end, so that a client finds out what it read and the log no longer has (KIP-320).
    OffsetForLeaderEpoch = 23, advertised 2..=4, served 2..=4, flexible 4.., Everyone,
        not supported: "nothing is missing";
    /// Describes the configuration of topics and of the broker.
    DescribeConfigs = 32, advertised 1..=4, served 1..=4, flexible 4.., Everyone,
        not supported: "resources other than topics and brokers";
    /// Describes the log directories, the partitions in them and what is left of their disks.
    DescribeLogDirs = 35, advertised 1..=4, served 1..=4, flexible 2.., Everyone,
        not supported: "nothing is missing";
    /// Changes single configuration values (KIP-339).
    IncrementalAlterConfigs = 44, advertised 0..=1, served 0..=1, flexible 1.., Everyone,
        not supported: "resources other than topics";
    /// Ottla: uploads a plugin in chunks.
    PushPlugin = 20000, advertised 0..=0, served 0..=0, flexible 0.., OttlaClients,
        not supported: "nothing is missing";
    /// Ottla: lists plugins, their versions and the topics that use them.
    DescribePlugins = 20001, advertised 0..=0, served 0..=0, flexible 0.., OttlaClients,
        not supported: "nothing is missing";
    /// Ottla: makes a version of a plugin the active one.
    ActivatePlugin = 20002, advertised 0..=0, served 0..=0, flexible 0.., OttlaClients,
        not supported: "nothing is missing";
    /// Ottla: removes versions of a plugin.
    DeletePlugin = 20003, advertised 0..=0, served 0..=0, flexible 0.., OttlaClients,
        not supported: "nothing is missing";
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
    /// The rows that a client gets to see in `ApiVersions`.
    pub fn advertised_to(is_ottla_client: bool) -> impl Iterator<Item = &'static Api> {
        APIS.iter().copied().filter(move |api| is_ottla_client || api.audience == Audience::Everyone)
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
            assert!(!api.not_supported.is_empty());
        }
        assert_eq!(ApiKey::from_code(4), None);
    }

    #[test]
    fn stock_clients_see_no_foreign_keys() {
        assert!(Api::advertised_to(false).all(|api| api.key.code() < 20000));
        assert_eq!(Api::advertised_to(true).count(), APIS.len());
    }
}
