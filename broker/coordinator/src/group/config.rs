//! The settings of the group coordinator, under Kafka's names.

use std::collections::BTreeMap;

/// Which way a group may change its protocol while members are in it (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationPolicy {
    /// Classic to consumer and back.
    #[default]
    Bidirectional,
    /// Classic to consumer only.
    Upgrade,
    /// Consumer to classic only.
    Downgrade,
    /// Neither.
    Disabled,
}

impl MigrationPolicy {
    pub(crate) const fn may_upgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Upgrade)
    }

    pub(crate) const fn may_downgrade(self) -> bool {
        matches!(self, Self::Bidirectional | Self::Downgrade)
    }
}

/// What a consumer group has of its own; `None` where it has what all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupTimes {
    /// Its session timeout (`consumer.session.timeout.ms`).
    pub session_timeout_ms: Option<i32>,
    /// How often its members send a heartbeat (`consumer.heartbeat.interval.ms`).
    pub heartbeat_interval_ms: Option<i32>,
}

/// The settings of the group coordinator. `Default` has Kafka's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The most members of a classic group (`group.max.size`).
    pub classic_size_max: usize,
    /// How long an empty classic group waits for more members (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i32,
    /// How long a member that is new to a classic group may take for its first generation. Kafka has it fixed.
    pub new_member_join_timeout_ms: i32,
    /// The shortest session timeout of a classic member (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: i32,
    /// The longest session timeout of a classic member (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: i32,
    /// The most members of a consumer group (`group.consumer.max.size`).
    pub consumer_size_max: usize,
    /// The session timeout of consumer groups (`group.consumer.session.timeout.ms`).
    pub consumer_session_timeout_ms: i32,
    /// How often members of consumer groups send a heartbeat (`group.consumer.heartbeat.interval.ms`).
    pub consumer_heartbeat_interval_ms: i32,
    /// How long after one assignment the next one is made at the earliest (`group.consumer.assignment.interval.ms`).
    pub assignment_interval_ms: i32,
    /// How old the answer to a regular expression may become (`group.consumer.regex.refresh.interval.ms`).
    pub regex_refresh_interval_ms: i32,
    /// The most memory that a compiled regular expression may take, in bytes.
    pub regex_size_max_bytes: usize,
    /// Which way groups may change their protocol (`group.consumer.migration.policy`).
    pub migration: MigrationPolicy,
    /// How long the note of an offset commit may be, in bytes (`offset.metadata.max.bytes`).
    pub offset_metadata_max_bytes: usize,
    /// How long offsets outlive the use of a group (`offsets.retention.minutes`).
    pub offsets_retention_ms: i64,
    /// How often expired offsets are looked for (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: i64,
    /// What single consumer groups have of their own, by group id.
    pub of_groups: BTreeMap<Box<str>, GroupTimes>,
}

impl GroupConfig {
    /// The session timeout of a consumer group.
    pub(crate) fn session_timeout_ms(&self, group_id: &str) -> i32 {
        self.of_groups.get(group_id).and_then(|own| own.session_timeout_ms).unwrap_or(self.consumer_session_timeout_ms)
    }

    /// How often members of a consumer group send a heartbeat.
    pub(crate) fn heartbeat_interval_ms(&self, group_id: &str) -> i32 {
        let own = self.of_groups.get(group_id).and_then(|own| own.heartbeat_interval_ms);
        own.unwrap_or(self.consumer_heartbeat_interval_ms)
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            classic_size_max: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 5 * 60_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 30 * 60_000,
            consumer_size_max: i32::MAX as usize,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            assignment_interval_ms: 1_000,
            regex_refresh_interval_ms: 10 * 60_000,
            regex_size_max_bytes: 1 << 20,
            migration: MigrationPolicy::default(),
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 10 * 60_000,
            of_groups: BTreeMap::new(),
        }
    }
}
