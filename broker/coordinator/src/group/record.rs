//! Records on their way to `__consumer_offsets`.

use ottla_wire::offsets_topic::GroupRecord;

use super::effect::Record;

/// A record as bytes.
pub(crate) fn encoded(record: &GroupRecord<'_>) -> Record {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    record.encode_key(&mut key);
    let has_value = record.encode_value(&mut value);
    Record { key, value: has_value.then_some(value) }
}
