//! Routes records by the murmur2 hash of their key. The README has the rule, word by word.

use ottla_plugin::{Partitioner, Placement, Reads, Record, hash, partitioner};

/// The rule; it takes no configuration.
struct ByKey;

impl Partitioner for ByKey {
    const READS: Reads = Reads::KEY;
    const MANIFEST: &'static [(&'static str, &'static str)] =
        &[("config.schema", r#"{"type":"string","maxLength":0}"#), ("license", "Apache-2.0")];

    fn new(config: &str) -> Result<Self, String> {
        if config.is_empty() { Ok(Self) } else { Err("by-key takes no configuration".to_owned()) }
    }

    fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement {
        hash::kafka_partition(record.key().unwrap_or_default(), partitions).into()
    }
}

partitioner!(ByKey);

#[cfg(test)]
mod tests {
    use ottla_plugin::testing::{load, record};

    use super::*;

    #[test]
    fn a_key_goes_where_the_java_client_sends_it() {
        let plugin = load::<ByKey>("").unwrap();
        // Vectors of org.apache.kafka.common.utils.UtilsTest: murmur2("21") = -973932308, murmur2("foobar") = -790332482.
        let positive = |hash: i32| (hash & 0x7fff_ffff).unsigned_abs() % 6;
        assert_eq!(plugin.partition(record().key("21"), 6), positive(-973_932_308));
        assert_eq!(plugin.partition(record().key("foobar"), 6), positive(-790_332_482));
    }

    #[test]
    fn records_without_a_key_share_the_partition_of_the_empty_key() {
        let plugin = load::<ByKey>("").unwrap();
        assert_eq!(plugin.partition(record().value("anything"), 6), plugin.partition(record().key(""), 6));
    }
}
