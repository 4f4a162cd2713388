//! Which settings take effect while the broker runs.

use super::Setting;
use super::topic::TOPIC_SETTINGS;

/// Settings that take effect while the broker runs, beside those that give topics their defaults and those of groups: what
/// reads them looks at the settings in force each time.
const LIVE: &[&str] = &[
    "auto.create.topics.enable",
    "delete.topic.enable",
    "group.consumer.assignment.interval.ms",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.regex.refresh.interval.ms",
    "group.consumer.session.timeout.ms",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "ottla.replication.factor.clamp",
    "ottla.topic.partitions.max",
];

/// Whether a change of this setting takes effect while the broker runs.
pub fn is_live(setting: &Setting) -> bool {
    let gives_default = |name: &str| TOPIC_SETTINGS.iter().any(|topic| topic.broker_names.contains(&name));
    LIVE.contains(&setting.name) || gives_default(setting.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_live_is_a_setting() {
        for name in LIVE {
            assert!(Setting::find(name).is_some(), "{name}");
        }
    }
}
