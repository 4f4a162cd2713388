//! The settings of groups as the coordinator takes them.

use ottla_coordinator::group::{GroupConfig, MigrationPolicy};

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
