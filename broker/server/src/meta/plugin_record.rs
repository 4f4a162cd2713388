//! A plugin of the registry as it is stored. The component itself lies in the plugin store under its digest.

use serde::{Deserialize, Serialize};

use super::{MetaError, format};

/// A plugin name with its versions and the history of the active one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// The name topics refer to.
    pub name: String,
    /// The version that topics naming no version use; 0 for none.
    pub active_version: i32,
    /// The version that a rollback returns to: the last of the history; 0 for none.
    pub previous_version: i32,
    /// The history before `previous_version`, oldest first.
    #[serde(default)]
    pub earlier_versions: Vec<i32>,
    /// The versions that rollbacks left, in the order of their numbers.
    #[serde(default)]
    pub bad_versions: Vec<i32>,
    /// The number that the next upload gets: numbers are never used twice, not even after a deletion.
    pub next_version: i32,
    /// Every version there is, oldest first.
    pub versions: Vec<PluginVersionRecord>,
}

/// One uploaded component under a plugin name. Never changed after it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersionRecord {
    /// Its number, from 1.
    pub version: i32,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// What it is: `partitioner`, `serializer` or `dead-letter-policy`.
    pub kind: String,
    /// Size of the component.
    pub bytes: i64,
    /// When it was uploaded, in milliseconds since 1970.
    pub created_ms: i64,
    /// The columns it declares to read.
    pub reads: Vec<String>,
}

impl PluginRecord {
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

    #[test]
    fn a_record_of_release_0_1_0_has_the_history_that_it_knew() {
        let stored = br#"{"name":"p","active_version":2,"previous_version":1,"next_version":3,"versions":[]}"#;
        let record = PluginRecord::decode("p", &[&[1], &stored[..]].concat()).unwrap();
        assert_eq!((record.active_version, record.previous_version), (2, 1));
        assert_eq!((record.earlier_versions, record.bad_versions), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn a_stored_plugin_reads_back_as_it_was(
            name in ".*", active_version: i32, previous_version: i32, next_version: i32, earlier_versions: Vec<i32>,
            bad_versions: Vec<i32>,
            versions in proptest::collection::vec(
                (any::<i32>(), ".*", ".*", any::<i64>(), proptest::collection::vec(".*", 0..3)), 0..4),
        ) {
            let versions = versions
                .into_iter()
                .map(|(version, digest, kind, bytes, reads)| {
                    PluginVersionRecord { version, digest, kind, bytes, created_ms: bytes, reads }
                })
                .collect();
            let plugin = PluginRecord {
                name, active_version, previous_version, earlier_versions, bad_versions, next_version, versions,
            };
            prop_assert_eq!(PluginRecord::decode("p", &plugin.encode().unwrap()).unwrap(), plugin);
        }
    }
}
