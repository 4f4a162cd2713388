//! `__consumer_offsets`: what it is like.

use std::collections::BTreeMap;

use crate::config::{Config, TopicSettings};
use crate::topics::{NewTopic, TopicChangeError, TopicTable};

/// Its name.
pub(crate) const NAME: &str = "__consumer_offsets";

/// Creates it if it does not exist. A commit survives a power cut even where the defaults of topics would not let it.
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
