//! `__consumer_offsets`: what it is like, and which of its partitions a group belongs to.

use std::collections::BTreeMap;

use crate::config::{Config, TopicSettings};
use crate::topics::{NewTopic, TopicChangeError, TopicTable};

/// Its name.
pub(super) const NAME: &str = "__consumer_offsets";

/// Creates it if it does not exist. What is committed survives a power cut, whatever the defaults of topics are.
pub(super) fn create(config: &Config, topics: &TopicTable) -> Result<(), TopicChangeError> {
    let overrides = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("ottla.durability", "fsync".to_owned()),
        ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
    ];
    let overrides: BTreeMap<String, String> =
        overrides.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let (settings, wrong) = TopicSettings::with_sound_overrides(config, overrides);
    for error in wrong {
        tracing::error!("topic {NAME}: {error}");
    }
    let partition_count = config.offsets_topic_partitions;
    match topics.create(NewTopic { name: NAME.to_owned(), partition_count, settings }) {
        Ok(_) => {
            tracing::info!("created topic {NAME} with {partition_count} partitions");
            Ok(())
        }
        // Another request was faster.
        Err(TopicChangeError::Exists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The partition that a group belongs to, of so many: where Kafka's tools look for it.
pub(super) fn partition_of(group_id: &str, partition_count: usize) -> Option<usize> {
    // Java's hash of a text, over UTF-16, without its sign.
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = usize::try_from(hash & i32::MAX).ok()?;
    positive.checked_rem(partition_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `Utils.abs(groupId.hashCode()) % 50` says in Kafka.
    #[test]
    fn groups_lie_where_kafka_puts_them() {
        for (group_id, partition) in
            [("", 0), ("a", 47), ("orders", 47), ("console-consumer-12345", 3), ("grüße😀", 38)]
        {
            assert_eq!(partition_of(group_id, 50), Some(partition), "{group_id}");
        }
        assert_eq!(partition_of("orders", 0), None);
    }
}
