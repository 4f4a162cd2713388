//! The settings of a broker, of all brokers, of a group or of a client-metrics resource as they are stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MetaError, format};

/// What has settings beside topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigResource {
    /// A broker by its number, or all of them: the empty name.
    Broker,
    /// A group by its id.
    Group,
    /// A subscription to the metrics of clients, by its name.
    ClientMetrics,
}

/// The settings that were given to a resource while the broker ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigsRecord {
    /// What kind of resource.
    pub resource: ConfigResource,
    /// Its name.
    pub name: String,
    /// The settings, as the client wrote them. Without any, the resource has none.
    pub configs: BTreeMap<String, String>,
}

impl ConfigsRecord {
    /// The bytes in the database.
    pub fn encode(&self) -> Result<Vec<u8>, MetaError> {
        format::encode(self)
    }

    /// Reads what `encode` wrote; `name` is for the error alone.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self, MetaError> {
        format::decode(name, bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stored_settings_read_back_as_they_were(
            kind in 0..3_usize, name in ".*", configs in proptest::collection::btree_map(".*", ".*", 0..4),
        ) {
            let resource = [ConfigResource::Broker, ConfigResource::Group, ConfigResource::ClientMetrics][kind];
            let record = ConfigsRecord { resource, name, configs };
            prop_assert_eq!(ConfigsRecord::decode("c", &record.encode().unwrap()).unwrap(), record);
        }
    }

    #[test]
    fn the_first_format_is_read_for_ever() {
        let bytes = b"\x01{\"resource\":\"broker\",\"name\":\"\",\"configs\":{\"num.partitions\":\"3\"}}";
        let record = ConfigsRecord::decode("c", bytes).unwrap();
        assert_eq!((record.resource, record.configs["num.partitions"].as_str()), (ConfigResource::Broker, "3"));
    }
}
