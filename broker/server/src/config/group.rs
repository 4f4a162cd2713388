//! The settings of groups: those of all groups as the coordinator takes them, and those that a group may have of its own.

use ottla_coordinator::group::{GroupConfig, GroupTimes, MigrationPolicy};

use super::Config;
use super::value::spelled;

spelled! {
    /// Which way a group may change its protocol while members are in it.
    GroupMigration {
        /// Classic to consumer and back.
        Bidirectional = "bidirectional",
        /// Classic to consumer only.
        Upgrade = "upgrade",
        /// Consumer to classic only.
        Downgrade = "downgrade",
        /// Neither.
        Disabled = "disabled",
    }
}

/// A setting of a group, which Kafka has under this name; all are milliseconds.
pub struct GroupSetting {
    /// The dotted name.
    pub name: &'static str,
    /// The broker setting that gives its default.
    pub broker_name: &'static str,
    /// The broker settings that bound it from below and from above.
    pub bound_names: [&'static str; 2],
    /// What it does.
    pub doc: &'static str,
    /// What a group without it has.
    pub default: fn(&Config) -> i32,
    /// The least and the greatest value.
    pub bounds: fn(&Config) -> (i32, i32),
    /// Gives it to a group.
    pub set: fn(&mut GroupTimes, i32),
}

impl GroupSetting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        GROUP_SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// The settings that a group may have of its own: the session timeout, then the heartbeat interval.
pub static GROUP_SETTINGS: &[GroupSetting; 2] = &[
    GroupSetting {
        name: "consumer.session.timeout.ms",
        broker_name: "group.consumer.session.timeout.ms",
        bound_names: ["group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"],
        doc: "Session timeout of the members of this group under KIP-848, in milliseconds.",
        default: |config| config.group_consumer_session_ms,
        bounds: |config| (config.group_consumer_min_session_ms, config.group_consumer_max_session_ms),
        set: |times, ms| times.session_timeout_ms = Some(ms),
    },
    GroupSetting {
        name: "consumer.heartbeat.interval.ms",
        broker_name: "group.consumer.heartbeat.interval.ms",
        bound_names: ["group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"],
        doc: "Time between two heartbeats of a member of this group under KIP-848, in milliseconds.",
        default: |config| config.group_consumer_heartbeat_ms,
        bounds: |config| (config.group_consumer_min_heartbeat_ms, config.group_consumer_max_heartbeat_ms),
        set: |times, ms| times.heartbeat_interval_ms = Some(ms),
    },
];

impl Config {
    /// What the coordinator needs to know.
    pub fn group_config(&self) -> GroupConfig {
        GroupConfig {
            classic_size_max: self.group_max_size as usize,
            initial_rebalance_delay_ms: self.group_initial_rebalance_delay_ms,
            session_timeout_min_ms: self.group_min_session_ms,
            session_timeout_max_ms: self.group_max_session_ms,
            consumer_size_max: self.group_consumer_max_size as usize,
            consumer_session_timeout_ms: self.group_consumer_session_ms,
            consumer_heartbeat_interval_ms: self.group_consumer_heartbeat_ms,
            assignment_interval_ms: self.group_consumer_assignment_ms,
            regex_refresh_interval_ms: self.group_consumer_regex_refresh_ms,
            migration: match self.group_consumer_migration {
                GroupMigration::Bidirectional => MigrationPolicy::Bidirectional,
                GroupMigration::Upgrade => MigrationPolicy::Upgrade,
                GroupMigration::Downgrade => MigrationPolicy::Downgrade,
                GroupMigration::Disabled => MigrationPolicy::Disabled,
            },
            offset_metadata_max_bytes: self.offset_metadata_max_bytes as usize,
            offsets_retention_ms: i64::from(self.offsets_retention_minutes) * 60_000,
            offsets_retention_check_interval_ms: self.offsets_retention_check_ms,
            ..GroupConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_both_are_the_same() {
        assert_eq!(Config::default().group_config(), GroupConfig::default());
    }
}
